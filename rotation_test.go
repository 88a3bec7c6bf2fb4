package coatcheck_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

func nothing(*coatcheck.Session) {}

// CON-05: the old token is admitted until a grace after the new one was first presented, and not a moment longer.
func TestGraceCountsFromTheFirstUse(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	next := w.refresh(old).token
	w.clock.Step(ttl - time.Second)
	assert.Equal(t, "u", w.user(old), "the new one was never presented")

	w.store.ops()
	w.do(next, nothing)
	assert.Equal(t, []string{opLoad, opSwap}, w.store.ops(), "the first use is written")
	w.clock.Step(time.Millisecond)
	w.do(next, nothing)
	w.do(old, nothing)
	assert.Equal(t, []string{opLoad, opLoad}, w.store.ops(), "once")

	w.clock.Step(grace - 2*time.Millisecond)
	assert.Equal(t, "u", w.user(old), "a millisecond before")
	w.clock.Step(time.Millisecond)
	assert.Empty(t, w.user(old))
	assert.Equal(t, "u", w.user(next))
}

// The grace counts from the arrival of the new token, not from the end of its request.
func TestFirstUseIsTheTimeOfTheRequest(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	s := w.open(w.refresh(old).token)
	w.clock.Step(grace)
	w.finish(s)
	assert.Empty(t, w.user(old))
}

// A request with the new token that writes something notes the first use in the same Swap.
func TestFirstUseRidesAWrite(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	next := w.refresh(old).token
	w.store.ops()
	w.do(next, insert("x", 1))
	assert.Equal(t, []string{opLoad, opSwap}, w.store.ops())
	w.clock.Step(grace)
	assert.Empty(t, w.user(old))
}

// CON-05: only the last previous token is admitted.
func TestGrandparentIsDead(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	t0 := w.login("u")
	t1 := w.refresh(t0).token
	w.clock.Step(time.Second)
	t2 := w.refresh(t1).token
	require.NotEmpty(t, t2)
	s := w.open(t0)
	assert.Empty(t, s.UserID(), "within a second")
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
	assert.Equal(t, 1, s.Report().WrongSecret)
	assert.Zero(t, s.Report().Reused, "two generations old is not reuse")
	assert.Equal(t, "u", w.user(t1))
	assert.Equal(t, "u", w.user(t2), "and ends nothing")
}

func TestNoGrace(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RotationGrace = -1 })
	old := w.login("u")
	next := w.refresh(old).token
	assert.Equal(t, "u", w.user(old), "the answer may be lost")
	w.do(next, nothing)
	assert.Empty(t, w.user(old))
}

func TestCycleIDEndsAnEarlierGrace(t *testing.T) {
	w := newWorld(t)
	t0 := w.login("u")
	t1 := w.refresh(t0).token
	require.Equal(t, "u", w.user(t0))
	t2 := w.do(t1, (*coatcheck.Session).CycleID).token
	assert.Empty(t, w.user(t0))
	assert.Empty(t, w.user(t1))
	assert.Equal(t, "u", w.user(t2))
}

// After a CycleID by the old token, the token that it replaces, which a thief may have, counts as the previous one.
func TestCycleIDInTheGrace(t *testing.T) {
	w := newWorld(t)
	t0 := w.login("u")
	t1 := w.refresh(t0).token
	t2 := w.do(t0, (*coatcheck.Session).CycleID).token
	assert.Empty(t, w.user(t0))
	assert.Equal(t, "u", w.user(t2))
	s := w.open(t1)
	assert.Empty(t, s.UserID())
	assert.NotZero(t, s.Report().Reused)
}

// If the answer to a refresh is lost, the old token stays valid, and the next refresh after more than a grace repairs the
// session.
func TestLostRefreshAnswerHeals(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	lost := w.refresh(old).token

	for _, later := range []time.Duration{0, time.Second, grace - time.Second} {
		w.clock.Step(later)
		again := w.refresh(old)
		assert.Equal(t, coatcheck.KeepCookie, again.cookie, "%v later: perhaps a parallel request has the answer", later)
		assert.Equal(t, "u", w.user(old))
	}
	w.clock.Step(time.Minute)
	healed := w.refresh(old)
	require.Equal(t, coatcheck.SetCookie, healed.cookie)
	assert.Equal(t, "u", w.user(healed.token))
	assert.Equal(t, "u", w.user(old), "this answer may be lost too")
	assert.Empty(t, w.user(lost), "the unused one is dropped")
	w.do(healed.token, nothing)
	w.clock.Step(grace)
	assert.Empty(t, w.user(old))
}

// In its grace the old token does not rotate, however long ago the rotation was: the new one has arrived.
func TestRefreshInTheGraceDoesNotRotate(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	next := w.refresh(old).token
	w.clock.Step(time.Minute)
	w.do(next, nothing)
	w.clock.Step(grace / 2)
	assert.Equal(t, coatcheck.KeepCookie, w.refresh(old).cookie)
	assert.Equal(t, "u", w.user(next))
}

// A refresh that is the first use of its token leaves that token open until the next one arrives.
func TestRefreshAsFirstUse(t *testing.T) {
	w := newWorld(t)
	t1 := w.refresh(w.login("u")).token
	t2 := w.refresh(t1).token
	w.clock.Step(10 * grace)
	assert.Equal(t, "u", w.user(t1), "the answer may be lost")
	w.do(t2, nothing)
	w.clock.Step(grace)
	assert.Empty(t, w.user(t1))
}

// Even if every refresh's answer is lost, the browser is never logged out before its expiries.
func TestEveryRefreshAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	old := w.login("u")
	for range 100 {
		w.clock.Step(time.Minute)
		w.refresh(old)
		require.Equal(t, "u", w.user(old))
	}
}

func TestHealingRefreshesInParallel(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		old := w.login("u")
		w.refresh(old)
		w.clock.Step(time.Minute)
		reqs, actors := refreshes(t, w, old, 3)
		return w, actors, func(t *testing.T) {
			orders(len(reqs), func(order []int) { checkRefreshes(t, w, old, reqs, order) })
		}
	})
}

// CON-06: reuse is the previous ID after it ceased to be admitted, and nothing else.
func TestReuse(t *testing.T) {
	tests := map[string]struct {
		present func(t *testing.T, w *world) []string // leaves one session of u and returns the cookies to present
		reused  bool
		ends    bool // with RevokeOnReuse
	}{
		"after the grace": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(w.refresh(old).token, nothing)
			w.clock.Step(grace)
			return []string{old}
		}, true, true},
		"in the grace": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(w.refresh(old).token, nothing)
			w.clock.Step(grace - 1)
			return []string{old}
		}, false, false},
		"the successor unused": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.refresh(old)
			w.clock.Step(10 * grace)
			return []string{old}
		}, false, false},
		"after a CycleID": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(old, (*coatcheck.Session).CycleID)
			return []string{old}
		}, true, true},
		"two generations old": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(w.do(old, (*coatcheck.Session).CycleID).token, (*coatcheck.Session).CycleID)
			return []string{old}
		}, false, false},
		"another secret": {func(_ *testing.T, w *world) []string {
			tok, _ := coatcheck.ParseToken([]byte(w.login("u")))
			return []string{text(tok.Rotated())}
		}, false, false},
		"beside the live token": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			return []string{old, w.do(old, (*coatcheck.Session).CycleID).token}
		}, true, false},
		"behind the live token": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			return []string{w.do(old, (*coatcheck.Session).CycleID).token, old}
		}, true, false},
		"beside another live session": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(old, (*coatcheck.Session).CycleID)
			return []string{w.login("v"), old}
		}, true, true},
		"of an expired session": {func(_ *testing.T, w *world) []string {
			old := w.login("u")
			w.do(old, (*coatcheck.Session).CycleID)
			w.clock.Step(ttl)
			return []string{old}
		}, false, false},
	}
	for name, tt := range tests {
		for _, revoke := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", reject", true: ", revoke"}[revoke], func(t *testing.T) {
				w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = revoke })
				cookies := tt.present(t, w)
				before := len(w.data.liveOf("u", w.clock.Now()))
				s := w.open(cookies...)
				r := s.Report().Reused
				assert.Equal(t, tt.reused, r.Key != coatcheck.Key{})
				assert.Equal(t, tt.ends && revoke, r.Revoked)
				if tt.reused {
					assert.Equal(t, "u", r.User)
					assert.NotZero(t, r.ID)
				}
				if tt.ends && revoke {
					before--
				}
				assert.Len(t, w.data.liveOf("u", w.clock.Now()), before)
				if name == "after the grace" || name == "after a CycleID" {
					assert.Empty(t, s.UserID())
					assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
				}
			})
		}
	}
}

// If a request has two rotated-out tokens of two sessions, both count as reused.
func TestReuseOfTwo(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	a, b := w.login("u"), w.login("v")
	w.do(a, (*coatcheck.Session).CycleID)
	w.do(b, (*coatcheck.Session).CycleID)
	w.open(a, b)
	assert.Zero(t, w.data.live(w.clock.Now()))
}

// A reused token does not hide behind a pair of another session.
func TestReuseBesideAPair(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	a, b := w.login("u"), w.login("v")
	w.do(a, (*coatcheck.Session).CycleID)
	live := w.do(b, (*coatcheck.Session).CycleID).token
	s := w.open(a, b, live)
	assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
	assert.Equal(t, "v", s.UserID())
}

// Also where rotation has no grace a session that was ended is remembered for a second: what was on its way then begins no other.
func TestEndedSessionIsRememberedWithoutAGrace(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RotationGrace = -1 })
	cookie := w.login("u")
	w.logout(cookie)
	w.clock.Step(time.Second - time.Millisecond)
	assert.Equal(t, answer{}, w.do(cookie, insert("x", 1)))
	w.clock.Step(time.Millisecond)
	assert.Equal(t, coatcheck.SetCookie, w.do(cookie, insert("x", 1)).cookie)
}
