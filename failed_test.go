package coatcheck_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// asks is all that a handler may ask of a session.
var asks = map[string]func(*coatcheck.Session){
	"insert":       insert("b", 2),
	"update":       func(s *coatcheck.Session) { _ = coatcheck.Update(s, "a", func(n int) int { return n + 1 }) },
	"remove":       func(s *coatcheck.Session) { s.Remove("a") },
	"clear":        (*coatcheck.Session).Clear,
	"rotate":       (*coatcheck.Session).Rotate,
	"cycle":        (*coatcheck.Session).CycleID,
	"authenticate": authenticate("v"),
	"destroy":      (*coatcheck.Session).Destroy,
}

// Nothing is done that a handler asks for after its own Commit has failed, and the handler does not know: the end of the request says so. A
// handler that commits once more is told by that.
func TestAskedForAfterAFailedCommit(t *testing.T) {
	for name, ask := range asks {
		for again, commits := range map[string]bool{"": false, ", and a commit": true} {
			t.Run(name+again, func(t *testing.T) {
				w := newWorld(t)
				token := w.do("", func(s *coatcheck.Session) { authenticate("u")(s); insert("a", 1)(s) }).token
				r := w.open(token)
				require.NoError(t, r.Insert("x", 1))
				w.store.before = failOp(opSwap, errDisk)
				require.ErrorIs(t, r.Commit(t.Context()), errDisk)
				w.store.before = nil
				w.store.ops()
				ask(r.Lend())
				if commits {
					require.ErrorIs(t, r.Commit(t.Context()), errDisk)
					require.NoError(t, r.Finish(t.Context()))
				} else {
					require.ErrorIs(t, r.Finish(t.Context()), errDisk)
				}
				assert.Empty(t, w.store.ops())
				assert.Equal(t, coatcheck.KeepCookie, r.Cookie())
				assert.Equal(t, "u", w.user(token))
				assert.Equal(t, []string{"a=1"}, entries(w.open(token).Lend()))
			})
		}
	}
}

// A panic of an Update's function in a commit is a commit that failed, too; Abandon is the middleware's own word that nothing follows.
func TestAskedForAfterAPanicOrAbandon(t *testing.T) {
	w := newWorld(t)
	token := w.begin("n", 1)
	r := w.open(token)
	require.NoError(t, coatcheck.Update(r.Lend(), "n", positive))
	w.do(token, insert("n", -5))
	assert.Panics(t, func() { _ = r.Commit(t.Context()) })
	r.Lend().Destroy()
	require.Error(t, r.Finish(t.Context()))
	assert.Equal(t, "-5", w.value(token, "n"))

	r = w.open(token)
	r.Abandon()
	r.Lend().Destroy()
	require.NoError(t, r.Finish(t.Context()))
	assert.Equal(t, "-5", w.value(token, "n"))
}

// A login that is refused by a mark is what the answer says also if the handler asks for more.
func TestAskedForAfterARefusedLogin(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.login("u"))
	require.NoError(t, r.BeginLogin(t.Context(), "u"))
	_, err := w.m.EndUser(t.Context(), "u")
	require.NoError(t, err)
	require.NoError(t, r.Authenticate("u"))
	require.ErrorIs(t, r.Commit(t.Context()), coatcheck.ErrRevoked)
	require.NoError(t, r.Insert("flash", "signed out"))
	require.ErrorIs(t, r.Finish(t.Context()), coatcheck.ErrRevoked)
	assert.Equal(t, coatcheck.KeepCookie, r.Cookie())
}

// A BeginLogin that failed has read nothing and loses nothing: whatever else the request asks for is done.
func TestBeginLoginThatFails(t *testing.T) {
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token := w.do("", func(s *coatcheck.Session) { authenticate("u")(s); insert("a", 1)(s) }).token
			r := w.open(token)
			require.NoError(t, r.Insert("before", 1))
			w.store.before = failOp(opMark, errDisk)
			require.ErrorIs(t, r.BeginLogin(t.Context(), "v"), coatcheck.ErrUnavailable)
			ask(r.Lend())
			err := r.Finish(t.Context())
			if name == "authenticate" {
				require.ErrorIs(t, err, errDisk, "no login without a mark")
				assert.Equal(t, coatcheck.KeepCookie, r.Cookie())
				assert.Empty(t, w.data.liveOf("v", w.clock.Now()))
				assert.Equal(t, "u", w.user(token))
				return
			}
			require.NoError(t, err)
			now := w.answer(r)
			switch name {
			case "destroy":
				assert.Equal(t, coatcheck.ClearCookie, now.cookie)
				assert.Empty(t, w.user(token))
			case "clear":
				assert.Empty(t, entries(w.open(now.token).Lend()))
			default:
				assert.Equal(t, "1", w.value(now.token, "before"))
			}
		})
	}
}

// The next request that uses the same Request knows nothing of it.
func TestBeginLoginThatFailsIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.store.before = failOp(opMark, errDisk)
	r := w.open()
	require.ErrorIs(t, r.BeginLogin(t.Context(), "u"), coatcheck.ErrUnavailable)
	require.NoError(t, r.Finish(t.Context()))
	require.True(t, r.Release())

	require.NoError(t, w.m.Open(t.Context(), r, presented(), coatcheck.Client{}, w.clock.Now()))
	require.NoError(t, r.Authenticate("v"))
	assert.Equal(t, coatcheck.SetCookie, w.finish(r).cookie)
}

// In whatever order and for whomever: after a BeginLogin that failed no login succeeds until another one has read a mark.
func TestLoginBesideABeginLoginThatFails(t *testing.T) {
	begin := func(err error) func(*world, *coatcheck.Request) {
		return func(w *world, r *coatcheck.Request) {
			w.store.before = failOp(opMark, err)
			require.ErrorIs(t, r.BeginLogin(t.Context(), "u"), err)
			w.store.before = nil
		}
	}
	login := func(user string) func(*world, *coatcheck.Request) {
		return func(_ *world, r *coatcheck.Request) { require.NoError(t, r.Authenticate(user)) }
	}
	logout := func(_ *world, r *coatcheck.Request) { r.Destroy() }
	for name, c := range map[string]struct {
		steps  []func(*world, *coatcheck.Request)
		passes bool
	}{
		"after it":               {[]func(*world, *coatcheck.Request){begin(errDisk), login("u")}, false},
		"before it":              {[]func(*world, *coatcheck.Request){login("u"), begin(errDisk)}, false},
		"another user's":         {[]func(*world, *coatcheck.Request){begin(errDisk), login("v")}, false},
		"after a logout":         {[]func(*world, *coatcheck.Request){begin(errDisk), logout, login("u")}, false},
		"after one that passed":  {[]func(*world, *coatcheck.Request){begin(nil), begin(errDisk), login("u")}, false},
		"before one that passes": {[]func(*world, *coatcheck.Request){begin(errDisk), begin(nil), login("u")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.open()
			for _, step := range c.steps {
				step(w, r)
			}
			if err := r.Finish(t.Context()); c.passes {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errDisk)
			}
			assert.Equal(t, c.passes, w.data.live(w.clock.Now()) == 1)
		})
	}
}

// The store's failure touches no cookie, not even one that opens nothing.
func TestBeginLoginThatFailsClearsNoCookie(t *testing.T) {
	w := newWorld(t)
	w.store.before = failOp(opMark, errDisk)
	r := w.open(text(coatcheck.NewToken(coatcheck.TagOf("u"))))
	require.Error(t, r.BeginLogin(t.Context(), "u"))
	assert.Equal(t, coatcheck.KeepCookie, w.finish(r).cookie)
}
