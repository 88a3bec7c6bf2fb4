package login_test

import (
	"net/netip"
	"strings"
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

// normalised tries the names in turn from home, with so long between two attempts, and returns how many names were normalised. All
// attempts are throttled.
func (d *throttled) normalised(attempts int, between time.Duration, names ...string) (n int) {
	d.Helper()
	for i := range attempts {
		a := &login.Attempt{UserID: names[i%len(names)], Password: []byte("wrong"), Client: netip.MustParseAddr(home)}
		_, err := d.throttle.Check(d.Context(), a)
		var throttled *login.Throttled
		require.ErrorAs(d, err, &throttled)
		require.LessOrEqual(d, throttled.RetryAfter, login.Lock)
		if a.Normalised() {
			n++
		}
		d.now = d.now.Add(between)
	}
	return n
}

// An address that goes on trying accounts which have to wait has few of their names normalised: it never comes to a lock by that.
func TestRefusedNamesAreBounded(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	names := []string{"ann", strings.Repeat("\ufdfa", 85), strings.Repeat("\ufdfa", 84)}
	for _, name := range names {
		d.lock(name)
	}
	assert.Equal(t, 128, d.normalised(2000, 0, names...), "at once")
	assert.NoError(t, d.try("bob", "right", away), "other addresses are not touched")
	assert.InDelta(t, 300, d.normalised(3000, 10*time.Millisecond, names...), 10, "in 30 s, ten a second")
	d.now = d.now.Add(15 * time.Second)
	assert.NoError(t, d.try("bob", "right", home), "all is forgotten")
}

// So has an address whose attempts the mode itself refuses, as a webhook does that was asked too often.
func TestNamesThatTheModeThrottlesAreBounded(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	d.mode.err = &login.Throttled{RetryAfter: time.Second, By: "address"}
	assert.Equal(t, 128, d.normalised(2000, 0, "ann"))
}

// One who retries a locked account five times a second for long locks out nobody who shares the address.
func TestOfficeThatRetriesALockedAccount(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	d.lock("ann")
	for range 800 { // 800 s, less than the lock
		require.Equal(t, 5, d.normalised(5, 200*time.Millisecond, "ann"))
		require.NoError(t, d.try("bob", "right", home))
	}
	for range 2000 {
		require.NoError(t, d.try("bob", "right", home), "nor does a success count")
	}
}
