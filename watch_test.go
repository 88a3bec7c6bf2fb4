package coatcheck_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck"
)

const patience = 30 * time.Second

// watched begins to watch the session of a token.
func watched(ctx context.Context, w *world, token string) <-chan coatcheck.EndReason {
	w.t.Helper()
	done := make(chan coatcheck.EndReason, 2)
	w.do(token, func(s *coatcheck.Session) {
		require.NoError(w.t, coatcheck.Watch(ctx, s, func(reason coatcheck.EndReason) { done <- reason }))
	})
	return done
}

// reasonOf waits for the reason.
func reasonOf(t *testing.T, done <-chan coatcheck.EndReason) coatcheck.EndReason {
	t.Helper()
	select {
	case reason := <-done:
		return reason
	case <-time.After(patience):
		require.Fail(t, "the watcher is told nothing")
		return ""
	}
}

func newWatchedWorld(t *testing.T, adjust ...func(*coatcheck.Policy)) *world {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t, goleak.IgnoreCurrent()) })
	w := newWorld(t, adjust...)
	w.m.SetWatchEvery(time.Millisecond)
	return w
}

func TestWatchTellsWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(t *testing.T, w *world, token string)
		want coatcheck.EndReason
	}{
		"logout": {func(_ *testing.T, w *world, token string) { w.logout(token) }, coatcheck.ReasonEnded},
		"a login": {func(_ *testing.T, w *world, token string) {
			w.do(token, func(s *coatcheck.Session) { _ = s.Authenticate("v") })
		}, coatcheck.ReasonEnded},
		"the limit": {func(_ *testing.T, w *world, _ string) { w.clock.Step(time.Second); w.login("u") }, coatcheck.ReasonEnded},
		"an administrator": {func(t *testing.T, w *world, _ string) {
			_, err := w.m.EndUser(t.Context(), "u")
			require.NoError(t, err)
		}, coatcheck.ReasonEnded},
		"not before": {func(_ *testing.T, w *world, _ string) { w.m.SetNotBefore(w.clock.Now().Add(time.Second)) }, coatcheck.ReasonEnded},
		"idle":       {func(_ *testing.T, w *world, _ string) { w.clock.Step(ttl) }, coatcheck.ReasonExpired},
		"a refresh, after its grace": {func(_ *testing.T, w *world, token string) {
			next := w.refresh(token).token
			w.do(next, func(*coatcheck.Session) {}) // the grace begins
			w.clock.Step(grace)
		}, coatcheck.ReasonRotated},
		"a new privilege": {func(_ *testing.T, w *world, token string) { w.do(token, (*coatcheck.Session).CycleID) }, coatcheck.ReasonRotated},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatchedWorld(t, func(p *coatcheck.Policy) { p.MaxPerUser = 1 })
			token := w.login("u")
			done := watched(t.Context(), w, token)
			tt.end(t, w, token)
			assert.Equal(t, tt.want, reasonOf(t, done))
			assert.Zero(t, w.m.Watchers())
			assert.Empty(t, done, "told once")
		})
	}
}

// A renewal moves the expiry that a watcher knows, so that an end after it is no expiry; watching itself renews nothing.
func TestWatchFollowsRenewals(t *testing.T) {
	w := newWatchedWorld(t)
	token := w.login("u")
	done := watched(t.Context(), w, token)
	before := w.record(token)
	w.store.ops()
	w.clock.Step(ttl - renew)
	require.Eventually(t, func() bool { return len(w.store.ops()) > 0 }, patience, time.Millisecond)
	watched(t.Context(), w, token) // at a time when another request would renew the session
	assert.Equal(t, before.Version, w.record(token).Version)
	w.do(token, func(*coatcheck.Session) {})
	w.store.ops()
	require.Eventually(t, func() bool { return len(w.store.ops()) > 0 }, patience, time.Millisecond)
	w.clock.Step(2 * renew)
	w.logout(token)
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
}

// Those who watch by the same token cost one read in all, and each token has its own end.
func TestWatchOfTwoTokens(t *testing.T) {
	w := newWatchedWorld(t)
	w.m.SetWatchEvery(time.Hour)
	token := w.login("u")
	old := []<-chan coatcheck.EndReason{watched(t.Context(), w, token), watched(t.Context(), w, token), watched(t.Context(), w, token)}
	next := w.refresh(token).token
	current := watched(t.Context(), w, next)
	w.clock.Step(grace)
	w.store.ops()
	w.m.LookAtWatched(time.Hour)
	assert.Equal(t, []string{opLoad, opLoad}, w.store.ops())
	for _, done := range old {
		assert.Equal(t, coatcheck.ReasonRotated, reasonOf(t, done))
	}
	assert.Equal(t, 1, w.m.Watchers())
	w.logout(next)
	w.m.LookAtWatched(time.Hour)
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, current))
}

// Of those who watch by the same token one may have begun before a renewal, and another have read since: both are told what the latter
// knows.
func TestWatchKnowsTheLatestExpiry(t *testing.T) {
	w := newWatchedWorld(t)
	w.m.SetWatchEvery(time.Hour)
	token := w.login("u")
	old := watched(t.Context(), w, token)
	w.clock.Step(ttl - renew)
	var newer <-chan coatcheck.EndReason
	w.store.before = func(_ context.Context, op string) error { // as the old one is looked at
		if op == opLoad && newer == nil {
			newer = make(chan coatcheck.EndReason)
			newer = watched(t.Context(), w, token)
			w.do(token, func(*coatcheck.Session) {})
		}
		return nil
	}
	w.m.LookAtWatched(time.Hour)
	w.clock.Step(2 * renew)
	w.logout(token)
	w.m.LookAtWatched(time.Hour)
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, old))
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, newer))
}

// A store that does not answer says nothing about a session.
func TestWatchOutlivesAnOutage(t *testing.T) {
	w := newWatchedWorld(t)
	token := w.login("u")
	failing := make(chan struct{}, 1)
	w.store.mu.Lock()
	w.store.before = func(_ context.Context, op string) error {
		if op != opLoad {
			return nil
		}
		select {
		case failing <- struct{}{}:
			return errors.New("the store is away")
		default:
			return nil
		}
	}
	w.store.mu.Unlock()
	failing <- struct{}{} // not yet
	done := watched(t.Context(), w, token)
	<-failing
	require.Eventually(t, func() bool { return len(failing) == 1 }, patience, time.Millisecond, "one look has failed")
	assert.Equal(t, 1, w.m.Watchers())
	w.logout(token)
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
}

// partly is a store of which a part is away.
type partly struct {
	coatcheck.Store
	away map[coatcheck.Key]int // the reads of a key that failed
}

func (p *partly) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if _, away := p.away[key]; away {
		p.away[key]++
		return errDisk
	}
	return p.Store.Load(ctx, key, id, now, rec)
}

// partlyAway returns a world with as many sessions in a part of the store that is away as in one that works, and what the watchers of
// each are told. All of these sessions have ended.
func partlyAway(t *testing.T, sessions int) (part *partly, w *world, lost, well []<-chan coatcheck.EndReason) {
	t.Helper()
	w = newWatchedWorld(t)
	w.m.SetWatchEvery(time.Hour)
	part = &partly{Store: w.data, away: map[coatcheck.Key]int{}}
	away := map[coatcheck.Key]int{}
	for range sessions {
		one, other := w.login("u"), w.login("v")
		lost, well = append(lost, watched(t.Context(), w, one)), append(well, watched(t.Context(), w, other))
		w.logout(one)
		w.logout(other)
		away[key(t, one)] = 0
	}
	part.away = away
	w.store.Store = part
	return part, w, lost, well
}

// While a part of the store is away, those who watch sessions of the others are told as ever.
func TestWatchOfAStoreThatIsPartlyAway(t *testing.T) {
	_, w, _, well := partlyAway(t, 20)
	w.m.LookAtWatched(time.Hour)
	assert.Equal(t, 20, w.m.Watchers())
	for _, done := range well {
		assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
	}
}

// Reads that fail may take long, so that a turn may have time for one of them alone. The next turn goes on where it gave up: no session
// is read again in vain before each of the others was looked at.
func TestWatchGoesOnWhereItGaveUp(t *testing.T) {
	const sessions = 20
	part, w, lost, well := partlyAway(t, sessions)
	for turn := range 3 * sessions {
		w.m.LookAtWatched(0)
		failed := 0
		for _, n := range part.away {
			failed += n
			assert.LessOrEqual(t, n, 1+turn/sessions, "one fails again before others are looked at")
		}
		assert.Equal(t, turn+1, failed)
	}
	for _, done := range well {
		assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
	}
	clear(part.away)
	w.m.LookAtWatched(0)
	for _, done := range lost {
		assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
	}
}

// silent is a store that other processes share, and that answers no read.
type silent struct {
	coatcheck.Store
	reads atomic.Int64
}

func (*silent) Shared() bool { return true }

func (s *silent) Load(context.Context, coatcheck.Key, coatcheck.ID, time.Time, *coatcheck.Record) error {
	s.reads.Add(1)
	return errDisk
}

// A turn that has time for one read that fails has many of them at the same time: the watchers of the sessions that can be read wait
// until it is known which sessions cannot.
func TestWatchReadsManyAtATime(t *testing.T) {
	w := newWatchedWorld(t)
	w.m.SetWatchEvery(time.Hour)
	for i := range 200 {
		watched(t.Context(), w, w.login(fmt.Sprint("u", i)))
	}
	store := &silent{Store: w.data}
	w.store.Store = store
	w.m.LookAtWatched(0)
	assert.GreaterOrEqual(t, store.reads.Load(), int64(50))
}

func TestWatchEndsWithItsContext(t *testing.T) {
	w := newWatchedWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	done, other := watched(ctx, w, w.login("u")), watched(t.Context(), w, w.login("v"))
	cancel()
	require.Eventually(t, func() bool { return w.m.Watchers() == 1 }, patience, time.Millisecond)
	w.clock.Step(maxLife)
	assert.Equal(t, coatcheck.ReasonExpired, reasonOf(t, other))
	assert.Empty(t, done, "told nothing after its context has ended")
}

func TestWatchHasBounds(t *testing.T) {
	w := newWatchedWorld(t, func(p *coatcheck.Policy) { p.MaxWatchers = 12 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, two := w.login("u"), w.login("u")
	for range 10 {
		watched(ctx, w, one)
	}
	refused := func(token string) {
		w.do(token, func(s *coatcheck.Session) {
			require.ErrorIs(t, coatcheck.Watch(ctx, s, nil), coatcheck.ErrTooManyWatchers)
		})
	}
	refused(one)
	watched(ctx, w, two)
	watched(ctx, w, two)
	refused(two)
	cancel()
	require.Eventually(t, func() bool { return w.m.Watchers() == 0 }, patience, time.Millisecond)
	again, stop := context.WithCancel(t.Context())
	watched(again, w, one)
	stop()
	require.Eventually(t, func() bool { return w.m.Watchers() == 0 }, patience, time.Millisecond)
}

func TestWatchNeedsASession(t *testing.T) {
	w := newWatchedWorld(t)
	w.do("", func(s *coatcheck.Session) {
		require.ErrorIs(t, coatcheck.Watch(t.Context(), s, nil), coatcheck.ErrNotFound)
	})
	require.ErrorIs(t, coatcheck.Watch(t.Context(), new(coatcheck.Session), nil), coatcheck.ErrDetached)
}

// A handler that begins a session may watch it at once.
func TestWatchOfANewSession(t *testing.T) {
	w := newWatchedWorld(t)
	done := make(chan coatcheck.EndReason, 1)
	token := w.do("", func(s *coatcheck.Session) {
		require.NoError(t, s.Authenticate("u"))
		require.NoError(t, s.Commit(t.Context()))
		require.NoError(t, coatcheck.Watch(t.Context(), s, func(reason coatcheck.EndReason) { done <- reason }))
	}).token
	w.store.ops()
	require.Eventually(t, func() bool { return len(w.store.ops()) > 1 }, patience, time.Millisecond, "it is looked at and lives")
	w.logout(token)
	assert.Equal(t, coatcheck.ReasonEnded, reasonOf(t, done))
}
