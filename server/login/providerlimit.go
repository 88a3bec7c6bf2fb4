package login

import (
	"context"
	"net/netip"
	"time"

	"github.com/coatcheck/coatcheck/internal/clientnet"
)

const (
	// providerAttempts is how many logins of one address may be on their way or have failed: half of the connections to the
	// provider, because an office logs in from one address every morning.
	providerAttempts = 32
	// providerForget is how long it takes to forget one that has failed.
	providerForget = 2 * time.Second
)

// ProviderLimit bounds what one client's address can make the server ask of a provider: the logins whose code the provider is
// asked about at the moment, and those that failed after it had been asked, for whatever reason. A reason proves nothing of the
// client: whoever sends a code can choose one that the provider answers with another error than the one for a bad code. The
// bound is one of this server alone. Safe for concurrent use.
type ProviderLimit struct {
	ledger *MemoryLedger
	now    func() time.Time
}

// NewProviderLimit returns a limit that has counted nothing.
func NewProviderLimit(now func() time.Time) *ProviderLimit {
	delays := make([]time.Duration, providerAttempts)
	delays[providerAttempts-1] = providerForget
	return &ProviderLimit{NewMemoryLedger(Rule{Forget: providerForget, Delays: delays}), now}
}

// Begin counts a login before the provider is asked, or returns a *Throttled. The caller calls end after it, and says whether
// the login counts as failed; one that succeeded, or failed before the provider had a code, does not.
func (l *ProviderLimit) Begin(client netip.Addr) (end func(failed bool), err error) {
	bucket := bucketOf("provider", clientnet.Of(client).AsSlice())
	wait, _ := l.ledger.Reserve(context.Background(), bucket, l.now()) // a ledger in memory returns no error
	if wait > 0 {
		return nil, &Throttled{RetryAfter: wait, By: "address"}
	}
	return func(failed bool) {
		if !failed {
			_ = l.ledger.GiveBack(context.Background(), bucket)
		}
	}, nil
}
