// Package credentials opens the files that a configuration names to decide who is let in: users, keys and the certificate.
package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// Credentials are the contents of the files that a configuration names.
type Credentials struct {
	// Login is the login mode, without throttling; nil: its files could not be read.
	Login login.Mode
	// Admits reports whether a user may still have sessions; nil: every user may.
	Admits func(userID []byte) bool
	// Provider is the provider of login mode oidc; nil: another mode, or its settings have mistakes.
	Provider *oidc.Provider
	// AdminKeys are the keys that the admin API accepts; nil: it asks for none.
	AdminKeys *login.Keys
	// Certificate is the certificate of the public listener; nil: the listener speaks plain http.
	Certificate *certificate.Certificate
	// Sources are what is read again at a HUP, each by itself.
	Sources []Source
	// Notes are remarks, for the log, on contents of the files that are no mistakes.
	Notes []string
}

// Source is something that is read again while the server runs.
type Source struct {
	// Name is that of the setting which says where it stands.
	Name string
	// Files are those that Read reads.
	Files []string
	// Read reads them again, and returns the users whose sessions end with it. On an error the previous content stays in effect.
	Read func() (users []string, err error)
	// Failure, unless it is nil, returns what is wrong with a source that is also read again by itself; nil: nothing is.
	Failure func() error
}

// Open reads the files that a configuration names. users are the options of login mode users. The error is all mistakes,
// joined; what could be read is returned nevertheless.
func Open(c *config.Config, users login.UsersOptions) (*Credentials, error) {
	o := new(Credentials)
	return o, errors.Join(o.openLogin(c, users), o.openAdminKeys(c), o.openCertificate(c), openRedisPassword(c))
}

// openLogin makes the login mode. It makes mode open only if that was asked for: a mode whose file is missing is a mistake of
// the configuration, and Login stays nil.
func (o *Credentials) openLogin(c *config.Config, opt login.UsersOptions) error {
	switch {
	case c.Login == "open":
		o.Login = login.Open{}
	case c.Login == "trusted" && c.LoginKeyFile != "":
		trusted, err := login.NewTrusted(c.LoginKeyFile)
		if err != nil {
			return c.Mistake("login-key-file", err)
		}
		o.Login = trusted
		o.reloadOnly("login-key-file", c.LoginKeyFile, trusted.Reload)
	case c.Login == "users" && c.UsersFile != "":
		users, err := login.NewUsers(c.UsersFile, opt)
		if err != nil {
			return c.Mistake("users-file", err)
		}
		o.Login, o.Admits = users, users.Admits
		if note := users.Note(); note != "" {
			o.Notes = append(o.Notes, note)
		}
		o.Sources = append(o.Sources, Source{Name: "users-file", Files: []string{c.UsersFile}, Read: users.Reload})
	case c.Login == "webhook" && c.WebhookURL != "":
		webhook, err := login.NewWebhook(c.WebhookURL, login.WebhookOptions{})
		if err != nil {
			return c.Mistake("webhook-url", err)
		}
		o.Login = webhook
	case c.Login == "oidc" && c.OIDC.Issuer != "" && c.OIDC.ClientID != "" && c.OIDC.ExternalURL != "":
		return o.openProvider(c)
	}
	return nil
}

func (o *Credentials) openAdminKeys(c *config.Config) error {
	if c.AdminKeyFile == "" {
		return nil
	}
	keys, err := login.LoadKeys(c.AdminKeyFile)
	if err != nil {
		return c.Mistake("admin-key-file", err)
	}
	o.AdminKeys = keys
	o.reloadOnly("admin-key-file", c.AdminKeyFile, keys.Reload)
	return nil
}

// maxSecret is longer than any password of Redis, and than any secret of a client.
const maxSecret = 4096

// openRedisPassword puts the password in --redis-password-file where c has Redis' URL.
func openRedisPassword(c *config.Config) error {
	if c.RedisPasswordFile == "" {
		return nil
	}
	password, err := readSecret(c.RedisPasswordFile, "password")
	if err == nil {
		err = c.SetRedisPassword(password)
	}
	if err != nil {
		return c.Mistake("redis-password-file", err)
	}
	return nil
}

// readSecret returns the one line of a file, which is what the file holds. No error shows any of it.
func readSecret(file, what string) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return "", err
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	switch {
	case len(line) == 0:
		return "", fmt.Errorf("%s: holds no %s", file, what)
	case len(line) > maxSecret || bytes.ContainsAny(line, "\r\n\x00"):
		return "", fmt.Errorf("%s: must hold the %s on one line, and nothing else", file, what)
	case login.IsPlaceholder(line):
		return "", fmt.Errorf("%s: holds a placeholder, which every reader of the sample knows", file)
	}
	return string(line), nil
}

// openCertificate reads the pair that --tls-cert and --tls-key name. One without the other is a mistake of the configuration.
func (o *Credentials) openCertificate(c *config.Config) error {
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil
	}
	cert, err := certificate.Open(c.TLSCert, c.TLSKey)
	if err != nil {
		var mistakes []error
		for _, one := range config.Leaves(err) {
			if wrong := new(certificate.PairError); errors.As(one, &wrong) {
				one = c.Mistake(wrong.Setting, wrong.Err)
			}
			mistakes = append(mistakes, one)
		}
		return errors.Join(mistakes...)
	}
	if note := cert.Note(); note != "" {
		o.Notes = append(o.Notes, note)
	}
	o.Certificate = cert
	o.Sources = append(o.Sources, Source{Name: "tls-cert", Files: cert.Files(), Read: endsNone(cert.Reread), Failure: cert.Failure})
	return nil
}

// reloadOnly adds a file whose change ends no sessions.
func (o *Credentials) reloadOnly(setting, file string, reload func() error) {
	o.Sources = append(o.Sources, Source{Name: setting, Files: []string{file}, Read: endsNone(reload)})
}

func endsNone(reload func() error) func() ([]string, error) {
	return func() ([]string, error) { return nil, reload() }
}
