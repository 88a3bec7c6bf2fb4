package login_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// An attempt that is refused because its account is locked writes nothing: nothing bounds how many of them one address may make.
func TestRefusedAttemptsWriteNothing(t *testing.T) {
	mode := &guessed{what: login.GuessesPassword}
	d := &throttled{TB: t, mode: mode, now: time.UnixMilli(1_900_000_000_000)}
	accounts, addresses := login.SmallLedger(login.AccountRule(), 16), login.SmallLedger(login.AddressRule(), 16)
	d.throttle = around(t, mode, accounts, addresses, func() time.Time { return d.now })
	d.lock("ann")
	for _, waits := range []string{"the account and all names alike", "the account alone"} {
		before := [2][]any{accounts.Counted(), addresses.Counted()}
		for range 50 {
			d.now = d.now.Add(time.Millisecond)
			require.Positive(t, d.wrong("ann", home))
		}
		assert.Equal(t, before, [2][]any{accounts.Counted(), addresses.Counted()}, waits)
		d.now = d.now.Add(login.Lock)
		require.Zero(t, d.wrong("ann", away), "one try after the lock, which locks again")
	}
}
