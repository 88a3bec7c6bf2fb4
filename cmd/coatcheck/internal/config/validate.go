package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
)

// complete sets values that follow from several settings.
func (c *Config) complete() {
	c.Server.Policy.RevokeOnReuse = c.OnReuse == "revoke"
	c.Server.Policy.NotBefore = c.NotBefore
	// If these are not given, the library fits them to the settings that are.
	for name, p := range map[string]*time.Duration{
		"ttl": &c.Server.Policy.TTL, "max-lifetime": &c.Server.Policy.MaxLifetime, "rotation-grace": &c.Server.Policy.RotationGrace,
	} {
		if c.given[name].from == fromDefault {
			*p = 0
		}
	}
	c.Redis.URL = c.Store
	if c.Store != "memory" { // a request has that long for its write, be it that Redis is slow or that others write the same session
		c.Server.Policy.RetryFor = c.Redis.Timeout
	}
	c.noteLifetimes()
	c.noteSecretFlags()
	if c.Login == "oidc" && c.Server.Cookie.SameSite == "strict" {
		c.Notes = append(c.Notes, "--cookie-same-site strict with --login oidc: where the provider is of another site, the page right after a "+
			"login is anonymous, also if it is loaded again, and a login does not end the session that the browser had before; with "+
			"lax neither happens")
	}
	// A program that connects to a Unix socket counts as loopback, and is a proxy: it alone knows the client's address.
	if strings.HasPrefix(c.Listen, unixPrefix) {
		c.Server.TrustedProxies = append(slices.Clone(c.Server.TrustedProxies), netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 32))
	}
}

// noteSecretFlags remarks on a secret that stands on the command line, which every user of the machine can read.
func (c *Config) noteSecretFlags() {
	for name, hint := range map[string]string{"store": "use --redis-password-file, or the file that --config names", "webhook-url": "use the file that --config names"} {
		v := c.given[name]
		if u, err := url.Parse(v.text); v.from == fromFlags && err == nil && (hasPassword(u) || name == "webhook-url" && u.RawQuery != "") {
			c.Notes = append(c.Notes, "the secret in --"+name+" stands in the list of processes, which every user of this machine can read; "+hint)
		}
	}
	slices.Sort(c.Notes)
}

func hasPassword(u *url.URL) bool {
	if u.User == nil {
		return false
	}
	_, has := u.User.Password()
	return has
}

// noteLifetimes remarks on a default that gave way to what was set.
func (c *Config) noteLifetimes() {
	ttl, most := c.given["ttl"], c.given["max-lifetime"]
	p := c.Server.Policy
	switch {
	case most.from == fromDefault && p.TTL > coatcheck.DefaultMaxLifetime:
		c.Notes = append(c.Notes, fmt.Sprintf("--ttl %v (%s) is above the default of --max-lifetime, %v: sessions end %v after they began, used or "+
			"not; say --max-lifetime if they may live longer",
			p.TTL, ttl.from, coatcheck.DefaultMaxLifetime, p.TTL))
	case ttl.from == fromDefault && p.MaxLifetime > 0 && p.MaxLifetime < coatcheck.DefaultTTL:
		c.Notes = append(c.Notes, fmt.Sprintf("--max-lifetime %v (%s) is below the default of --ttl, %v, which is then %v", p.MaxLifetime,
			most.from, coatcheck.DefaultTTL, p.MaxLifetime))
	}
}

// validate yields the mistakes of settings taken together, each with the name of the setting that it is reported for. The
// rules of a library's own validation are checked there and not repeated here.
func (c *Config) validate() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, rule := range rules {
			if err := rule.broken(c); err != nil && !yield(rule.of, c.Mistake(rule.of, err)) {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.byName)) {
			// What says no more than the default may stand in a file that servers of several kinds share.
			if v := c.given[name]; v.text != "" && v.text != c.byName[name].def {
				if err := c.noEffect(name); err != nil && !yield(name, c.Mistake(name, err)) {
					return
				}
			}
		}
		for _, err := range c.redisMistakes() {
			if name, err := redisSetting(err); !yield(name, c.Mistake(name, err)) {
				return
			}
		}
		for _, err := range Leaves(c.Server.Validate()) {
			if !yield(c.located(err)) {
				return
			}
		}
	}
}

// redisMistakes returns what the Redis store, if there is one, finds wrong with its options.
func (c *Config) redisMistakes() []error {
	if !isRedis(c.Store) {
		return nil
	}
	return Leaves(c.Redis.Validate())
}

func isRedis(store string) bool {
	return strings.HasPrefix(store, "redis://") || strings.HasPrefix(store, "rediss://")
}

// redisSetting returns the setting that a mistake of the Redis store is about, and what is wrong. Its mistakes begin with the field's name and,
// but for the URL's, its value.
func redisSetting(err error) (string, error) {
	field, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "redisstore: "), " ")
	name := map[string]string{"Prefix": "redis-prefix", "Timeout": "redis-timeout"}[field]
	if name == "" {
		return "store", err
	}
	return name, errors.New(err.Error()[strings.LastIndex(err.Error(), ": ")+len(": "):])
}

// MinBoundTTL is the shortest --dbsc-ttl that browsers get along with: they renew a token from two minutes before its end on,
// and allow a site few signatures.
const MinBoundTTL = 5 * time.Minute

// rules are the program's requirements on its settings beyond those of the library.
var rules = []struct {
	of     string
	broken func(*Config) error
}{
	{"login", func(c *Config) error {
		if c.Login == "" {
			return errors.New(`must be named; "open" believes any user ID, --dev implies it`)
		}
		return nil
	}},
	{"login", func(c *Config) error {
		if c.Login == "open" && !c.AllowOpenLogin && !c.Dev && Exposed(c.Listen) {
			return fmt.Errorf("on --listen %q others can log in as anybody; if that is meant, say --allow-open-login", shown(c.Listen))
		}
		return nil
	}},
	{"login-key-file", func(c *Config) error { return neededBy(c, "trusted", c.LoginKeyFile) }},
	{"users-file", func(c *Config) error { return neededBy(c, "users", c.UsersFile) }},
	{"webhook-url", func(c *Config) error { return neededBy(c, "webhook", c.WebhookURL) }},
	{"oidc-issuer", func(c *Config) error { return neededBy(c, "oidc", c.OIDC.Issuer) }},
	{"oidc-client-id", func(c *Config) error { return neededBy(c, "oidc", c.OIDC.ClientID) }},
	{"oidc-external-url", func(c *Config) error { return neededBy(c, "oidc", c.OIDC.ExternalURL) }},
	{"oidc-state-key-file", func(c *Config) error {
		if c.Login == "oidc" && c.Store != "memory" && c.OIDC.StateKeyFile == "" {
			return errors.New("is needed with a Redis store: any node must be able to finish a login")
		}
		return nil
	}},
	{"tls-cert", func(c *Config) error {
		if c.TLSCert == "" && c.TLSKey != "" {
			return errors.New("--tls-key needs it")
		}
		return nil
	}},
	{"tls-key", func(c *Config) error {
		if c.TLSKey == "" && c.TLSCert != "" {
			return errors.New("--tls-cert needs it")
		}
		return nil
	}},
	{"listen", func(c *Config) error { return unknownOwner(c.Listen) }},
	{"admin-listen", func(c *Config) error { return unknownOwner(c.AdminListen) }},
	{"listen", func(c *Config) error {
		if c.Dev && Exposed(c.Listen) {
			return errors.New("--dev listens on a loopback address only")
		}
		return nil
	}},
	{"admin-listen", func(c *Config) error {
		if Exposed(c.AdminListen) && c.AdminKeyFile == "" {
			return errors.New("off loopback it needs --admin-key-file")
		}
		return nil
	}},
	{"store", func(c *Config) error {
		if c.Store == "memory" || isRedis(c.Store) {
			return nil // what the store itself says of its options is told, too
		}
		return errors.New("must be memory, or a URL that begins with redis:// or rediss://")
	}},
	{"redis-password-file", func(c *Config) error {
		if u, err := url.Parse(c.Store); err == nil && c.RedisPasswordFile != "" && hasPassword(u) {
			return errors.New("the URL of --store has a password too")
		}
		return nil
	}},
	{"admin-listen", func(c *Config) error {
		if sameAddress(c.Listen, c.AdminListen) {
			return errors.New("--listen is the same address")
		}
		return nil
	}},
}

// neededBy requires a value for a setting that a login mode cannot do without.
func neededBy(c *Config, mode, value string) error {
	if value == "" && c.Login == mode {
		return fmt.Errorf("--login %s needs it", mode)
	}
	return nil
}

// modeOf is the login mode that alone reads a setting; empty: every mode does.
func modeOf(name string) string {
	if strings.HasPrefix(name, "oidc-") {
		return "oidc"
	}
	return map[string]string{"login-key-file": "trusted", "users-file": "users", "webhook-url": "webhook"}[name]
}

// noEffect says why the other settings leave one without effect, or returns nil. Whoever sets such a one relies on what is not there. What
// only tunes a store (--redis-timeout, --fsync-every) may stand in an environment that servers of several kinds share.
func (c *Config) noEffect(name string) error {
	mode := modeOf(name)
	switch {
	case mode != "" && c.Login != mode && c.Login != "":
		return fmt.Errorf("is for --login %s, and --login is %s", mode, c.Login)
	case slices.Contains([]string{"redis-password-file", "redis-wait-replicas", "redis-allow-eviction"}, name) && c.Store == "memory":
		return errors.New("is for a --store of Redis only")
	case slices.Contains([]string{"data-dir", "max-sessions"}, name) && c.Store != "memory":
		return errors.New("is for --store memory only")
	}
	return nil
}

// Leaves splits joined errors.
func Leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Leaves(e)...)
	}
	return all
}

// Bullets returns a line for each of the joined errors.
func Bullets(err error) string {
	var text string
	for _, e := range Leaves(err) {
		text += "  " + strings.ReplaceAll(e.Error(), "\n", "\n    ") + "\n"
	}
	return text
}

// located adds to a mistake that the library found where its value stands. The library's mistakes begin with the setting's
// name.
func (c *Config) located(err error) (string, error) {
	name, _, _ := strings.Cut(err.Error(), " ")
	name = strings.TrimSuffix(name, ":")
	if c.byName[name] == nil {
		return "", err
	}
	v := c.given[name]
	return name, fmt.Errorf("--%w (%s)", v.hidden(err), v.from)
}
