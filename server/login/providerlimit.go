package login

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/internal/clientnet"
)

const (
	// providerAttempts is how many logins of one address may be on their way: half of the connections to the provider or back end, because
	// an office logs in from one address every morning.
	providerAttempts = 32
	// providerFailures is how many logins of one address may have failed at a provider. That is no guessing, so that only what an address
	// can make this server and the provider do for nothing is bounded.
	providerFailures = 256
	// webhookFailures is the same for a webhook, whose logins may be guesses that it answers with an error.
	webhookFailures = 32
	// providerForget is how long it takes to forget one that has failed. When a provider that was away is back, an office whose count is
	// full has one login on its way at a time at first: while it is asked about, the others are throttled, and once it has succeeded it is
	// taken back, and the next one need not wait. Every two seconds there is room for one more at a time, if none fails.
	providerForget = 2 * time.Second
)

// ProviderLimit bounds what one client's address can make the server ask of a provider, or of a webhook's back end: the logins that
// it is asked about at the moment, however long it takes, and those that failed after it had been asked, for whatever reason. A
// reason proves nothing of the client: whoever sends a code can choose one that the provider answers with another error than the one
// for a bad code. The bound is one of this server alone. Safe for concurrent use.
type ProviderLimit struct {
	failed *MemoryLedger // with those on their way, each of which is forgotten like one that failed, even if it takes longer
	now    func() time.Time

	mu    sync.Mutex
	asked map[netip.Addr]int // guarded by mu: the logins of a client that are on their way, and so no more than there are connections
}

// NewProviderLimit returns a limit for a provider that has counted nothing.
func NewProviderLimit(now func() time.Time) *ProviderLimit { return newLimit(providerFailures, now) }

func newLimit(failures int, now func() time.Time) *ProviderLimit {
	delays := make([]time.Duration, failures)
	delays[failures-1] = providerForget
	return &ProviderLimit{failed: NewMemoryLedger(Rule{Forget: providerForget, Delays: delays}), now: now, asked: make(map[netip.Addr]int)}
}

// Begin counts a login before the provider is asked, or returns a *Throttled. The caller calls end after it, and says whether
// the login counts as failed; one that succeeded, or failed before the provider had a code, does not.
func (l *ProviderLimit) Begin(client netip.Addr) (end func(failed bool), err error) {
	of := clientnet.Of(client)
	bucket := bucketOf("provider", of.AsSlice())
	ctx := context.Background() // a ledger in memory waits for nothing, and returns no error
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked[of] >= providerAttempts {
		return nil, &Throttled{RetryAfter: providerForget, By: "address"}
	}
	wait, _ := l.failed.Reserve(ctx, bucket, l.now())
	if wait > 0 {
		return nil, &Throttled{RetryAfter: wait, By: "address"}
	}
	l.asked[of]++
	return func(failed bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.asked[of]--; l.asked[of] == 0 {
			delete(l.asked, of)
		}
		if !failed {
			_ = l.failed.GiveBack(ctx, bucket)
		}
	}, nil
}
