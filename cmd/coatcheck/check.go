package main

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// check completes the configuration and yields what is wrong with settings taken together, with the name of the setting
// that it is told of. What the library's own validation knows is asked there and not repeated here.
func check(c *config, byName map[string]*setting, values map[string]given) iter.Seq2[string, error] {
	c.server.Policy.RevokeOnReuse = c.onReuse == "revoke"
	c.server.Policy.NotBefore = c.notBefore
	// Where nobody set them, the library fits them to what was set.
	for name, p := range map[string]*time.Duration{
		"ttl": &c.server.Policy.TTL, "max-lifetime": &c.server.Policy.MaxLifetime, "rotation-grace": &c.server.Policy.RotationGrace,
	} {
		if values[name].from == fromDefault {
			*p = 0
		}
	}
	c.redis.URL = c.store
	return func(yield func(string, error) bool) {
		for _, rule := range rules {
			if complaint := rule.broken(c); complaint != nil {
				if !yield(rule.of, byName[rule.of].mistake(values[rule.of], complaint)) {
					return
				}
			}
		}
		for _, err := range leaves(c.server.Validate()) {
			if !yield(located(err, byName, values)) {
				return
			}
		}
	}
}

// rules are what the program asks of its settings beyond the library.
var rules = []struct {
	of     string
	broken func(*config) error
}{
	{"login", func(c *config) error {
		if c.login == "" {
			return errors.New(`must be named; "open" believes any user ID, --dev implies it`)
		}
		return nil
	}},
	{"login", func(c *config) error {
		if c.login == "open" && !c.allowOpenLogin && !c.dev && exposed(c.listen) {
			return fmt.Errorf("on --listen %q others can log in as anybody; if that is meant, say --allow-open-login", c.listen)
		}
		return nil
	}},
	{"login-key-file", func(c *config) error { return ofMode(c, "trusted", c.loginKeyFile) }},
	{"users-file", func(c *config) error { return ofMode(c, "users", c.usersFile) }},
	{"webhook-url", func(c *config) error { return ofMode(c, "webhook", c.webhookURL) }},
	{"tls-cert", func(c *config) error {
		if c.tlsCert == "" && c.tlsKey != "" {
			return errors.New("--tls-key needs it")
		}
		return nil
	}},
	{"tls-key", func(c *config) error {
		if c.tlsKey == "" && c.tlsCert != "" {
			return errors.New("--tls-cert needs it")
		}
		return nil
	}},
	{"listen", func(c *config) error {
		if c.dev && exposed(c.listen) {
			return errors.New("--dev listens on a loopback address only")
		}
		return nil
	}},
	{"admin-listen", func(c *config) error {
		if exposed(c.adminListen) && c.adminKeyFile == "" {
			return errors.New("off loopback it needs --admin-key-file")
		}
		return nil
	}},
	{"store", func(c *config) error {
		if c.store == "memory" {
			return nil
		}
		if !strings.HasPrefix(c.store, "redis://") && !strings.HasPrefix(c.store, "rediss://") {
			return errors.New("must be memory, or a URL that begins with redis:// or rediss://")
		}
		return c.redis.Validate()
	}},
	{"data-dir", func(c *config) error {
		if c.store != "memory" && c.dataDir != "" {
			return errors.New("is for --store memory only")
		}
		return nil
	}},
	{"max-sessions", func(c *config) error {
		if c.store != "memory" && c.maxSessions > 0 {
			return errors.New("is for --store memory only")
		}
		return nil
	}},
	{"admin-listen", func(c *config) error {
		if c.listen == c.adminListen && !strings.HasSuffix(c.listen, ":0") {
			return errors.New("--listen is the same address")
		}
		return nil
	}},
}

// ofMode wants a value for what a login mode reads, and refuses one for what only another mode reads: whoever set it believes
// that it counts.
func ofMode(c *config, mode, value string) error {
	switch {
	case value == "" && c.login == mode:
		return fmt.Errorf("--login %s needs it", mode)
	case value != "" && c.login != mode && c.login != "":
		return fmt.Errorf("is for --login %s, and --login is %s", mode, c.login)
	default:
		return nil
	}
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// located adds where the value stands to a mistake that the library found. Its mistakes begin with the setting's name.
func located(err error, byName map[string]*setting, values map[string]given) (string, error) {
	name, _, _ := strings.Cut(err.Error(), " ")
	name = strings.TrimSuffix(name, ":")
	if byName[name] == nil {
		return "", err
	}
	return name, fmt.Errorf("--%w (%s)", err, values[name].from)
}
