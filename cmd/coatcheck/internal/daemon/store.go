package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/shardstore"
)

// connectWithin is how long a Redis may take to answer when the server starts.
const connectWithin = 10 * time.Second

// openStore returns the store that --store names.
func openStore(c *config.Config, log *slog.Logger) (coatcheck.Store, error) {
	if c.Store == "memory" {
		return shardstore.New(shardstore.Options{
			MaxSessions: c.MaxSessions, Dir: c.DataDir, FsyncEvery: c.FsyncEvery, Logger: log,
		})
	}
	opt := c.Redis
	opt.Logger = log
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	store, err := openRedis(ctx, opt)
	if errors.Is(err, redisstore.ErrEviction) {
		return nil, fmt.Errorf("%w, or overrule this with --redis-allow-eviction", err)
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// openRedis tries again while Redis listens, and is too busy to answer: many nodes may start at once.
func openRedis(ctx context.Context, opt redisstore.Options) (*redisstore.Store, error) {
	store, err := redisstore.New(ctx, opt)
	if slow(err) {
		opt.Logger.Warn("Redis is slow to answer, and is tried again", "error", err)
	}
	for slow(err) {
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200*time.Millisecond + rand.N(400*time.Millisecond)): //nolint:gosec // so that nodes do not try all at once
		}
		again, failed := redisstore.New(ctx, opt)
		if failed != nil && ctx.Err() != nil {
			return nil, err // the error before says more than that the time was up
		}
		store, err = again, failed
	}
	return store, err
}

// slow reports whether Redis took a connection and then too long to answer, whichever deadline saw it first.
func slow(err error) bool {
	var op *net.OpError
	var name *net.DNSError
	if errors.As(err, &op) && op.Op == "dial" || errors.As(err, &name) {
		return false
	}
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// throttled puts throttling around a login mode if its secrets can be guessed at. A store that other nodes share also keeps
// the counts, so that the nodes share them.
func throttled(mode login.Mode, store coatcheck.Store) (login.Mode, error) {
	if mode.Traits().Guesses == login.GuessesNothing {
		return mode, nil
	}
	ofAccounts, ofAddresses := login.AccountRule(), login.AddressRule()
	var accounts, addresses login.Ledger
	if shared, ok := store.(*redisstore.Store); ok {
		accounts = shared.Ledger("account", ofAccounts.Forget, ofAccounts.Delays)
		addresses = shared.Ledger("address", ofAddresses.Forget, ofAddresses.Delays)
	} else {
		accounts, addresses = login.NewMemoryLedger(ofAccounts), login.NewMemoryLedger(ofAddresses)
	}
	return login.NewThrottle(mode, accounts, addresses, nil)
}

// providerIndex returns the index that nodes share with a store which they share; nil: the server has its own.
func providerIndex(store coatcheck.Store) oidc.Index {
	if shared, ok := store.(*redisstore.Store); ok {
		return shared.ProviderIndex()
	}
	return nil
}
