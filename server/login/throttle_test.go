package login_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// guessed is a mode with one password for all, which counts what it checks.
type guessed struct {
	what    login.Guesses
	checked atomic.Int64
	err     error  // instead of a decision
	during  func() // every check
}

func (*guessed) UserOf(a *login.Attempt) string { return a.UserID }

func (g *guessed) Traits() login.Traits { return login.Traits{Guesses: g.what} }

func (g *guessed) Check(_ context.Context, a *login.Attempt) (string, error) {
	g.checked.Add(1)
	if g.during != nil {
		g.during()
	}
	switch {
	case g.err != nil:
		return "", g.err
	case string(a.Password) != "right":
		return "", login.ErrRefused
	}
	return a.UserID, nil
}

// throttled is a throttled mode with a clock.
type throttled struct {
	testing.TB
	mode     *guessed
	throttle *login.Throttle
	now      time.Time
}

func newThrottled(t testing.TB, what login.Guesses) *throttled {
	d := &throttled{TB: t, mode: &guessed{what: what}, now: time.UnixMilli(1_900_000_000_000)}
	d.throttle = around(t, d.mode, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), func() time.Time { return d.now })
	return d
}

const (
	home = "192.0.2.1"
	away = "198.51.100.7"
)

func (d *throttled) try(user, password, from string) error {
	_, err := d.throttle.Check(context.Background(), &login.Attempt{UserID: user, Password: []byte(password), Client: netip.MustParseAddr(from)})
	return err
}

// wrong tries a wrong password. It returns 0 if that was refused, and otherwise for how long the account or address is throttled.
func (d *throttled) wrong(user, from string) time.Duration {
	d.Helper()
	before := d.mode.checked.Load()
	err := d.try(user, "wrong", from)
	if throttled, ok := errors.AsType[*login.Throttled](err); ok {
		require.NotErrorIs(d, err, login.ErrRefused)
		require.Equal(d, before, d.mode.checked.Load(), "what is throttled is not checked")
		require.Positive(d, throttled.RetryAfter)
		return throttled.RetryAfter
	}
	require.Equal(d, login.ErrRefused, err)
	require.Equal(d, before+1, d.mode.checked.Load())
	return 0
}

// lock fails ten times from as many addresses, as soon as it may.
func (d *throttled) lock(user string) {
	d.Helper()
	for failed := 0; failed < 10; {
		wait := d.wrong(user, fmt.Sprintf("203.0.113.%d", failed))
		if wait == 0 {
			failed++
		}
		d.now = d.now.Add(wait)
	}
}

// AUT-06, AUT-01: an account that exists and one that does not, after the same failures.
func TestThrottleAccount(t *testing.T) {
	var traces [2][]time.Duration
	for i, user := range []string{"known", "unknown"} {
		d := newThrottled(t, login.GuessesPassword)
		for k := range 20 {
			wait := d.wrong(user, fmt.Sprintf("203.0.113.%d", k))
			traces[i] = append(traces[i], wait)
			d.now = d.now.Add(wait)
		}
	}
	s := time.Second
	assert.Equal(t, []time.Duration{0, 0, 0, 0, 0, s, 0, 2 * s, 0, 4 * s, 0, 8 * s, 0, 16 * s, 0, 15 * time.Minute, 0, 15 * time.Minute, 0, 15 * time.Minute}, traces[0])
	assert.Equal(t, traces[0], traces[1])
}

func TestThrottleLock(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	d.lock("ann")
	err := d.try("ann", "right", home)
	throttled, ok := errors.AsType[*login.Throttled](err)
	require.True(t, ok, "the right password does not end a lock: an attacker would learn that the guess was right")
	assert.Equal(t, "account", throttled.By)
	assert.Equal(t, 900, throttled.Seconds())
	assert.NoError(t, d.try("bob", "right", home), "others are not touched")

	d.now = d.now.Add(login.Lock - time.Nanosecond)
	throttled, ok = errors.AsType[*login.Throttled](d.try("ann", "right", home))
	require.True(t, ok)
	assert.Equal(t, 1, throttled.Seconds(), "rounded up")
	d.now = d.now.Add(time.Nanosecond)
	assert.NoError(t, d.try("ann", "right", home), "a lock ends by itself")
	for range 4 {
		assert.Zero(t, d.wrong("ann", home), "and a success resets the account")
	}
}

// A user who mistypes a password and then logs in, again and again, is not locked out by that.
func TestThrottleForgivesTheOwner(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	for i := range 20 {
		for range 2 {
			require.Zero(t, d.wrong("josé", fmt.Sprintf("203.0.113.%d", i)))
		}
		require.NoError(t, d.try("josé", "right", home))
		d.now = d.now.Add(5 * time.Minute)
	}
}

// A login begins after the throttle has let it pass, and before its password is checked. If it cannot begin, it does not count.
func TestThrottleBegins(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	errBegin := errors.New("no mark")
	begun := 0
	try := func(err error) error {
		a := &login.Attempt{UserID: "ann", Password: []byte("right"), Client: netip.MustParseAddr(home)}
		_, err = login.Check(t.Context(), d.throttle, a, func(user string) error {
			assert.Equal(t, "ann", user)
			begun++
			assert.EqualValues(t, 0, d.mode.checked.Load())
			return err
		})
		return err
	}
	for range 30 {
		require.ErrorIs(t, try(errBegin), errBegin)
	}
	assert.Zero(t, d.mode.checked.Load())
	require.NoError(t, try(nil))
	assert.Equal(t, 31, begun)
	d.lock("ann")
	var throttled *login.Throttled
	require.ErrorAs(t, try(nil), &throttled)
	assert.Equal(t, 31, begun)
}

func TestAddressBuckets(t *testing.T) {
	bucket := func(s string) [16]byte { return login.AddressBucket(netip.MustParseAddr(s)) }
	for _, same := range [][2]string{
		{"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"},
		{"fe80::1%eth0", "fe80::2%eth1"},
	} {
		assert.Equal(t, bucket(same[0]), bucket(same[1]), same)
	}
	for _, other := range [][2]string{
		{"192.0.2.1", "192.0.2.2"},
		{"2001:db8:1:2::1", "2001:db8:1:3::1"},
		{"::ffff:192.0.2.1", "::192.0.2.1"},
	} {
		assert.NotEqual(t, bucket(other[0]), bucket(other[1]), other)
	}
	assert.NotEqual(t, login.AddressBucket(netip.Addr{}), bucket("0.0.0.0"))
	assert.NotEqual(t, login.AddressBucket(netip.Addr{}), login.AccountBucket(""), "an account is no address")
	assert.NotEqual(t, bucket("97.98.99.100"), login.AccountBucket("abcd"))
}

// AUT-06: one address that tries many accounts.
func TestThrottleAddress(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	for i := 0; ; i++ {
		wait := d.wrong(fmt.Sprint("user", i), home)
		if wait >= login.Lock {
			break
		}
		d.now = d.now.Add(wait)
		require.Less(t, i, 30)
	}
	assert.Equal(t, int64(10), d.mode.checked.Load())
	throttled, ok := errors.AsType[*login.Throttled](d.try("new", "right", home))
	require.True(t, ok)
	assert.Equal(t, "address", throttled.By)
	assert.NoError(t, d.try("new", "right", away))

	for range 100 {
		d.wrong("victim", home)
	}
	for range 4 {
		assert.Zero(t, d.wrong("victim", away), "an address that is locked locks no accounts")
	}
}

// An attacker who logs in to an account of their own gets no further guesses from that address.
func TestThrottleSuccessGivesBackItsOwn(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	checked := 0
	for i := range 100 {
		if d.wrong(fmt.Sprint("user", i), home) == 0 {
			checked++
		}
		_ = d.try("attacker", "right", home)
	}
	assert.Equal(t, 5, checked)

	d = newThrottled(t, login.GuessesPassword)
	for range 1000 {
		require.NoError(t, d.try("ann", "right", home), "successes alone are never throttled")
	}
	// Frequent successful logins do not prolong the failures of other users at the same address.
	for range 100 {
		require.Zero(t, d.wrong(fmt.Sprint("user", d.now.UnixNano()), home))
		for range 9 {
			require.NoError(t, d.try("ann", "right", home))
			d.now = d.now.Add(10 * time.Second)
		}
	}
}

// Guesses in parallel count: they are counted before they are checked.
func TestThrottleParallel(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	release := make(chan struct{})
	d.mode.during = func() { <-release }
	var wg sync.WaitGroup
	var refused, throttled atomic.Int64
	const all = 200
	for i := range all {
		wg.Go(func() {
			if errors.Is(d.try("ann", "wrong", fmt.Sprintf("203.0.113.%d", i)), login.ErrRefused) {
				refused.Add(1)
			} else if throttled.Add(1) == all-5 {
				close(release)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int64(5), refused.Load())
	assert.Equal(t, int64(5), d.mode.checked.Load())
}

// An attempt that was not decided does not count.
func TestThrottleUndecided(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	for _, err := range []error{login.ErrBusy, login.ErrUnavailable, fmt.Errorf("%w: down", login.ErrUnavailable), errors.New("odd")} {
		d.mode.err = err
		for range 30 {
			require.ErrorIs(t, d.try("ann", "right", home), err)
		}
	}
	d.mode.err = nil
	assert.NoError(t, d.try("ann", "right", home))
}

// In trusted mode only a wrong key counts, only against its address, and a right one always passes.
func TestThrottleKey(t *testing.T) {
	d := newThrottled(t, login.GuessesKey)
	var throttled *login.Throttled
	for range 1000 {
		err := d.try("ann", "wrong", home)
		if !errors.As(err, &throttled) {
			require.Equal(t, login.ErrRefused, err)
		}
	}
	require.NotNil(t, throttled)
	assert.Equal(t, "address", throttled.By)
	for range 1000 {
		require.NoError(t, d.try("ann", "right", away), "the account is not locked")
	}
	assert.NoError(t, d.try("ann", "right", home), "nor is a back end that shares the address")
	assert.Equal(t, login.ErrRefused, d.try("ann", "wrong", away))
}

// broken is a ledger whose store is down, from some call on, and which looks at its context.
type broken struct {
	login.Ledger
	left atomic.Int64
}

// failing returns a ledger that answers so many calls.
func failing(l login.Ledger, calls int64) *broken {
	b := &broken{Ledger: l}
	b.left.Store(calls)
	return b
}

var errDown = errors.New("down")

func (b *broken) err(ctx context.Context) error {
	if b.left.Add(-1) < 0 {
		return errDown
	}
	return ctx.Err()
}

func (b *broken) Reserve(ctx context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	if err := b.err(ctx); err != nil {
		return 0, err
	}
	return b.Ledger.Reserve(ctx, bucket, now)
}

func (b *broken) Wait(ctx context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	if err := b.err(ctx); err != nil {
		return 0, err
	}
	return b.Ledger.Wait(ctx, bucket, now)
}

func (b *broken) GiveBack(ctx context.Context, bucket [16]byte) error {
	if err := b.err(ctx); err != nil {
		return err
	}
	return b.Ledger.GiveBack(ctx, bucket)
}

func (b *broken) Reset(ctx context.Context, bucket [16]byte) error {
	if err := b.err(ctx); err != nil {
		return err
	}
	return b.Ledger.Reset(ctx, bucket)
}

// late is a ledger in which every failure is counted between Wait and Reserve, by other attempts.
type late struct{ login.Ledger }

func (late) Wait(context.Context, [16]byte, time.Time) (time.Duration, error) { return 0, nil }

// If the ledger fails, no password is checked and no login succeeds: otherwise passwords could be guessed without a limit.
func TestThrottleLedgerDown(t *testing.T) {
	for calls := range int64(9) {
		ledger := failing(login.NewMemoryLedger(login.AccountRule()), calls)
		mode := &guessed{what: login.GuessesPassword}
		user, err := around(t, mode, ledger, ledger, nil).Check(t.Context(), &login.Attempt{UserID: "ann", Password: []byte("right")})
		require.ErrorIs(t, err, login.ErrUnavailable)
		require.ErrorIs(t, err, errDown)
		assert.Empty(t, user)
		assert.Equal(t, calls >= 6, mode.checked.Load() == 1)
	}
	t.Run("account locked meanwhile, address cannot be given back", func(t *testing.T) {
		accounts := login.NewMemoryLedger(login.AccountRule())
		fail(t, accounts, login.AccountBucket("ann"), 10, time.Now())
		addresses := failing(login.NewMemoryLedger(login.AddressRule()), 4)
		_, err := around(t, &guessed{what: login.GuessesPassword}, late{accounts}, addresses, nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		assert.ErrorIs(t, err, errDown)
	})
	t.Run("undecided, and cannot be given back", func(t *testing.T) {
		ledger := failing(login.NewMemoryLedger(login.AccountRule()), 6)
		mode := &guessed{what: login.GuessesPassword, err: login.ErrBusy}
		_, err := around(t, mode, ledger, ledger, nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		require.ErrorIs(t, err, login.ErrBusy)
		assert.ErrorIs(t, err, errDown)
	})
	t.Run("trusted", func(t *testing.T) {
		_, err := around(t, &guessed{what: login.GuessesKey}, nil, failing(nil, 0), nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		assert.ErrorIs(t, err, login.ErrUnavailable)
	})
}

// An attempt that is not checked, because its account is locked, does not count against the address that it comes from.
func TestThrottleLockedAccountSparesAddress(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	d.lock("ann")
	for range 100 {
		require.Positive(t, d.wrong("ann", home))
	}
	assert.NoError(t, d.try("bob", "right", home))
}

// If the client disconnects during the check, an attempt that must not count is still taken back.
func TestThrottleCancelled(t *testing.T) {
	mode := &guessed{what: login.GuessesPassword}
	ledgers := [2]*broken{failing(login.NewMemoryLedger(login.AccountRule()), 1000), failing(login.NewMemoryLedger(login.AddressRule()), 1000)}
	throttle := around(t, mode, ledgers[0], ledgers[1], nil)
	for i := range 30 {
		mode.err = nil
		if i%2 == 1 {
			mode.err = login.ErrBusy
		}
		ctx, cancel := context.WithCancel(t.Context())
		mode.during = cancel
		_, err := throttle.Check(ctx, &login.Attempt{UserID: "ann", Password: []byte("right")})
		require.ErrorIs(t, err, mode.err)
	}
}
