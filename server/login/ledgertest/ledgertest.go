// Package ledgertest is the conformance suite of login.Ledger. A store that has a ledger runs it in an external test
// package, so that the store itself need not import package login.
package ledgertest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// Run tests the ledgers that open returns, which begin empty. Times are whole milliseconds.
func Run(t *testing.T, open func(t *testing.T, rule login.Rule) login.Ledger) {
	t.Helper()
	rule := login.Rule{Forget: time.Minute, Delays: []time.Duration{0, 0, time.Second, 3 * time.Second, 10 * time.Minute}}
	for _, c := range []struct {
		name  string
		check func(b *book)
	}{
		{"delays grow, and the last one stays", delays},
		{"failures are forgotten one by one", forgets},
		{"what was given back was never counted", givesBack},
		{"a reset forgets all", resets},
		{"a clock that goes back", clockGoesBack},
		{"a clock that steps by years and back", clockSteps},
		{"in parallel", parallel},
		{"a bucket of zeros", zeros},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check(&book{T: t, ledger: open(t, rule), now: time.UnixMilli(1_900_000_000_000)})
		})
	}
}

// book is a ledger with a clock.
type book struct {
	*testing.T
	ledger login.Ledger
	now    time.Time
}

func bucket(name string) (b [16]byte) {
	copy(b[:], name)
	return b
}

// reserve calls Wait, twice because it counts nothing, and Reserve, and checks the wait that they return.
func (b *book) reserve(name string, want time.Duration) {
	b.Helper()
	for range 2 {
		wait, err := b.ledger.Wait(b.Context(), bucket(name), b.now)
		require.NoError(b, err)
		require.Equal(b, want, wait)
	}
	wait, err := b.ledger.Reserve(b.Context(), bucket(name), b.now)
	require.NoError(b, err)
	require.Equal(b, want, wait)
}

func (b *book) giveBack(name string) {
	b.Helper()
	require.NoError(b, b.ledger.GiveBack(b.Context(), bucket(name)))
}

func (b *book) reset(name string) {
	b.Helper()
	require.NoError(b, b.ledger.Reset(b.Context(), bucket(name)))
}

func delays(b *book) {
	for _, wait := range []time.Duration{0, 0, time.Second, 3 * time.Second, 10 * time.Minute} {
		b.reserve("ann", 0)
		if wait == 0 {
			continue
		}
		b.reserve("ann", wait)
		b.now = b.now.Add(wait - time.Millisecond)
		b.reserve("ann", time.Millisecond)
		b.reserve("ann", time.Millisecond) // a refused attempt is not counted
		b.reserve("bob", 0)                // and no other bucket is affected
		b.reset("bob")
		b.now = b.now.Add(time.Millisecond)
	}
	b.reserve("ann", 0) // ten minutes are long enough to forget five failures
	b.reserve("ann", 0)
	b.reserve("ann", 0)
	b.reserve("ann", time.Second)
}

func forgets(b *book) {
	for range 3 {
		b.reserve("ann", 0)
	}
	b.now = b.now.Add(time.Minute)
	b.reserve("ann", 0) // one of three failures is forgotten
	b.reserve("ann", time.Second)
	b.now = b.now.Add(3*time.Minute - time.Millisecond)
	b.reserve("ann", 0) // all failures but one are forgotten
	b.reserve("ann", 0)
	b.reserve("ann", time.Second)
	b.now = b.now.Add(24 * time.Hour)
	for range 3 {
		b.reserve("ann", 0)
	}
	b.reserve("ann", time.Second)
}

func givesBack(b *book) {
	b.giveBack("ann") // there is nothing to give back
	for range 20 {
		b.reserve("ann", 0)
		b.giveBack("ann")
	}
	b.giveBack("ann")
	for range 3 {
		b.reserve("ann", 0)
	}
	b.reserve("ann", time.Second)
	b.giveBack("bob")
	b.reserve("ann", time.Second)
	b.giveBack("ann")
	b.reserve("ann", 0)
	b.reserve("ann", time.Second)
	for range 5 {
		b.giveBack("ann") // giving back more than was counted gives no credit
	}
	for range 3 {
		b.reserve("ann", 0)
	}
	b.reserve("ann", time.Second)
}

func resets(b *book) {
	b.reset("ann")
	for range 3 {
		b.reserve("ann", 0)
		b.reserve("bob", 0)
	}
	b.reset("ann")
	b.reserve("bob", time.Second)
	for range 3 {
		b.reserve("ann", 0)
	}
	b.reserve("ann", time.Second)
}

func clockGoesBack(b *book) {
	for range 3 {
		b.reserve("ann", 0)
	}
	b.now = b.now.Add(-time.Hour)
	b.reserve("ann", time.Second) // the wait is no longer than the delay
	b.now = b.now.Add(time.Second)
	b.reserve("ann", 0) // and it ends by the clock that went back
	b.reserve("ann", 3*time.Second)
}

// clockSteps steps the clock and back again. Nothing that happens while the clock is wrong locks a bucket for longer, and a
// lock from before lasts no longer than its delay; only a clock that is ahead ends locks early.
func clockSteps(b *book) {
	for i, step := range []time.Duration{-4 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 4 * 365 * 24 * time.Hour} {
		locked, fresh, late := fmt.Sprint("locked", i), fmt.Sprint("fresh", i), fmt.Sprint("late", i)
		b.fail(locked, 5)
		b.reserve(locked, 10*time.Minute)

		b.now = b.now.Add(step)
		if step < 0 {
			b.reserve(locked, 10*time.Minute)
			b.now = b.now.Add(10 * time.Minute)
		}
		b.reserve(locked, 0) // the lock is over by this clock
		b.reserve(fresh, 0)
		b.fail(late, 5)
		b.reserve(late, 10*time.Minute)

		b.now = b.now.Add(-step)
		if step < 0 {
			b.reserve(fresh, 0) // by this clock the first failure is long past
		}
		b.reserve(fresh, 0)
		b.reserve(fresh, 0)
		b.reserve(fresh, time.Second) // three failures, and no more
		if step > 0 {
			b.reserve(late, 10*time.Minute) // from the first attempt that meets it
			b.now = b.now.Add(10 * time.Minute)
		}
		b.reserve(late, 0)
		b.reserve(locked, 0)
		b.now = b.now.Add(24 * time.Hour) // all is forgotten
		for _, name := range []string{locked, fresh, late} {
			for range 3 {
				b.reserve(name, 0)
			}
			b.reserve(name, time.Second)
		}
	}
}

// fail counts so many failures, each as soon as it may be counted.
func (b *book) fail(name string, n int) {
	b.Helper()
	for range n {
		wait, err := b.ledger.Reserve(b.Context(), bucket(name), b.now)
		require.NoError(b, err)
		if wait > 0 {
			b.now = b.now.Add(wait)
			b.reserve(name, 0)
		}
	}
}

func parallel(b *book) {
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			wait, err := b.ledger.Reserve(b.Context(), bucket("ann"), b.now)
			assert.NoError(b, err)
			if wait == 0 {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	assert.Equal(b, int64(3), taken.Load(), "parallel attempts count like others")
}

func zeros(b *book) {
	for range 3 {
		b.reserve("", 0)
	}
	b.reserve("", time.Second)
	b.reserve("ann", 0)
}
