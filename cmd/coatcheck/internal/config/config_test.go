package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
)

// contract is the table of flags that the users were promised, with the defaults as they are written there.
var contract = map[string]string{
	"listen": "127.0.0.1:3000", "admin-listen": "127.0.0.1:3001", "dev": "false", "config": "", "admin-key-file": "",
	"store": "memory", "login": "", "allow-open-login": "false", "login-key-file": "", "users-file": "", "webhook-url": "",
	"oidc-issuer": "", "oidc-client-id": "", "oidc-client-secret-file": "", "oidc-external-url": "", "oidc-scopes": "openid profile email", "oidc-remote-user": "sub",
	"oidc-claims": "name,email,groups", "oidc-groups": "", "oidc-allow": "", "oidc-state-key-file": "", "oidc-ca-file": "",
	"cookie-name": "__Host-coatcheck", "cookie-domain": "", "cookie-path": "/", "cookie-secure": "true",
	"cookie-http-only": "true", "cookie-same-site": "lax",
	"ttl": "30m", "max-lifetime": "12h", "rolling": "true", "renew-every": "", "rotation-grace": "10s", "on-reuse": "reject",
	"remember-ttl": "0s", "max-sessions-per-user": "100", "max-sessions": "0", "sessions-not-before": "",
	"data-dir": "", "fsync-every": "1s", "dbsc": "false", "dbsc-ttl": "10m", "max-watchers": "10000",
	"redis-password-file": "", "redis-prefix": "coatcheck:", "redis-cache-ttl": "60s", "redis-cache-size": "64MiB", "redis-timeout": "500ms",
	"redis-wait-replicas": "0", "redis-allow-eviction": "false", "trusted-proxies": "", "trusted-origins": "", "reauth-within": "15m", "verify-login-url": "",
	"otel": "false", "read-timeout": "5s", "idle-timeout": "60s", "max-header": "8KiB", "max-conns": "", "max-conns-per-ip": "0", "shutdown-timeout": "10s",
	"tls-cert": "", "tls-key": "", "log-format": "json", "log-level": "info",
}

func TestTheTableIsTheContract(t *testing.T) {
	found := make(map[string]string)
	for _, s := range settings(new(Config)) {
		assert.NotContains(t, found, s.name, "declared twice")
		assert.NotEmpty(t, s.help, s.name)
		assert.NotEmpty(t, s.group, s.name)
		assert.Regexp(t, `^COATCHECK_[A-Z_]+$`, s.env())
		assert.Contains(t, ServeHelp(), "\n  --"+s.name+"\x20"[:min(1, len(s.kind.noun))]+s.kind.noun+"\n")
		found[s.name] = s.def
	}
	assert.Equal(t, contract, found)
}

func TestDefaults(t *testing.T) {
	c, err := Load([]string{"--login=open"}, nil)
	require.NoError(t, err)
	want := &Config{
		Listen: "127.0.0.1:3000", AdminListen: "127.0.0.1:3001",
		Login: "open", OnReuse: "reject", Store: "memory", FsyncEvery: time.Second,
		Redis: redisstore.Options{
			URL: "memory", Prefix: "coatcheck:", CacheTTL: time.Minute, CacheSize: 64 << 20, Timeout: 500 * time.Millisecond,
		},
		Shutdown: 10 * time.Second, LogFormat: "json", LogLevel: "info",
		OIDC: OIDC{Scopes: "openid profile email", RemoteUser: "sub", Claims: []string{"name", "email", "groups"}},
		Server: server.Config{
			Cookie:       server.Cookie{Name: "__Host-coatcheck", Path: "/", SameSite: "lax"},
			ReauthWithin: 15 * time.Minute, ReadTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeader: 8 << 10,
			// The other durations stay zero: the library's defaults are those of the flags, and fit themselves to what is set.
			Policy: coatcheck.Policy{MaxPerUser: 100, MaxWatchers: 10_000, BoundTTL: 10 * time.Minute},
		},
	}
	assert.Equal(t, want, settled(c))
	m, err := coatcheck.NewManager(noStore{}, c.Server.Policy)
	require.NoError(t, err)
	p := m.Policy()
	assert.Equal(t, [...]time.Duration{30 * time.Minute, 12 * time.Hour, 3 * time.Minute, 10 * time.Second},
		[...]time.Duration{p.TTL, p.MaxLifetime, p.RenewEvery, p.RotationGrace})
}

// settled is a configuration without the fields that only messages about mistakes need.
func settled(c *Config) *Config {
	c.byName, c.given = nil, nil
	return c
}

// noStore is for a manager that is not used.
type noStore struct{ coatcheck.Store }

// A default never contradicts what was set.
func TestDefaultsGiveWay(t *testing.T) {
	for _, args := range []string{"--ttl=5s", "--ttl=500ms", "--ttl=24h", "--max-lifetime=5s", "--max-lifetime=10m --renew-every=1m"} {
		_, err := Load(strings.Fields("--dev "+args), nil)
		assert.NoError(t, err, args)
	}
	for _, args := range []string{"--ttl=2h --max-lifetime=1h", "--ttl=10s --rotation-grace=10s", "--rotation-grace=30m", "--ttl=1m --renew-every=1m"} {
		_, err := Load(strings.Fields("--dev "+args), nil)
		assert.Error(t, err, args)
	}
}

// Zero asks the library for its default, so that a zero which means zero must become something else.
func TestZeroMeansZero(t *testing.T) {
	c, err := Load([]string{"--login=open", "--renew-every=0s", "--rotation-grace=0", "--max-sessions-per-user=0"}, nil)
	require.NoError(t, err)
	assert.Negative(t, c.Server.Policy.RenewEvery)
	assert.Negative(t, c.Server.Policy.RotationGrace)
	assert.Negative(t, c.Server.Policy.MaxPerUser)
}

func TestEverySettingReachesTheServer(t *testing.T) {
	c, err := Load(strings.Fields(`--login open --allow-open-login --listen :8080 --admin-listen off --ttl 10m --max-lifetime 1h
		--rolling=false --renew-every 2m --rotation-grace 3s --dbsc-ttl 6m --on-reuse revoke --max-sessions-per-user 7
		--cookie-name __Secure-sid --cookie-domain example.com --cookie-path /app --cookie-http-only=false
		--cookie-same-site strict --trusted-origins https://a.example --trusted-origins https://b.example,https://c.example --trusted-origins=
		--trusted-proxies 10.1.2.3/8,192.0.2.7 --reauth-within 5m --verify-login-url https://login.example/ --remember-ttl 720h --sessions-not-before 2026-11-23T16:00:00+01:00
		--store redis://127.0.0.1:6379 --redis-prefix x: --redis-cache-ttl 0s --redis-cache-size 1GiB --redis-timeout 1s
		--redis-wait-replicas 2 --fsync-every 0s --read-timeout 1s --idle-timeout 2s --max-header 64KiB --max-conns 1000 --max-conns-per-ip 3 --shutdown-timeout 4s --log-format text --log-level debug`), nil)
	require.NoError(t, err)
	want := &Config{
		Listen: ":8080", AdminListen: "off",
		Login: "open", AllowOpenLogin: true, OnReuse: "revoke", Store: "redis://127.0.0.1:6379", FsyncEvery: -1,
		Redis: redisstore.Options{
			URL: "redis://127.0.0.1:6379", Prefix: "x:", CacheTTL: -1, CacheSize: 1 << 30, Timeout: time.Second, WaitReplicas: 2,
		},
		Shutdown: 4 * time.Second, LogFormat: "text", LogLevel: "debug",
		OIDC: OIDC{Scopes: "openid profile email", RemoteUser: "sub", Claims: []string{"name", "email", "groups"}},
		Server: server.Config{
			Cookie: server.Cookie{
				Name: "__Secure-sid", Domain: "example.com", Path: "/app", ScriptAccess: true, SameSite: "strict",
			},
			TrustedOrigins: []string{"https://a.example", "https://b.example", "https://c.example"},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")},
			RememberTTL:    720 * time.Hour, ReauthWithin: 5 * time.Minute, VerifyLoginURL: "https://login.example/",
			ReadTimeout: time.Second, IdleTimeout: 2 * time.Second, MaxHeader: 64 << 10, MaxConns: 1000, MaxConnsPerIP: 3,
			Policy: coatcheck.Policy{
				TTL: 10 * time.Minute, MaxLifetime: time.Hour, FixedExpiry: true, RenewEvery: 2 * time.Minute,
				RotationGrace: 3 * time.Second, BoundTTL: 6 * time.Minute, RevokeOnReuse: true, MaxPerUser: 7, MaxWatchers: 10_000,
				RetryFor: time.Second, // --redis-timeout
			},
		},
	}
	assert.True(t, c.NotBefore.Equal(time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)), c.NotBefore)
	want.NotBefore, want.Server.Policy.NotBefore = c.NotBefore, c.NotBefore
	assert.Equal(t, want, settled(c))
}

func TestProviderSettings(t *testing.T) {
	args := strings.Fields(`--login oidc --oidc-issuer https://id.example --oidc-client-id c --oidc-client-secret-file /s --oidc-external-url https://auth.example
		--oidc-remote-user email --oidc-claims name,groups=roles --oidc-groups team-* --oidc-groups ops --oidc-allow groups=staff --oidc-state-key-file /k --oidc-ca-file /ca`)
	c, err := Load(append(args, "--oidc-scopes", "openid groups"), nil)
	require.NoError(t, err)
	assert.Equal(t, OIDC{
		Issuer: "https://id.example", ClientID: "c", SecretFile: "/s", ExternalURL: "https://auth.example", Scopes: "openid groups", RemoteUser: "email",
		Claims: []string{"name", "groups=roles"}, Groups: []string{"team-*", "ops"}, Allow: []string{"groups=staff"}, StateKeyFile: "/k", CAFile: "/ca",
	}, c.OIDC)
	_, err = Load([]string{"--login=oidc"}, nil)
	for _, name := range []string{"oidc-issuer", "oidc-client-id", "oidc-external-url"} {
		assert.ErrorContains(t, err, "--"+name+": --login oidc needs it")
	}
	_, err = Load(append(strings.Fields("--store redis://127.0.0.1:6379"), args[:8]...), nil)
	assert.ErrorContains(t, err, "--oidc-state-key-file: is needed with a Redis store")
	_, err = Load(append(args[2:], "--login=open"), nil)
	for _, name := range []string{"issuer", "client-id", "client-secret-file", "external-url", "groups", "allow", "state-key-file", "ca-file"} {
		assert.ErrorContains(t, err, "--oidc-"+name, "without effect")
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, `
ttl = "11m"
max-sessions = 11
rolling = false
trusted-origins = ["https://a.example", "https://b.example"]
login = "open"
`)
	tests := map[string]struct {
		args, env []string
		want      time.Duration
	}{
		"file over default":           {want: 11 * time.Minute},
		"environment over file":       {env: []string{"COATCHECK_TTL=12m"}, want: 12 * time.Minute},
		"flag over environment":       {args: []string{"--ttl=13m"}, env: []string{"COATCHECK_TTL=12m"}, want: 13 * time.Minute},
		"flag over file":              {args: []string{"--ttl", "13m"}, want: 13 * time.Minute},
		"the last flag wins":          {args: []string{"--ttl=14m", "--ttl=13m"}, want: 13 * time.Minute},
		"an empty variable is absent": {env: []string{"COATCHECK_TTL="}, want: 11 * time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := Load(append([]string{"--config", file}, tt.args...), tt.env)
			require.NoError(t, err)
			assert.Equal(t, tt.want, c.Server.Policy.TTL)
			assert.Equal(t, 11, c.MaxSessions)
			assert.True(t, c.Server.Policy.FixedExpiry)
			assert.Equal(t, []string{"https://a.example", "https://b.example"}, c.Server.TrustedOrigins)
		})
	}
}

func TestTheFileCanBeNamedByTheEnvironment(t *testing.T) {
	file := write(t, "login = \"open\"\nttl = \"11m\"\n")
	c, err := Load(nil, []string{"COATCHECK_CONFIG=" + file})
	require.NoError(t, err)
	assert.Equal(t, 11*time.Minute, c.Server.Policy.TTL)

	_, err = Load([]string{"--config="}, []string{"COATCHECK_CONFIG=" + file})
	assert.ErrorContains(t, err, "--login: must be named", "an empty flag beats the variable: no file")
}

func TestDev(t *testing.T) {
	c, err := Load([]string{"--dev"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "open", c.Login)
	assert.Equal(t, server.Cookie{Name: "coatcheck", Path: "/", SameSite: "lax", Insecure: true}, c.Server.Cookie)
	assert.Equal(t, "text", c.LogFormat)

	c, err = Load([]string{"--dev", "--cookie-name=sid", "--log-format=json"}, []string{"COATCHECK_COOKIE_SECURE=true"})
	require.NoError(t, err)
	assert.Equal(t, server.Cookie{Name: "sid", Path: "/", SameSite: "lax"}, c.Server.Cookie, "what is given wins over --dev")
	assert.Equal(t, "json", c.LogFormat)

	c, err = Load(nil, []string{"COATCHECK_DEV=true"})
	require.NoError(t, err)
	assert.True(t, c.Server.Cookie.Insecure, "--dev changes defaults wherever it stands")
}

func TestUnknownVariablesAreNoted(t *testing.T) {
	c, err := Load([]string{"--dev"}, []string{
		"COATCHECK_TLL=1m", "COATCHECK_PORT=tcp://10.0.0.1:80", "COATCHECK_SERVICE_HOST=10.0.0.1", "PATH=/bin",
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"the environment variable COATCHECK_TLL names no flag and is ignored; did you mean COATCHECK_TTL?"}, c.Notes)
}

func TestHelpIsNoMistake(t *testing.T) {
	for _, arg := range []string{"--help", "-help", "-h"} {
		_, err := Load([]string{"--ttl=x", arg}, nil)
		assert.ErrorIs(t, err, ErrHelp)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "coatcheck.toml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestExposed(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": false, "127.9.9.9:1": false, "[::1]:1": false, "[::ffff:127.0.0.1]:1": false, "localhost:1": false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "192.168.1.1:1": true, "example.com:1": true, "localhost.example.com:1": true,
		"127.1:1": true, "off": false,
	} {
		assert.Equal(t, want, Exposed(addr), addr)
	}
}

func TestPlainValuesOfAFile(t *testing.T) {
	for want, value := range map[string]any{
		"text":                 "text",
		"true":                 true,
		"-7":                   int64(-7),
		"2026-11-01T10:00:00Z": time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC),
		"a,2":                  []any{"a", int64(2)},
		"":                     []any{},
	} {
		got, ok := plain(value)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	for _, value := range []any{1.5, map[string]any{}, []any{"a", map[string]any{}}} {
		_, ok := plain(value)
		assert.False(t, ok, value)
	}
}
