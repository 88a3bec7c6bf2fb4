package coatcheck_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A commit that meets a conflict goes on by the time that it is then: a session that expires while it waits stays dead.
func TestConflictIsJudgedByTheTimeAfterIt(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	require.NoError(t, s.Insert("x", 1))
	w.store.once(opSwap, func() {
		w.do(cookie, insert("y", 1))
		w.clock.Step(ttl)
	})
	assert.Equal(t, answer{}, w.finish(s))
	assert.Equal(t, 1, s.Report().Dropped)
	assert.Empty(t, s.UserID())
}

// Housekeeping that gave up among conflicts leaves the request on the record whose values it shows: changes that the handler makes
// after it, as one that has sent its header may, meet the conflict again and lose nothing of the others.
func TestChangesAfterHousekeepingThatGaveUp(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RetryFor = time.Millisecond })
	cookie := w.login("u")
	w.clock.Step(renew)
	s := w.open(cookie)
	others, inOther := 0, false
	w.store.before = func(_ context.Context, op string) error {
		if op == opSwap && !inOther {
			inOther = true
			others++
			w.clock.Step(-renew) // so that the renewal stays due
			w.do(cookie, insert("other", others))
			w.clock.Step(renew)
			inOther = false
		}
		return nil
	}
	w.finish(s)
	w.store.before = nil
	require.Equal(t, 1, s.Report().NotNoted)
	assert.ErrorIs(t, s.Report().NotNotedFor, coatcheck.ErrConflict)
	require.NoError(t, s.Insert("x", 1))
	w.finish(s)
	assert.Equal(t, "1", w.value(cookie, "x"))
	wantValue(t, w.open(cookie).Lend(), "other", others)
}
