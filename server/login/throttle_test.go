package login_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
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
func (g *guessed) Traits() login.Traits         { return login.Traits{Guesses: g.what} }

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

// door is a throttled mode with a clock.
type door struct {
	testing.TB
	mode     *guessed
	throttle *login.Throttle
	now      time.Time
}

func newDoor(t testing.TB, what login.Guesses) *door {
	d := &door{TB: t, mode: &guessed{what: what}, now: time.UnixMilli(1_900_000_000_000)}
	d.throttle = login.NewThrottle(d.mode, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), func() time.Time { return d.now })
	return d
}

const (
	home = "192.0.2.1"
	away = "198.51.100.7"
)

func (d *door) knock(user, password, from string) error {
	_, err := d.throttle.Check(context.Background(), &login.Attempt{UserID: user, Password: []byte(password), Client: netip.MustParseAddr(from)})
	return err
}

// wrong is a wrong password, which is refused, or throttled for as long as it returns.
func (d *door) wrong(user, from string) time.Duration {
	d.Helper()
	before := d.mode.checked.Load()
	err := d.knock(user, "wrong", from)
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
func (d *door) lock(user string) {
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
		d := newDoor(t, login.GuessesPassword)
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
	d := newDoor(t, login.GuessesPassword)
	d.lock("ann")
	err := d.knock("ann", "right", home)
	throttled, ok := errors.AsType[*login.Throttled](err)
	require.True(t, ok, "the right password does not open a lock: who guesses it would learn so")
	assert.Equal(t, "account", throttled.By)
	assert.Equal(t, 900, throttled.Seconds())
	assert.NoError(t, d.knock("bob", "right", home), "others are not touched")

	d.now = d.now.Add(login.Lock - time.Nanosecond)
	throttled, ok = errors.AsType[*login.Throttled](d.knock("ann", "right", home))
	require.True(t, ok)
	assert.Equal(t, 1, throttled.Seconds(), "rounded up")
	d.now = d.now.Add(time.Nanosecond)
	assert.NoError(t, d.knock("ann", "right", home), "a lock ends by itself")
	for range 4 {
		assert.Zero(t, d.wrong("ann", home), "and a success resets the account")
	}
}

// AUT-07: aliases share one bucket.
func TestThrottleAliases(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	aliases := []string{"Alice", "alice", "ALICE ", "Ａｌｉｃｅ", " aLiCe", "ᴬlice\u00a0"}
	checked := 0
	for i := range 600 {
		if d.wrong(aliases[i%len(aliases)], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
			checked++
		}
	}
	assert.Equal(t, 5, checked)
	for _, alias := range aliases {
		assert.Equal(t, login.AccountBucket("alice"), login.AccountBucket(alias), alias)
	}
	assert.NotEqual(t, login.AccountBucket("alice"), login.AccountBucket("bob"))
}

// aliased is a mode that knows names which do not look alike.
type aliased struct{ guessed }

func (*aliased) UserOf(a *login.Attempt) string {
	if a.UserID == "alice@example.com" {
		return "17"
	}
	return a.UserID
}

func TestThrottleKnownNames(t *testing.T) {
	m := &aliased{guessed{what: login.GuessesPassword}}
	throttle := login.NewThrottle(m, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), nil)
	for i, name := range []string{"alice@example.com", "17", "alice@example.com", "17", "alice@example.com"} {
		a := &login.Attempt{UserID: name, Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
		_, err := throttle.Check(t.Context(), a)
		require.ErrorIs(t, err, login.ErrRefused)
	}
	for _, name := range []string{"alice@example.com", "17"} {
		_, err := throttle.Check(t.Context(), &login.Attempt{UserID: name, Client: netip.MustParseAddr(away)})
		var throttled *login.Throttled
		require.ErrorAs(t, err, &throttled, name)
	}
}

// lookalikes are names that some back ends take for one: those that ignore accents, characters of no width, or both.
var lookalikes = []string{
	"alice", "Àlice", "alicé", "a\u0301lice", "al\u200bice", "\u200dalice", "ali\u00adce", "alice\ufeff", "alice \u2060", "a\u034flice", "al\u180eice", "alice\ufe0f", "alice\U000e0101",
	"ａｌｉｃｅ\u0308", "ǎļĭçę", "al\u2066ice\u2069", "alice\u3164", "alice\U000e0041", "ALİCE", "al\u0489ice",
}

// AUT-07: names that a back end may take for one are guessed at as one, each guess from an address of its own.
func TestThrottleLookalikes(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	checked := 0
	for i := range 600 {
		if d.wrong(lookalikes[i%len(lookalikes)], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
			checked++
		}
	}
	assert.Equal(t, 5, checked)
	assert.Zero(t, d.wrong("alike", home))
	assert.Zero(t, d.wrong("аlice", home), "letters that only look alike are not folded")
}

// Whoever has the account of a name that looks alike does not get more guesses at another's by logging in.
func TestThrottleLookalikesPayForThemselves(t *testing.T) {
	for _, names := range [][2]string{{"josé", "jose"}, {"jose", "josé"}, {"jo\u200bse", "jose"}} {
		d := newDoor(t, login.GuessesPassword)
		checked := 0
		for i := range 100 {
			if d.wrong(names[0], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
				checked++
			}
			_ = d.knock(names[1], "right", away)
		}
		assert.Equal(t, 5, checked, names)
	}
}

// A user who mistypes a password and then logs in, again and again, is not locked out by that.
func TestThrottleForgivesTheOwner(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	for i := range 20 {
		for range 2 {
			require.Zero(t, d.wrong("josé", fmt.Sprintf("203.0.113.%d", i)))
		}
		require.NoError(t, d.knock("josé", "right", home))
		d.now = d.now.Add(5 * time.Minute)
	}
}

// Nothing is computed from the name of an attempt whose address is locked, and a name is normalised once otherwise.
func TestThrottleCostOfNames(t *testing.T) {
	long := strings.Repeat("\ufdfa", 85) // 255 bytes, eleven times as many when normalised
	d := newDoor(t, login.GuessesPassword)
	address := netip.MustParseAddr(home)
	cost := func(name string, from netip.Addr) uint64 {
		a := &login.Attempt{UserID: name, Client: from}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.throttle.Check(t.Context(), a)
		runtime.ReadMemStats(&after)
		require.Error(t, err)
		return after.TotalAlloc - before.TotalAlloc
	}
	normalising := uint64(testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			_ = login.Skeleton(login.Canonical(long))
		}
	}).AllocedBytesPerOp())
	assert.Less(t, cost(long, netip.MustParseAddr(away)), normalising*5/4+4096, "once")
	for i := 0; ; i++ {
		wait := d.wrong(fmt.Sprint("user", i), home)
		if wait >= login.Lock {
			break
		}
		d.now = d.now.Add(wait)
		require.Less(t, i, 100)
	}
	assert.Less(t, cost(long, address), uint64(2048))

	d = newDoor(t, login.GuessesPassword)
	_, err := d.throttle.Check(t.Context(), &login.Attempt{UserID: long + "xx", Password: []byte("right")})
	assert.Equal(t, login.ErrRefused, err, "no client may send a name of 257 bytes")
	assert.Zero(t, d.mode.checked.Load())
}

// A login begins after it was found not to be throttled, and before its password is checked; and if it cannot begin, it counts
// for nothing.
func TestThrottleBegins(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
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
	d := newDoor(t, login.GuessesPassword)
	for i := 0; ; i++ {
		wait := d.wrong(fmt.Sprint("user", i), home)
		if wait >= login.Lock {
			break
		}
		d.now = d.now.Add(wait)
		require.Less(t, i, 30)
	}
	assert.Equal(t, int64(10), d.mode.checked.Load())
	throttled, ok := errors.AsType[*login.Throttled](d.knock("new", "right", home))
	require.True(t, ok)
	assert.Equal(t, "address", throttled.By)
	assert.NoError(t, d.knock("new", "right", away))

	for range 100 {
		d.wrong("victim", home)
	}
	for range 4 {
		assert.Zero(t, d.wrong("victim", away), "an address that is locked locks no accounts")
	}
}

// One account of the attacker's own does not let his address go on.
func TestThrottleSuccessGivesBackItsOwn(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	checked := 0
	for i := range 100 {
		if d.wrong(fmt.Sprint("user", i), home) == 0 {
			checked++
		}
		_ = d.knock("attacker", "right", home)
	}
	assert.Equal(t, 5, checked)

	d = newDoor(t, login.GuessesPassword)
	for range 1000 {
		require.NoError(t, d.knock("ann", "right", home), "successes alone are never throttled")
	}
	// People who log in all the time do not keep their neighbours' failures alive.
	for range 100 {
		require.Zero(t, d.wrong(fmt.Sprint("user", d.now.UnixNano()), home))
		for range 9 {
			require.NoError(t, d.knock("ann", "right", home))
			d.now = d.now.Add(10 * time.Second)
		}
	}
}

// Guesses in parallel count: they are counted before they are checked.
func TestThrottleParallel(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	release := make(chan struct{})
	d.mode.during = func() { <-release }
	var wg sync.WaitGroup
	var refused, throttled atomic.Int64
	const all = 200
	for i := range all {
		wg.Go(func() {
			if errors.Is(d.knock("ann", "wrong", fmt.Sprintf("203.0.113.%d", i)), login.ErrRefused) {
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

// What was not decided counts for nothing.
func TestThrottleUndecided(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	for _, err := range []error{login.ErrBusy, login.ErrUnavailable, fmt.Errorf("%w: down", login.ErrUnavailable), errors.New("odd")} {
		d.mode.err = err
		for range 30 {
			require.ErrorIs(t, d.knock("ann", "right", home), err)
		}
	}
	d.mode.err = nil
	assert.NoError(t, d.knock("ann", "right", home))
}

// In trusted mode only a wrong key counts, only against its address, and a right one always passes.
func TestThrottleKey(t *testing.T) {
	d := newDoor(t, login.GuessesKey)
	var throttled *login.Throttled
	for range 1000 {
		err := d.knock("ann", "wrong", home)
		if !errors.As(err, &throttled) {
			require.Equal(t, login.ErrRefused, err)
		}
	}
	require.NotNil(t, throttled)
	assert.Equal(t, "address", throttled.By)
	for range 1000 {
		require.NoError(t, d.knock("ann", "right", away), "the account is not locked")
	}
	assert.NoError(t, d.knock("ann", "right", home), "nor is a back end that shares the address")
	assert.Equal(t, login.ErrRefused, d.knock("ann", "wrong", away))
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

// Without its counts nobody is let in, and nobody's password is checked: it could be guessed.
func TestThrottleLedgerDown(t *testing.T) {
	for calls := range int64(6) {
		ledger := failing(login.NewMemoryLedger(login.AccountRule()), calls)
		mode := &guessed{what: login.GuessesPassword}
		user, err := login.NewThrottle(mode, ledger, ledger, nil).Check(t.Context(), &login.Attempt{UserID: "ann", Password: []byte("right")})
		require.ErrorIs(t, err, login.ErrUnavailable)
		require.ErrorIs(t, err, errDown)
		assert.Empty(t, user)
		assert.Equal(t, calls >= 3, mode.checked.Load() == 1)
	}
	t.Run("account locked, address cannot be given back", func(t *testing.T) {
		accounts := login.NewMemoryLedger(login.AccountRule())
		fail(t, accounts, login.AccountBucket("ann"), 10, time.Now())
		addresses := failing(login.NewMemoryLedger(login.AddressRule()), 2)
		_, err := login.NewThrottle(&guessed{what: login.GuessesPassword}, accounts, addresses, nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		assert.ErrorIs(t, err, errDown)
	})
	t.Run("undecided, and cannot be given back", func(t *testing.T) {
		ledger := failing(login.NewMemoryLedger(login.AccountRule()), 3)
		mode := &guessed{what: login.GuessesPassword, err: login.ErrBusy}
		_, err := login.NewThrottle(mode, ledger, ledger, nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		require.ErrorIs(t, err, login.ErrBusy)
		assert.ErrorIs(t, err, errDown)
	})
	t.Run("trusted", func(t *testing.T) {
		_, err := login.NewThrottle(&guessed{what: login.GuessesKey}, nil, failing(nil, 0), nil).Check(t.Context(), &login.Attempt{UserID: "ann"})
		assert.ErrorIs(t, err, login.ErrUnavailable)
	})
}

// What is not checked because its account is locked does not lock the address of whoever tries.
func TestThrottleLockedAccountSparesAddress(t *testing.T) {
	d := newDoor(t, login.GuessesPassword)
	d.lock("ann")
	for range 100 {
		require.Positive(t, d.wrong("ann", home))
	}
	assert.NoError(t, d.knock("bob", "right", home))
}

// Whoever hangs up during the check leaves nothing counted that is not to count.
func TestThrottleCancelled(t *testing.T) {
	mode := &guessed{what: login.GuessesPassword}
	ledgers := [2]*broken{failing(login.NewMemoryLedger(login.AccountRule()), 1000), failing(login.NewMemoryLedger(login.AddressRule()), 1000)}
	throttle := login.NewThrottle(mode, ledgers[0], ledgers[1], nil)
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

func TestAttemptIsNotPrinted(t *testing.T) {
	a := &login.Attempt{UserID: "ann", Password: []byte("hunter2"), Authorization: []byte("Bearer hunter2"), Body: []byte("hunter2")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, "login.Attempt", fmt.Sprintf(verb, a))
		assert.Equal(t, "login.Attempt", fmt.Sprintf(verb, *a))
	}
}
