package coatcheck_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var errDisk = errors.New("disk on fire")

// scenario is a request whose every store operation is made to fail, one at a time.
type scenario struct {
	setup   func(t *testing.T, w *world) []string // returns the request's cookies
	handler func(s *coatcheck.Session)
	// check checks what must hold after a failure at op; done says whether the operation was done before it failed.
	check func(t *testing.T, w *world, cookies []string, op string, done bool)
}

func scenarios() map[string]scenario {
	one := func(begin func(w *world) string) func(*testing.T, *world) []string {
		return func(_ *testing.T, w *world) []string { return []string{begin(w)} }
	}
	user := one(func(w *world) string { return w.login("u") })
	leftOver := one(func(*world) string { return text(coatcheck.NewToken(coatcheck.TagOf(""))) })
	guest := one(func(w *world) string { return w.begin("a", 1) })
	five := func(_ *testing.T, w *world) (cookies []string) {
		for _, user := range []string{"u", "v", "w", "x", "y"} {
			cookies = append(cookies, w.login(user))
		}
		return cookies
	}
	two := func(_ *testing.T, w *world) []string { return []string{w.login("u"), w.login("v")} }
	return map[string]scenario{
		"insert":                  {user, insert("x", 1), stillLives},
		"refresh":                 {user, func(s *coatcheck.Session) { s.Rotate(); insert("r", 1)(s) }, stillLives},
		"clear":                   {user, (*coatcheck.Session).Clear, stillLives},
		"cycle":                   {user, (*coatcheck.Session).CycleID, nil},
		"begin":                   {func(*testing.T, *world) []string { return nil }, insert("x", 1), nil},
		"begin, with a left-over": {leftOver, insert("x", 1), nil},
		"logout":                  {user, (*coatcheck.Session).Destroy, endedOnlyIfDone},
		"logout of two":           {two, (*coatcheck.Session).Destroy, nil},
		"logout of five":          {five, (*coatcheck.Session).Destroy, nil},
		"login with five cookies": {five, authenticate("n"), noLogin},
		"logout and insert":       {user, func(s *coatcheck.Session) { s.Destroy(); insert("x", 1)(s) }, nil},
		"login from nothing":      {func(*testing.T, *world) []string { return nil }, authenticate("n"), noLogin},
		"login from a guest":      {guest, authenticate("n"), noLogin},
		"login from another":      {user, authenticate("n"), noLogin},
		"login again":             {user, authenticate("u"), nil},
		"login with two cookies":  {two, authenticate("n"), noLogin},
		"login after logout":      {user, func(s *coatcheck.Session) { s.Destroy(); authenticate("n")(s) }, noLogin},
	}
}

// stillLives checks that an outage does not log the user out, not even if a write took effect without an answer.
func stillLives(t *testing.T, w *world, cookies []string, _ string, _ bool) {
	t.Helper()
	assert.Equal(t, "u", w.user(cookies[0]))
}

func endedOnlyIfDone(t *testing.T, w *world, cookies []string, op string, done bool) {
	t.Helper()
	assert.Equal(t, op == opEnd && done, w.user(cookies[0]) == "")
}

// noLogin checks that a login whose answer is an error has begun no session, and ended none unless ending failed.
func noLogin(t *testing.T, w *world, cookies []string, op string, done bool) {
	t.Helper()
	if op == opCreate && done {
		return // the answer of Create was lost: an orphan that no client can open waits for its expiry
	}
	assert.Empty(t, w.data.liveOf("n", w.clock.Now()), "the new session lives")
	if op == opLoad || op == opCreate {
		for _, c := range cookies {
			assert.NotZero(t, w.open(c).ID(), "the carried session ended")
		}
	}
}

// Every store operation of every request fails once, before it was done or with its answer lost: the request gets the
// error, its cookie stays, and no change is half-done.
func TestEachStoreOperationFails(t *testing.T) {
	for name, sc := range scenarios() {
		for _, done := range []bool{false, true} {
			for n, failed := 0, true; failed; n++ {
				w := newWorld(t)
				cookies := sc.setup(t, w)
				op := failNth(w, n, done, errDisk)
				err := attempt(t, w, cookies, sc.handler)
				w.store.before, w.store.after = nil, nil
				failed = *op != ""
				t.Run(fmt.Sprintf("%s, operation %d %s, done %v", name, n, *op, done), func(t *testing.T) {
					if !failed {
						require.NoError(t, err, "a request that meets no failure")
						return
					}
					require.ErrorIs(t, err, coatcheck.ErrUnavailable)
					require.ErrorIs(t, err, errDisk, "the cause is kept")
					if sc.check != nil {
						sc.check(t, w, cookies, *op, done)
					}
				})
			}
		}
	}
}

// failNth makes the n-th operation fail, and notes which that was.
func failNth(w *world, n int, done bool, err error) *string {
	op, count := new(string), 0
	hook := func(_ context.Context, got string) error {
		count++
		if count-1 != n {
			return nil
		}
		*op = got
		return err
	}
	if done {
		w.store.after = hook
	} else {
		w.store.before = hook
	}
	return op
}

// attempt is a request that may fail. It checks what its session shows after a failure.
func attempt(t *testing.T, w *world, cookies []string, handler func(*coatcheck.Session)) error {
	t.Helper()
	ctx, s := context.Background(), new(coatcheck.Request)
	err := w.m.Open(ctx, s, presented(cookies...), coatcheck.Client{}, w.clock.Now())
	if err != nil {
		assert.Empty(t, entries(s.Lend()))
		assert.Empty(t, s.UserID())
		handler(s.Lend())
		assert.ErrorIs(t, s.Commit(ctx), err, "a handler that goes on regardless does nothing")
	} else {
		handler(s.Lend())
		err = s.Commit(ctx)
		if err != nil {
			require.NoError(t, s.Insert("late", 1))
			require.ErrorIs(t, s.Commit(ctx), coatcheck.ErrUnavailable, "a later Commit says the same")
			require.NoError(t, s.Finish(ctx), "the handler was told")
		} else {
			err = s.Finish(ctx)
		}
	}
	if err != nil {
		assert.Equal(t, coatcheck.KeepCookie, s.Cookie(), "an outage does not touch the cookie")
		token, _ := s.Token(w.clock.Now())
		assert.Equal(t, coatcheck.Token{}, token)
	}
	return err
}

// A login whose step after Create fails for good reports both failures; one that fails because its request's time is up
// still ends the session that it began.
func TestLoginIsUndone(t *testing.T) {
	t.Run("End fails for good", func(t *testing.T) {
		w := newWorld(t)
		s := w.open(w.begin("a", 1))
		require.NoError(t, s.Authenticate("u"))
		w.store.before = failOp(opEnd, errDisk)
		err := s.Finish(context.Background())
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		assert.ErrorContains(t, err, "could not be ended")
		assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	})
	t.Run("the context ends", func(t *testing.T) {
		w := newWorld(t)
		old := w.begin("a", 1)
		ctx, cancel := context.WithCancel(context.Background())
		s := w.open(old)
		require.NoError(t, s.Authenticate("u"))
		w.store.before = func(ctx context.Context, op string) error {
			if op == opEnd && w.data.live(w.clock.Now()) == 2 {
				cancel()
			}
			return ctx.Err() // as a store over a network does
		}
		assert.ErrorIs(t, s.Finish(ctx), coatcheck.ErrUnavailable)
		w.store.before = nil
		assert.Empty(t, w.data.liveOf("u", w.clock.Now()), "the new session must not outlive its refused login")
		assert.Equal(t, "1", w.value(old, "a"))
	})
	t.Run("the merge fails", func(t *testing.T) {
		w := newWorld(t)
		old := w.begin("a", 1)
		s := w.open(old)
		require.NoError(t, s.Authenticate("u"))
		w.do(old, insert("x", 1))
		w.store.before = failOp(opSwap, errDisk)
		assert.ErrorIs(t, s.Finish(context.Background()), coatcheck.ErrUnavailable)
		assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
	})
}

// A store's error that says more than that the store failed is kept; ErrNewer is not an outage and not a missing session.
func TestNewerRecordIsKept(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	k := key(t, cookie)
	newer := w.data.raw(k)
	newer[0] = 0xC3
	w.data.put(k, newer)
	for name, cookies := range map[string][]string{
		"alone": {cookie}, "beside a live one": {w.login("v"), cookie}, "first": {cookie, "malformed", w.login("v")},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(coatcheck.Request)
			err := w.m.Open(context.Background(), s, presented(cookies...), coatcheck.Client{}, w.clock.Now())
			assert.ErrorIs(t, err, coatcheck.ErrNewer)
			assert.NotErrorIs(t, err, coatcheck.ErrUnavailable)
			assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
			assert.Equal(t, newer, w.data.raw(k), "it stays")
		})
	}
}

// A newer release rewrites the record while this request is at work.
func TestRecordBecomesNewerMeanwhile(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	require.NoError(t, s.Insert("x", 1))
	k := key(t, cookie)
	newer := w.data.raw(k)
	newer[0] = 0xC3
	w.data.put(k, newer)
	assert.ErrorIs(t, s.Finish(context.Background()), coatcheck.ErrNewer)
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	assert.Equal(t, newer, w.data.raw(k))
}

// A damaged record is no session: the cookie is cleared, the record is counted, and the request gets no error.
func TestDamagedRecord(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"text":      func([]byte) []byte { return []byte(`{"user_id":"u"}`) },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"zeros":     func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := w.do("", func(s *coatcheck.Session) { authenticate("u")(s); insert("a", 1)(s) }).token
			w.data.put(key(t, cookie), damage(w.data.raw(key(t, cookie))))
			s := w.open(cookie)
			assert.Equal(t, 1, s.Report().Damaged)
			assert.Empty(t, s.UserID())
			assert.Equal(t, coatcheck.ClearCookie, w.finish(s).cookie)
			assert.Equal(t, coatcheck.SetCookie, w.do(cookie, insert("x", 1)).cookie, "it may begin again")
		})
	}
}

// A commit that only ever meets conflicts gives up within its time and says so.
func TestConflictsWithoutEnd(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RetryFor = time.Millisecond })
	cookie := w.login("u")
	s := w.open(cookie)
	require.NoError(t, s.Insert("x", 1))
	n := 0
	w.store.before = func(_ context.Context, op string) error {
		if op == opSwap && n%2 == 0 { // every swap of s, but not the concurrent ones
			n++
			w.do(cookie, insert("other", n))
			n++
		}
		return nil
	}
	err := s.Finish(context.Background())
	w.store.before = nil
	require.ErrorIs(t, err, coatcheck.ErrConflict)
	assert.NotErrorIs(t, err, coatcheck.ErrUnavailable, "the store is well")
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	assert.Equal(t, s.Report().Conflicts, n/2)
	assert.Empty(t, w.value(cookie, "x"))
}

// Housekeeping that fails is no error and no reason to touch the cookie; the next request does it.
func TestHousekeepingThatFails(t *testing.T) {
	for name, tt := range map[string]struct {
		setup func(w *world) string
		noted func(w *world, cookie string) bool
	}{
		"renewal": {
			func(w *world) string {
				cookie := w.login("u")
				w.clock.Step(renew)
				return cookie
			},
			func(w *world, cookie string) bool { return w.record(cookie).LastSeen == w.clock.Now().UnixMilli() },
		},
		"first use": {
			func(w *world) string { return w.refresh(w.login("u")).token },
			func(w *world, cookie string) bool { return w.record(cookie).PrevUntil != coatcheck.PrevOpen },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := tt.setup(w)
			w.store.before = failOp(opSwap, errDisk)
			s := w.open(cookie)
			assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
			assert.Equal(t, 1, s.Report().NotNoted)
			assert.Zero(t, s.Report().Renewed)
			assert.Equal(t, "u", s.UserID(), "the request was served")
			w.store.before = nil
			assert.False(t, tt.noted(w, cookie))
			w.do(cookie, func(*coatcheck.Session) {})
			assert.True(t, tt.noted(w, cookie))
		})
	}
}
