package config

import (
	"encoding/csv"
	"errors"
	"slices"
	"strings"
)

// setting is one flag, with its environment variable and its key in the configuration file.
type setting struct {
	name  string
	group string
	help  string
	kind  kind
	def   string // the default, as one would write it
	dev   string // the default under --dev, if it differs
	unset string // the effect of leaving out a setting whose default is empty, where the help does not say it
	// secret: the value may hold a password and is never printed.
	secret bool
	// flagOnly: neither a variable nor the file can set it.
	flagOnly bool
}

// Flag is a flag that only one command knows, beside the settings: neither the environment nor the file can set it.
type Flag setting

// Switch is a flag that is on or off.
func Switch(name string, p *bool) Flag {
	return Flag{name: name, kind: onOff(p), def: "false", flagOnly: true}
}

// Text is a flag with any text, empty unless it is given.
func Text(name, noun string, p *string) Flag {
	return Flag{name: name, kind: text(noun, p), flagOnly: true}
}

// CSV is a flag with a list in a line of CSV, which may be given several times.
func CSV(name string, p *[]string) Flag {
	return Flag{name: name, flagOnly: true, kind: kind{noun: "A,B", joins: "\n", set: func(s string) (string, error) {
		in := csv.NewReader(strings.NewReader(s))
		in.FieldsPerRecord = -1 // any
		lists, err := in.ReadAll()
		if err != nil {
			return s, ErrCSV // the reader's own error has the list's places, not its rules
		}
		*p = slices.Concat(lists...)
		return s, nil
	}}}
}

// ErrCSV says how a list is written.
var ErrCSV = errors.New(`not a list such as A,B; a group with a comma or a double quote in it stands in double quotes, the double quote twice: '"a,""b""",c'`)

const (
	// DevCookie is the cookie's name with --dev.
	DevCookie = "coatcheck"
	// DevPort is the port of the default --listen.
	DevPort = 3000
)

// env is the name of the setting's environment variable.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

const envPrefix = "COATCHECK_"

// settings returns the table of all settings of `coatcheck serve`, bound to c. dev stands first, because it changes the
// defaults of others.
func settings(c *Config) []setting {
	var table []setting
	group := func(name string, of ...setting) {
		for _, s := range of {
			s.group = name
			table = append(table, s)
		}
	}
	group("Start", startSettings(c)...)
	group("Login", loginSettings(c)...)
	group("OpenID Connect", oidcSettings(c)...)
	group("Cookie", cookieSettings(c)...)
	group("Sessions", sessionSettings(c)...)
	group("Store", storeSettings(c)...)
	group("Other sites and proxies", siteSettings(c)...)
	group("Connections", connectionSettings(c)...)
	group("Logs and traces", logSettings(c)...)
	return table
}

func startSettings(c *Config) []setting {
	return []setting{
		{
			name: "dev", kind: onOff(&c.Dev), def: "false",
			help: "for trying it out: a cookie without Secure, login mode open, logs as text; on a loopback address only",
		},
		{
			name: "config", kind: text("file", &c.File),
			help: "TOML file with settings by their flag's name; flags and environment variables win over it",
		},
		{
			name: "listen", kind: address(&c.Listen), def: "127.0.0.1:3000",
			help: "where the auth API listens; port 0 takes a free one. A unix:/path may have ?mode=0660&owner=user:group; whoever connects to it is believed about the client's address",
		},
		{
			name: "admin-listen", kind: address(&c.AdminListen, "off"), def: "127.0.0.1:3001",
			help: "where health, readiness and the admin API listen",
		},
		{
			name: "admin-key-file", kind: text("file", &c.AdminKeyFile),
			help: "file with the keys, one a line, any of which the admin API then asks for; needed off loopback",
		},
	}
}

func loginSettings(c *Config) []setting {
	return []setting{
		{
			name: "login", kind: word(&c.Login, []string{"open", "trusted", "users", "webhook", "oidc"}), dev: "open",
			unset: "must be named", help: "who may log in: anybody as anybody (open), whom a back end with a key names (trusted), who knows the " +
				"password (users), whom your own back end lets in (webhook), whom an OpenID Connect provider lets in (oidc)",
		},
		{
			name: "allow-open-login", kind: onOff(&c.AllowOpenLogin), def: "false",
			help: "allow --login open where other machines can reach it",
		},
		{
			name: "login-key-file", kind: text("file", &c.LoginKeyFile),
			help: "for --login trusted: file with the keys, one a line, that back ends send as Bearer",
		},
		{
			name: "users-file", kind: text("file", &c.UsersFile),
			help: "for --login users: file with a user:hash a line, as coatcheck hash-password prints it",
		},
		{
			name: "webhook-url", kind: text("URL", &c.WebhookURL), secret: true,
			help: "for --login webhook: who is asked about a login; https, or http on loopback",
		},
		{
			name: "reauth-within", kind: span(&c.Server.ReauthWithin, 0), def: "15m",
			help: "how old the login of a session may be that ends other sessions; 0s: any age",
		},
		{
			name: "verify-login-url", kind: text("URL", &c.Server.VerifyLoginURL), secret: true,
			help: "where /auth/verify sends browsers that are not logged in, with the address that they wanted as rd, if that is on the same origin or on one of --trusted-origins",
		},
	}
}

func oidcSettings(c *Config) []setting {
	o := &c.OIDC
	return []setting{
		{
			name: "oidc-issuer", kind: text("URL", &o.Issuer),
			help: "for --login oidc: the provider; https, or http on a loopback address",
		},
		{
			name: "oidc-client-id", kind: text("name", &o.ClientID),
			help: "the name that the provider knows this server by",
		},
		{
			name: "oidc-client-secret-file", kind: text("file", &o.SecretFile), unset: "a public client",
			help: "file with the client's secret; re-read on HUP",
		},
		{
			name: "oidc-external-url", kind: text("URL", &o.ExternalURL),
			help: "where browsers reach this server, such as https://auth.example.com; the redirect URI is this and /auth/oidc/callback",
		},
		{
			name: "oidc-scopes", kind: text("words", &o.Scopes), def: "openid profile email",
			help: "what the provider is asked for",
		},
		{
			name: "oidc-remote-user", kind: filled("claim", &o.RemoteUser), def: "sub",
			help: "the claim that Remote-User shows; email must be verified. The user ID is always sub",
		},
		{
			name: "oidc-claims", kind: list("ours=theirs", &o.Claims), def: "name,email,groups",
			help: "the claims that sessions keep, each by its name, or as ours=theirs",
		},
		{
			name: "oidc-groups", kind: list("pattern", &o.Groups), unset: "all",
			help: "the groups that sessions keep, as patterns such as team-*",
		},
		{
			name: "oidc-allow", kind: list("claim=pattern", &o.Allow), unset: "everybody whom the provider lets in",
			help: "rules such as groups=staff or email=*@example.com, of which one must hold",
		},
		{
			name: "oidc-state-key-file", kind: text("file", &o.StateKeyFile), unset: "a random key of the process",
			help: "file with keys of 32 random bytes or more, one a line, that encrypt what a login remembers; the first encrypts, all decrypt. Needed with a Redis store; re-read on HUP",
		},
		{
			name: "oidc-ca-file", kind: text("file", &o.CAFile), unset: "the system's",
			help: "authorities that may sign the provider's certificate, PEM",
		},
	}
}

func cookieSettings(c *Config) []setting {
	k := &c.Server.Cookie
	return []setting{
		{
			name: "cookie-name", kind: filled("name", &k.Name), def: "__Host-coatcheck", dev: DevCookie,
			help: "name of the session cookie; browsers send a cookie to every port of a host, so two servers on one host need two names",
		},
		{
			name: "cookie-domain", kind: text("domain", &k.Domain),
			help: "send the cookie to this domain and its subdomains",
		},
		{
			name: "cookie-path", kind: filled("path", &k.Path), def: "/",
			help: "send the cookie below this path",
		},
		{
			name: "cookie-secure", kind: offOn(&k.Insecure), def: "true", dev: "false",
			help: "send the cookie over https only",
		},
		{
			name: "cookie-http-only", kind: offOn(&k.ScriptAccess), def: "true",
			help: "hide the cookie from scripts",
		},
		{
			name: "cookie-same-site", kind: filled("lax|strict|none", &k.SameSite), def: "lax",
			help: "which requests from other sites carry the cookie; with strict the page right after a login at a provider is anonymous",
		},
	}
}

func sessionSettings(c *Config) []setting {
	p := &c.Server.Policy
	return []setting{
		{
			name: "ttl", kind: positive(&p.TTL), def: "30m",
			help: "how long a session lives after its last request",
		},
		{
			name: "max-lifetime", kind: positive(&p.MaxLifetime), def: "12h",
			help: "how long a session lives at most",
		},
		{
			name: "rolling", kind: offOn(&p.FixedExpiry), def: "true",
			help: "requests extend the session; if false, it ends --ttl after it began",
		},
		{
			name: "renew-every", kind: span(&p.RenewEvery, -1), unset: "a tenth of --ttl",
			help: "how often, at most, a request extends the session, which is a write; 0s: every request",
		},
		{
			name: "rotation-grace", kind: span(&p.RotationGrace, -1), def: "10s",
			help: "how long the token before a refresh is admitted after the new one arrived",
		},
		{
			name: "on-reuse", kind: word(&c.OnReuse, []string{"reject", "revoke"}), def: "reject",
			help: "what a token does that is presented after that: it is refused, or it ends the session",
		},
		{
			name: "dbsc", kind: onOff(&c.Server.DBSC), def: "false",
			help: "let browsers that can bind the session of each login to a key of their device: a copied cookie is then refused soon; needs https",
		},
		{
			name: "dbsc-ttl", kind: duration(&p.BoundTTL, atLeastASecond), def: "10m",
			help: "how long the token of such a session is valid after the device last proved its key; a tenth, at least 1s, is added",
		},
		{
			name: "remember-ttl", kind: span(&c.Server.RememberTTL, 0), def: "0s",
			help: `lifetime, idle or not, of a login with "remember": true; 0s: not offered, and true has no effect`,
		},
		{
			name: "max-sessions-per-user", kind: count(&p.MaxPerUser, -1), def: "100",
			help: "sessions that a user may have, beyond it the oldest ends; 0: no limit",
		},
		{
			name: "max-watchers", kind: count(&p.MaxWatchers, -1), def: "10000",
			help: "responses of GET /auth/watch that are open at a time, at most, and no more than half of max-conns; 0: none",
		},
		{
			name: "sessions-not-before", kind: moment(&c.NotBefore),
			help: "sessions that were created before this time (RFC 3339, with an offset) are dead; re-read on HUP from the file",
		},
	}
}

func storeSettings(c *Config) []setting {
	r := &c.Redis
	return []setting{
		{
			name: "store", kind: filled("memory|URL", &c.Store), def: "memory", secret: true,
			help: "where sessions are kept: memory, or redis:// or rediss://, with addr= for Cluster and master_set= for Sentinel",
		},
		{
			name: "redis-password-file", kind: text("file", &c.RedisPasswordFile),
			help: "file with Redis' password, one line, in place of one in the URL of --store; the list of processes does not show it",
		},
		{
			name: "max-sessions", kind: count(&c.MaxSessions, 0), def: "0",
			help: "sessions that the memory store holds, beyond it logins are refused; 0: no limit",
		},
		{
			name: "data-dir", kind: text("directory", &c.DataDir),
			help: "where the memory store keeps its sessions over a restart or a crash; nothing on disk without it",
		},
		{
			name: "fsync-every", kind: span(&c.FsyncEvery, -1), def: "1s",
			help: "how much of what was answered a power cut may undo in --data-dir; 0s: nothing",
		},
		{
			name: "redis-prefix", kind: filled("prefix", &r.Prefix), def: "coatcheck:",
			help: "what all keys in Redis begin with",
		},
		{
			name: "redis-cache-ttl", kind: span(&r.CacheTTL, -1), def: "60s",
			help: "how long a session may be answered from memory; 0s: never",
		},
		{
			name: "redis-cache-size", kind: size(&r.CacheSize), def: "64MiB",
			help: "memory for that, in all",
		},
		{
			name: "redis-timeout", kind: positive(&r.Timeout), def: "500ms",
			help: "how long Redis may take to answer, and how long a request tries to change a session that others change too",
		},
		{
			name: "redis-wait-replicas", kind: count(&r.WaitReplicas, 0), def: "0",
			help: "replicas that must have a logout, a revocation or a refresh before it is answered",
		},
		{
			name: "redis-allow-eviction", kind: onOff(&r.AllowEviction), def: "false",
			help: "start although Redis has a maxmemory and a policy that may evict sessions, and what finds them to revoke them",
		},
	}
}

func siteSettings(c *Config) []setting {
	return []setting{
		{
			name: "trusted-proxies", kind: networks(&c.Server.TrustedProxies),
			help: "proxies whose X-Forwarded headers are believed about the client's address and the address that a browser wanted",
		},
		{
			name: "trusted-origins", kind: list("origin", &c.Server.TrustedOrigins),
			help: "other sites whose pages may log in, refresh and log out, and to which a login page may send browsers back",
		},
	}
}

func connectionSettings(c *Config) []setting {
	return []setting{
		{
			name: "read-timeout", kind: positive(&c.Server.ReadTimeout), def: "5s",
			help: "how long a request may take to arrive",
		},
		{
			name: "idle-timeout", kind: positive(&c.Server.IdleTimeout), def: "60s",
			help: "how long a connection may wait for its next request",
		},
		{
			name: "max-header", kind: size(&c.Server.MaxHeader), def: "8KiB",
			help: "how large a request's line and headers may be, and its trailers; 1KiB to 64KiB",
		},
		{
			name: "max-conns", kind: count(&c.Server.MaxConns, 0), unset: "what the descriptors allow, less what other parts of the server may need",
			help: "connections that the auth API may have; when all are taken the longest idle one is closed",
		},
		{
			name: "max-conns-per-ip", kind: count(&c.Server.MaxConnsPerIP, 0), def: "0",
			help: "connections that one client (an IPv4 address, or the /64 of an IPv6 address) may have; a further one is answered with 429, and over TLS closed without an answer; 0: no limit",
		},
		{
			name: "shutdown-timeout", kind: positive(&c.Shutdown), def: "10s",
			help: "how long requests may take to finish when the server stops",
		},
		{
			name: "tls-cert", kind: text("file", &c.TLSCert),
			help: "certificate chain, PEM; with --tls-key the auth API speaks https, 1.2 and up. Both are re-read when they change",
		},
		{name: "tls-key", kind: text("file", &c.TLSKey), help: "private key of the certificate, PEM"},
	}
}

func logSettings(c *Config) []setting {
	return []setting{
		{
			name: "log-format", kind: word(&c.LogFormat, []string{"json", "text"}), def: "json", dev: "text",
			help: "format of the log on standard error",
		},
		{
			name: "log-level", kind: word(&c.LogLevel, []string{"debug", "info", "warn", "error"}), def: "info",
			help: "least level that is logged",
		},
		{
			name: "otel", kind: onOff(&c.OTel), def: "false",
			help: "send OpenTelemetry traces by OTLP over HTTP, as the standard OTEL_ variables say",
		},
	}
}
