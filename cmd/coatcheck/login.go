package main

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// readKeys reads the files that the login mode and the admin API need, and yields what is wrong with them, with the
// setting that names the file.
func (c *config) readKeys() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if of, err := c.readMode(); err != nil && !yield(of, err) {
			return
		}
		if c.adminKeyFile == "" {
			return
		}
		keys, err := login.LoadKeys(c.adminKeyFile)
		if err != nil {
			yield("admin-key-file", err)
			return
		}
		c.server.AdminKeys = keys
		c.reload = append(c.reload, func() ([]string, error) { return nil, keys.Reload() })
	}
}

// readMode makes the login mode. Its error is about the setting that it names.
func (c *config) readMode() (of string, err error) {
	var mode login.Guessable
	switch c.login {
	case "trusted":
		if c.loginKeyFile == "" {
			return "login-key-file", errors.New("--login trusted needs it")
		}
		trusted, err := login.NewTrusted(c.loginKeyFile)
		if err != nil {
			return "login-key-file", err
		}
		c.reload = append(c.reload, func() ([]string, error) { return nil, trusted.Reload() })
		mode = trusted
	case "users":
		if c.usersFile == "" {
			return "users-file", errors.New("--login users needs it")
		}
		c.hashes = newHashPool()
		users, err := login.NewUsers(c.usersFile, login.UsersOptions{IDKey: c.hashes.IDKey})
		if err != nil {
			return "users-file", err
		}
		c.reload = append(c.reload, users.Reload)
		c.server.Policy.Admits = users.Admits
		mode = users
	case "webhook":
		if c.webhookURL == "" {
			return "webhook-url", errors.New("--login webhook needs it")
		}
		webhook, err := login.NewWebhook(c.webhookURL, login.WebhookOptions{})
		if err != nil {
			return "webhook-url", err
		}
		mode = webhook
	default:
		return "", nil
	}
	c.server.Login = mode
	return "", nil
}

// readCertificate reads the pair that --tls-cert and --tls-key name, and yields what is wrong with it, with the setting that
// names the file.
func (c *config) readCertificate() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		switch {
		case c.tlsCert == "" && c.tlsKey == "":
			return
		case c.tlsCert == "":
			yield("tls-cert", errors.New("--tls-key needs it"))
			return
		case c.tlsKey == "":
			yield("tls-key", errors.New("--tls-cert needs it"))
			return
		}
		cert, err := certificate.Open(c.tlsCert, c.tlsKey)
		if err != nil {
			var p *certificate.PairError
			errors.As(err, &p)
			yield(p.Of, p.Err)
			return
		}
		if note := cert.Note(); note != "" {
			c.notes = append(c.notes, note)
		}
		c.certificate = cert
		c.reload = append(c.reload, func() ([]string, error) { return nil, cert.Reread() })
	}
}

// throttle puts the throttling around a login mode that can be guessed at. A store that other nodes share keeps the counts,
// so that they share those too.
func throttle(c *config, store coatcheck.Store) {
	mode, ok := c.server.Login.(login.Guessable)
	if !ok {
		return
	}
	ofAccounts, ofAddresses := login.AccountRule(), login.AddressRule()
	var accounts, addresses login.Ledger
	if shared, ok := store.(*redisstore.Store); ok {
		accounts = shared.Ledger("account", ofAccounts.Forget, ofAccounts.Delays)
		addresses = shared.Ledger("address", ofAddresses.Forget, ofAddresses.Delays)
	} else {
		accounts, addresses = login.NewMemoryLedger(ofAccounts), login.NewMemoryLedger(ofAddresses)
	}
	c.server.Login = login.NewThrottle(mode, accounts, addresses, nil)
}

// reread does what a HUP asks for: it reads keys, users, certificates and --sessions-not-before again. A file with mistakes changes
// nothing, and the log says so.
func reread(c *config, again func() (*config, error), srv *server.Server, log *slog.Logger) {
	for _, reload := range c.reload {
		users, err := reload()
		if err != nil {
			log.Error("not re-read", "error", err)
		}
		c.owed = append(c.owed, users...)
	}
	slices.Sort(c.owed)
	c.owed = slices.Compact(c.owed)
	endOwed(c, srv, log)
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
func endOwed(c *config, srv *server.Server, log *slog.Logger) {
	for len(c.owed) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := srv.EndUser(ctx, c.owed[0])
		cancel()
		if err != nil {
			log.Error("the sessions of users whose accounts have changed could not be ended; it is tried again", "user", c.owed[0], "users", len(c.owed),
				"error", err)
			return
		}
		c.owed = c.owed[1:]
	}
}

// owedEvery is how long it takes until endOwed is tried again.
const owedEvery = 5 * time.Second
