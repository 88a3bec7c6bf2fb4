// Package credentials reads the files that decide who is let in: users, keys, certificates.
package credentials

import (
	"errors"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server/login"
)

// Opened is what the files hold that a configuration names, and what re-reads them.
type Opened struct {
	Login     login.Mode // nil: none could be made
	Admits    func(userID []byte) bool
	AdminKeys *login.Keys // nil: the admin API asks for none

	Certificate *certificate.Certificate // nil: the public listener speaks plain http

	// Reload re-reads a file each. It returns the users whose sessions end with it.
	Reload []func() (users []string, err error)
	// Owed are users whose sessions were to end with a re-read and could not be ended yet.
	Owed []string
	// Notes are remarks on what the files hold that are no mistakes, for the log.
	Notes []string
}

// Open reads the files that a configuration names. Its error is all mistakes, joined.
func Open(c *config.Config, idKey func(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte) (*Opened, error) {
	o := new(Opened)
	mistakes := []error{o.readMode(c, idKey)}
	if c.AdminKeyFile != "" {
		keys, err := login.LoadKeys(c.AdminKeyFile)
		if err != nil {
			mistakes = append(mistakes, c.Mistake("admin-key-file", err))
		} else {
			o.AdminKeys = keys
			o.Reload = append(o.Reload, func() ([]string, error) { return nil, keys.Reload() })
		}
	}
	return o, errors.Join(append(mistakes, o.readCertificate(c))...)
}

// readMode makes the login mode, if what it needs is named. It makes mode open only where that is what was asked for.
func (o *Opened) readMode(c *config.Config, idKey func(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte) error {
	switch {
	case c.Login == "open":
		o.Login = login.Open{}
	case c.Login == "trusted" && c.LoginKeyFile != "":
		trusted, err := login.NewTrusted(c.LoginKeyFile)
		if err != nil {
			return c.Mistake("login-key-file", err)
		}
		o.Login = trusted
		o.Reload = append(o.Reload, func() ([]string, error) { return nil, trusted.Reload() })
	case c.Login == "users" && c.UsersFile != "":
		users, err := login.NewUsers(c.UsersFile, login.UsersOptions{IDKey: idKey})
		if err != nil {
			return c.Mistake("users-file", err)
		}
		o.Login, o.Admits = users, users.Admits
		o.Reload = append(o.Reload, users.Reload)
	case c.Login == "webhook" && c.WebhookURL != "":
		webhook, err := login.NewWebhook(c.WebhookURL, login.WebhookOptions{})
		if err != nil {
			return c.Mistake("webhook-url", err)
		}
		o.Login = webhook
	}
	return nil
}

// readCertificate reads the pair that --tls-cert and --tls-key name, if they name one.
func (o *Opened) readCertificate(c *config.Config) error {
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil
	}
	cert, err := certificate.Open(c.TLSCert, c.TLSKey)
	if wrong := new(certificate.PairError); errors.As(err, &wrong) {
		return c.Mistake(wrong.Of, wrong.Err)
	}
	if note := cert.Note(); note != "" {
		o.Notes = append(o.Notes, note)
	}
	o.Certificate = cert
	o.Reload = append(o.Reload, func() ([]string, error) { return nil, cert.Reread() })
	return nil
}
