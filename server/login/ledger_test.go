package login_test

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/login/ledgertest"
)

func TestMemoryLedger(t *testing.T) {
	ledgertest.Run(t, func(_ *testing.T, rule login.Rule) login.Ledger { return login.NewMemoryLedger(rule) })
}

// name returns the bucket of the i-th sprayed name.
func name(i int) (b [16]byte) {
	binary.LittleEndian.PutUint64(b[8:], uint64(i))
	return b
}

func mustReserve(t *testing.T, l login.Ledger, bucket [16]byte, now time.Time) time.Duration {
	t.Helper()
	before, err := l.Wait(t.Context(), bucket, now)
	require.NoError(t, err)
	wait, err := l.Reserve(t.Context(), bucket, now)
	require.NoError(t, err)
	require.Equal(t, before, wait, "Wait says what Reserve does")
	return wait
}

// fail counts n failures, as soon as they are taken, and returns the time of the last one.
func fail(t *testing.T, l login.Ledger, bucket [16]byte, n int, now time.Time) time.Time {
	t.Helper()
	for counted := 0; counted < n; {
		wait := mustReserve(t, l, bucket, now)
		if wait == 0 {
			counted++
		}
		now = now.Add(wait)
	}
	return now
}

// AUT-08: a million random names do not make a ledger forget the one that is locked, nor one that is on its way there, and
// take no memory.
func TestSpray(t *testing.T) {
	l := login.NewMemoryLedger(login.AccountRule())
	admin, slow := [16]byte{1}, [16]byte{2}
	now := fail(t, l, admin, 10, time.UnixMilli(1_900_000_000_000))
	fail(t, l, slow, 2, now)
	require.Equal(t, login.Lock, mustReserve(t, l, admin, now))

	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const workers = 4
	names := quickly(1_000_000)
	refused := make([]int, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			ctx := t.Context()
			for i := w; i < names; i += workers {
				wait, err := l.Reserve(ctx, name(i), now)
				if err != nil || wait > 0 {
					refused[w]++
				}
			}
		})
	}
	wg.Wait()
	assert.Less(t, int64(heap())-int64(before), int64(1<<20))
	assert.Equal(t, make([]int, workers), refused, "and no name that fails once is locked because of the others")

	assert.Equal(t, login.Lock, mustReserve(t, l, admin, now), "locked still")
	assert.Equal(t, login.Lock-time.Minute, mustReserve(t, l, admin, now.Add(time.Minute)))
	fail(t, l, slow, 3, now)
	assert.Equal(t, time.Second, mustReserve(t, l, slow, now), "two failures and three make five")
}

// Names that fail often enough to fill the ledger with locked ones open nothing.
func TestSaturation(t *testing.T) {
	l := login.SmallLedger(login.AccountRule(), 16)
	now := time.UnixMilli(1_900_000_000_000)
	admin := [16]byte{1}
	last := fail(t, l, admin, 10, now)
	for i := range 1000 {
		at := now
		for range 15 { // ten failures, and five attempts that come too early
			at = at.Add(mustReserve(t, l, name(i), at))
		}
	}
	wait := mustReserve(t, l, admin, last)
	assert.Positive(t, wait)
	assert.LessOrEqual(t, wait, login.Lock)
	over := now.Add(24 * time.Hour)
	for i := range 1000 {
		require.Zero(t, mustReserve(t, l, name(-i), over), "a lock is over when the ledger forgets it")
	}
}

// Where a set is full of locked names, no other one is locked because of them, however often it fails, nor when the locks are over:
// others wait for 16 seconds after each failure. And the locked ones stay locked.
func TestSaturationLocksNobody(t *testing.T) {
	l := login.SmallLedger(login.AccountRule(), 1)
	now := time.UnixMilli(1_900_000_000_000)
	var locked [8]time.Time
	for i := range locked {
		now = fail(t, l, name(i), 10, now)
		locked[i] = now.Add(login.Lock)
	}
	var waits []time.Duration
	for i := range 16 {
		require.Zero(t, mustReserve(t, l, name(1000+i), now))
		wait := mustReserve(t, l, name(2000), now)
		if wait == 0 { // which counts
			continue
		}
		waits = append(waits, wait)
		now = now.Add(wait)
	}
	s := time.Second
	assert.Equal(t, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 16 * s}, waits[:6])
	assert.Equal(t, 16*s, waits[len(waits)-1])
	require.NoError(t, l.GiveBack(t.Context(), name(1000)))
	require.NoError(t, l.Reset(t.Context(), name(1001)))
	assert.Equal(t, 4*s, mustReserve(t, l, name(2000), now.Add(-16*s)), "what succeeded is taken back")
	for i, until := range locked {
		assert.Equal(t, until.Sub(now), mustReserve(t, l, name(i), now))
	}
	now = fail(t, l, name(3000), 12, locked[7])
	assert.Equal(t, 16*s, mustReserve(t, l, name(3000), now), "when the locks are over")
	for i := range locked {
		require.Zero(t, mustReserve(t, l, name(i), now))
		assert.Equal(t, login.Lock, mustReserve(t, l, name(i), now), "one more failure locks again: no other name has pushed out this one")
	}
}

// Names that are kept just below their lock lock no other one either, and are not forgotten. With fewer failures a name is pushed out by
// another one, which starts with them.
func TestNearlyLocked(t *testing.T) {
	for _, rule := range []login.Rule{login.AccountRule(), login.AddressRule()} {
		l, now := login.SmallLedger(rule, 1), time.UnixMilli(1_900_000_000_000)
		var last time.Time
		for i := range 8 {
			last = fail(t, l, name(i), 9, now)
		}
		now = fail(t, l, name(1000), 8, last) // takes 15 s
		assert.Equal(t, 8*time.Second, mustReserve(t, l, name(1001), now), "others share a count")
		now = last.Add(16 * time.Second)
		for i := range 8 {
			require.Zero(t, mustReserve(t, l, name(i), now))
			assert.Equal(t, login.Lock, mustReserve(t, l, name(i), now), "the tenth failure")
		}

		l = login.SmallLedger(rule, 1)
		for i := range 8 {
			last = fail(t, l, name(i), 8, now)
		}
		now = last.Add(8 * time.Second)
		require.Zero(t, mustReserve(t, l, name(1000), now))
		assert.Equal(t, 16*time.Second, mustReserve(t, l, name(1000), now), "starts with eight")
	}
}

// The failures of a name that has lost its place, and finds no other one, count where it counts then.
func TestDisplacedFailuresCount(t *testing.T) {
	l, now := login.SmallLedger(login.AccountRule(), 1), time.UnixMilli(1_900_000_000_000)
	for i := range 7 {
		now = fail(t, l, name(i), 10, now)
	}
	now = fail(t, l, name(1000), 8, now)
	now = fail(t, l, name(2000), 1, now) // waits for the eight failures of the place that it takes
	require.Zero(t, mustReserve(t, l, name(1000), now))
	assert.Equal(t, 16*time.Second, mustReserve(t, l, name(1000), now), "the ninth failure")
}

// Names without a place are limited also by a rule that has no delay but its last one.
func TestNoPlaceUnderARuleOfOneDelay(t *testing.T) {
	for _, delays := range [][]time.Duration{{2 * time.Second}, append(make([]time.Duration, 31), 2*time.Second)} {
		l, now := login.SmallLedger(login.Rule{Forget: 2 * time.Second, Delays: delays}, 1), time.UnixMilli(1_900_000_000_000)
		for i := range 8 {
			fail(t, l, name(i), len(delays), now)
		}
		for _, free := range []int{len(delays), 1, 1} {
			for i := range free {
				require.Zero(t, mustReserve(t, l, name(1000+i), now))
			}
			assert.Equal(t, 2*time.Second, mustReserve(t, l, name(2000), now), "of %d delays", len(delays))
			now = now.Add(2 * time.Second)
			for i := range 8 {
				fail(t, l, name(i), 1, now)
			}
		}
	}
}

// With a rule of one delay a new name has a count of its own, too, and its first failure locks it.
func TestOneDelay(t *testing.T) {
	l, now := login.SmallLedger(login.Rule{Forget: time.Minute, Delays: []time.Duration{time.Minute}}, 1), time.UnixMilli(1_900_000_000_000)
	fail(t, l, name(1), 1, now)
	assert.Equal(t, time.Minute, mustReserve(t, l, name(1), now))
	assert.Zero(t, mustReserve(t, l, name(2), now))
}

// If all names in a full ledger have failed twice, failures of other names do not push a name out so that it could be tried again.
func TestFlush(t *testing.T) {
	l := login.SmallLedger(login.AccountRule(), 1)
	now := time.UnixMilli(1_900_000_000_000)
	for i := range 8 {
		fail(t, l, name(i), 2, now)
	}
	tries := 0
	for i := range 100 {
		if mustReserve(t, l, [16]byte{1}, now) == 0 {
			tries++
		}
		for k := range 20 {
			mustReserve(t, l, name(1000+20*i+k), now)
		}
	}
	assert.LessOrEqual(t, tries, 3)
}

// The rules in plain words: four failures are free, then it takes longer and longer, and the tenth locks.
func TestRules(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rule  login.Rule
		after int // failures that are free after a lock
		quiet time.Duration
	}{
		{"account", login.AccountRule(), 1, 150 * time.Minute},
		{"address", login.AddressRule(), 4, 15 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := login.NewMemoryLedger(tc.rule)
			b, now := [16]byte{1}, time.UnixMilli(1_900_000_000_000)
			now = fail(t, l, b, 4, now)
			var waits []time.Duration
			for range 6 {
				require.Zero(t, mustReserve(t, l, b, now))
				wait := mustReserve(t, l, b, now)
				waits = append(waits, wait)
				now = now.Add(wait)
			}
			s := time.Second
			assert.Equal(t, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 15 * time.Minute}, waits)
			for range tc.after {
				assert.Zero(t, mustReserve(t, l, b, now), "after the lock")
			}
			if tc.after == 1 {
				assert.Equal(t, login.Lock, mustReserve(t, l, b, now), "one more failure locks again")
			}
			now = now.Add(tc.quiet)
			for range 4 {
				assert.Zero(t, mustReserve(t, l, b, now), "after that much time without a failure the count begins anew")
			}
		})
	}
}

func BenchmarkMemoryLedger(b *testing.B) {
	l := login.NewMemoryLedger(login.AccountRule())
	now := time.UnixMilli(1_900_000_000_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Reserve(b.Context(), name(i), now); err != nil {
			b.Fatal(err)
		}
	}
}
