package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// opened is what the files hold that a configuration names, and what re-reads them.
type opened struct {
	login     login.Mode // nil: none could be made
	admits    func(userID []byte) bool
	adminKeys *login.Keys // nil: the admin API asks for none

	certificate *certificate.Certificate // nil: the public listener speaks plain http

	// reload re-reads a file each. It returns the users whose sessions end with it.
	reload []func() (users []string, err error)
	// owed are users whose sessions were to end with a re-read and could not be ended yet.
	owed []string
	// notes are remarks on what the files hold that are no mistakes, for the log.
	notes []string
}

// open reads the files that a configuration names. Its error is all mistakes, joined.
func open(c *config, idKey func(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte) (*opened, error) {
	o := new(opened)
	mistakes := []error{o.readMode(c, idKey)}
	if c.adminKeyFile != "" {
		keys, err := login.LoadKeys(c.adminKeyFile)
		if err != nil {
			mistakes = append(mistakes, c.mistake("admin-key-file", err))
		} else {
			o.adminKeys = keys
			o.reload = append(o.reload, func() ([]string, error) { return nil, keys.Reload() })
		}
	}
	return o, errors.Join(append(mistakes, o.readCertificate(c))...)
}

// readMode makes the login mode, if what it needs is named. It makes mode open only where that is what was asked for.
func (o *opened) readMode(c *config, idKey func(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte) error {
	switch {
	case c.login == "open":
		o.login = login.Open{}
	case c.login == "trusted" && c.loginKeyFile != "":
		trusted, err := login.NewTrusted(c.loginKeyFile)
		if err != nil {
			return c.mistake("login-key-file", err)
		}
		o.login = trusted
		o.reload = append(o.reload, func() ([]string, error) { return nil, trusted.Reload() })
	case c.login == "users" && c.usersFile != "":
		users, err := login.NewUsers(c.usersFile, login.UsersOptions{IDKey: idKey})
		if err != nil {
			return c.mistake("users-file", err)
		}
		o.login, o.admits = users, users.Admits
		o.reload = append(o.reload, users.Reload)
	case c.login == "webhook" && c.webhookURL != "":
		webhook, err := login.NewWebhook(c.webhookURL, login.WebhookOptions{})
		if err != nil {
			return c.mistake("webhook-url", err)
		}
		o.login = webhook
	}
	return nil
}

// readCertificate reads the pair that --tls-cert and --tls-key name, if they name one.
func (o *opened) readCertificate(c *config) error {
	if c.tlsCert == "" || c.tlsKey == "" {
		return nil
	}
	cert, err := certificate.Open(c.tlsCert, c.tlsKey)
	if wrong := new(certificate.PairError); errors.As(err, &wrong) {
		return c.mistake(wrong.Of, wrong.Err)
	}
	if note := cert.Note(); note != "" {
		o.notes = append(o.notes, note)
	}
	o.certificate = cert
	o.reload = append(o.reload, func() ([]string, error) { return nil, cert.Reread() })
	return nil
}

// throttled is a login mode with throttling around it, if it can be guessed at. A store that other nodes share keeps the counts,
// so that they share those too.
func throttled(mode login.Mode, store coatcheck.Store) login.Mode {
	guessable, ok := mode.(login.Guessable)
	if !ok {
		return mode
	}
	ofAccounts, ofAddresses := login.AccountRule(), login.AddressRule()
	var accounts, addresses login.Ledger
	if shared, ok := store.(*redisstore.Store); ok {
		accounts = shared.Ledger("account", ofAccounts.Forget, ofAccounts.Delays)
		addresses = shared.Ledger("address", ofAddresses.Forget, ofAddresses.Delays)
	} else {
		accounts, addresses = login.NewMemoryLedger(ofAccounts), login.NewMemoryLedger(ofAddresses)
	}
	return login.NewThrottle(guessable, accounts, addresses, nil)
}

// reread does what a HUP asks for: it reads keys, users, certificates and --sessions-not-before again. A file with mistakes changes
// nothing, and the log says so.
func reread(o *opened, again func() (*config, error), srv *server.Server, log *slog.Logger) {
	for _, reload := range o.reload {
		users, err := reload()
		if err != nil {
			log.Error("not re-read", "error", err)
		}
		o.owed = append(o.owed, users...)
	}
	slices.Sort(o.owed)
	o.owed = slices.Compact(o.owed)
	endOwed(o, srv, log)
	fresh, err := again()
	if err != nil {
		log.Error("the configuration was not re-read", "error", err)
		return
	}
	srv.SetNotBefore(fresh.notBefore)
	log.Info("re-read keys, users, certificates and --sessions-not-before")
}

// endOwed ends the sessions of the users whose accounts have changed. It stops at the first failure, because a store that
// is gone would take its timeout for each of them while nobody listens to signals; the others stay owed.
func endOwed(o *opened, srv *server.Server, log *slog.Logger) {
	for len(o.owed) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := srv.EndUser(ctx, o.owed[0])
		cancel()
		if err != nil {
			log.Error("the sessions of users whose accounts have changed could not be ended; it is tried again", "user", o.owed[0], "users", len(o.owed),
				"error", err)
			return
		}
		o.owed = o.owed[1:]
	}
}

// owedEvery is how long it takes until endOwed is tried again.
const owedEvery = 5 * time.Second
