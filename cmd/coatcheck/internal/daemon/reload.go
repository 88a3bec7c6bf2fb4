package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

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
func reread(o *credentials.Opened, again func() (*config.Config, error), srv *server.Server, log *slog.Logger) {
	for _, reload := range o.Reload {
		users, err := reload()
		if err != nil {
			log.Error("not re-read", "error", err)
		}
		o.Owed = append(o.Owed, users...)
	}
	slices.Sort(o.Owed)
	o.Owed = slices.Compact(o.Owed)
	endOwed(o, srv, log)
	fresh, err := again()
	if err != nil {
		log.Error("the configuration was not re-read", "error", err)
		return
	}
	srv.SetNotBefore(fresh.NotBefore)
	log.Info("re-read keys, users, certificates and --sessions-not-before")
}

// endOwed ends the sessions of the users whose accounts have changed. It stops at the first failure, because a store that
// is gone would take its timeout for each of them while nobody listens to signals; the others stay owed.
func endOwed(o *credentials.Opened, srv *server.Server, log *slog.Logger) {
	for len(o.Owed) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := srv.EndUser(ctx, o.Owed[0])
		cancel()
		if err != nil {
			log.Error("the sessions of users whose accounts have changed could not be ended; it is tried again", "user", o.Owed[0], "users", len(o.Owed),
				"error", err)
			return
		}
		o.Owed = o.Owed[1:]
	}
}

// owedEvery is how long it takes until endOwed is tried again.
const owedEvery = 5 * time.Second
