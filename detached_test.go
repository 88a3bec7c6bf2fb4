package coatcheck_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A session that is used after its request, or where no middleware ran, is empty and anonymous, and every error says so.
func TestDetachedSession(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	cookie := w.login("u")
	r := w.open(cookie)
	kept := r.Lend()
	require.NoError(t, kept.Insert("a", 1))
	entriesBefore := kept.Entries()
	w.finish(r)
	r.Release()
	// The pool hands the object to another request.
	require.NoError(t, w.m.Open(ctx, r, presented(w.login("v")), coatcheck.Client{}, w.clock.Now()))
	require.Equal(t, "v", r.UserID())

	for name, s := range map[string]*coatcheck.Session{"kept": kept, "never opened": new(coatcheck.Session)} {
		t.Run(name, func(t *testing.T) {
			assert.Empty(t, s.UserID())
			assert.Empty(t, s.RawUserID())
			assert.Zero(t, s.ID())
			assert.Zero(t, s.Key())
			assert.Zero(t, s.ExpiresAt())
			assert.Zero(t, s.CreatedAt())
			assert.False(t, s.Contains("a"))
			assert.Zero(t, s.Len())
			assert.Empty(t, entries(s))
			s.Remove("a")
			s.Clear()
			s.Remember(ttl)
			s.Rotate()
			s.CycleID()
			s.Destroy()
			_, get := coatcheck.Get[int](s, "a")
			_, pop := coatcheck.Pop[int](s, "a")
			for name, err := range map[string]error{
				"Get": get, "Pop": pop, "Insert": s.Insert("a", 1), "Update": coatcheck.Update(s, "a", func(n int) int { return n }),
				"BeginLogin": s.BeginLogin(ctx, "u"), "Authenticate": s.Authenticate("u"), "Commit": s.Commit(ctx),
			} {
				assert.ErrorIs(t, err, coatcheck.ErrDetached, name)
			}
		})
	}
	for name := range entriesBefore {
		t.Errorf("an iterator that was kept shows %q", name)
	}
	assert.Equal(t, coatcheck.KeepCookie, w.finish(r).cookie, "nothing reached the other request")
	assert.Equal(t, "u", w.user(cookie))
}

// One request lends one session, and no session is lent twice.
func TestLend(t *testing.T) {
	w := newWorld(t)
	r, ctx := new(coatcheck.Request), context.Background()
	seen := make(map[*coatcheck.Session]bool)
	for range 200 {
		require.NoError(t, w.m.Open(ctx, r, presented(), coatcheck.Client{}, w.clock.Now()))
		s := r.Lend()
		assert.Same(t, s, r.Lend())
		require.False(t, seen[s], "lent to an earlier request")
		seen[s] = true
		r.Release()
		assert.ErrorIs(t, r.Lend().Insert("a", 1), coatcheck.ErrDetached, "lent after its request")
	}
}

// After the response's header was sent no cookie can be set: a change that needs none is done, and one that needs a cookie
// is an error.
func TestHeaderSent(t *testing.T) {
	ctx := context.Background()
	t.Run("values", func(t *testing.T) {
		w := newWorld(t)
		cookie := w.login("u")
		r := w.open(cookie)
		r.HeaderSent()
		require.NoError(t, r.Insert("a", 1))
		require.NoError(t, r.Finish(ctx))
		assert.Equal(t, "1", w.value(cookie, "a"))
	})
	for name, rotate := range map[string]func(*coatcheck.Session){"rotate": (*coatcheck.Session).Rotate, "cycle": (*coatcheck.Session).CycleID} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := w.login("u")
			r := w.open(cookie)
			r.HeaderSent()
			require.NoError(t, r.Insert("a", 1))
			rotate(r.Lend())
			require.ErrorIs(t, r.Commit(ctx), coatcheck.ErrHeaderSent)
			require.NoError(t, r.Finish(ctx), "the handler was told")
			assert.Equal(t, "u", w.user(cookie), "the token that the client has still opens the session")
			assert.Equal(t, "1", w.value(cookie, "a"))
			assert.Zero(t, r.Report().Rotated)
		})
	}
	t.Run("login", func(t *testing.T) {
		w := newWorld(t)
		r := w.open()
		r.HeaderSent()
		require.ErrorIs(t, r.Authenticate("u"), coatcheck.ErrHeaderSent)
		require.NoError(t, r.Finish(ctx))
		assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
	})
	t.Run("a session that would begin", func(t *testing.T) {
		w := newWorld(t)
		r := w.open()
		r.HeaderSent()
		require.ErrorIs(t, r.Insert("a", 1), coatcheck.ErrHeaderSent)
		require.ErrorIs(t, coatcheck.Update(r.Lend(), "a", func(n int) int { return n + 1 }), coatcheck.ErrHeaderSent)
		w.store.ops()
		require.NoError(t, r.Finish(ctx))
		assert.Empty(t, w.store.ops())
	})
	t.Run("destroy", func(t *testing.T) {
		w := newWorld(t)
		cookie := w.login("u")
		r := w.open(cookie)
		r.HeaderSent()
		r.Destroy()
		require.NoError(t, r.Finish(ctx))
		assert.Empty(t, w.user(cookie), "signing out needs no cookie")
	})
}

func TestPop(t *testing.T) {
	w := newWorld(t)
	cookie := w.begin("flash", "saved")
	w.do(cookie, func(s *coatcheck.Session) {
		_, err := coatcheck.Pop[int](s, "flash")
		require.Error(t, err)
		assert.True(t, s.Contains("flash"), "a value of another type stays")
		text, err := coatcheck.Pop[string](s, "flash")
		require.NoError(t, err)
		assert.Equal(t, "saved", text)
		_, err = coatcheck.Pop[string](s, "flash")
		assert.ErrorIs(t, err, coatcheck.ErrNoValue)
	})
	assert.Empty(t, w.value(cookie, "flash"))
}

func TestNamesMarshalAsText(t *testing.T) {
	w := newWorld(t)
	s := w.open(w.login("u"))
	id, err := s.ID().MarshalText()
	require.NoError(t, err)
	assert.Equal(t, s.ID().String(), string(id))
	handle, err := s.Key().Handle().MarshalText()
	require.NoError(t, err)
	assert.Equal(t, s.Key().Handle().String(), string(handle))
}

// A goroutine of a handler may still be in a call of the store when its request is over. What that call writes to belongs to no other
// request; the middleware must not put it into its pool.
func TestCallsOutliveTheirRequest(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		op   string
		call func(*coatcheck.Session) error
	}{
		"Commit":     {opCreate, func(s *coatcheck.Session) error { return s.Commit(ctx) }},
		"BeginLogin": {opMark, func(s *coatcheck.Session) error { return s.BeginLogin(ctx, "u") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.open()
			s := r.Lend()
			require.NoError(t, s.Authenticate("u"))
			reached, goOn, returned := make(chan struct{}), make(chan struct{}), make(chan error)
			w.store.once(c.op, func() { close(reached); <-goOn })
			go func() { returned <- c.call(s) }()
			<-reached
			require.Error(t, r.Finish(ctx), "the handler has returned too early")
			assert.False(t, r.Release())
			require.ErrorIs(t, s.Commit(ctx), coatcheck.ErrDetached)
			close(goOn)
			require.NoError(t, <-returned)
		})
	}
	w := newWorld(t)
	r := w.open()
	require.NoError(t, r.Lend().BeginLogin(ctx, "u"))
	assert.True(t, r.Release(), "a call that is over keeps nothing")
}

// So may one be in a function of the application's that a call runs: that of an Update, or a decoder.
func TestFunctionsOutliveTheirRequest(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]func(s *coatcheck.Session, wait func()) error{
		"Update": func(s *coatcheck.Session, wait func()) error {
			return coatcheck.Update(s, "a", func(n int) int { wait(); return n + 1 })
		},
		"Get": func(s *coatcheck.Session, wait func()) error {
			waiting = wait
			v, err := coatcheck.Get[slowDecoder](s, "a")
			assert.Equal(t, slowDecoder("1"), v)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.open()
			s := r.Lend()
			require.NoError(t, s.Insert("a", 1))
			reached, goOn, returned := make(chan struct{}), make(chan struct{}), make(chan error)
			go func() { returned <- call(s, func() { close(reached); <-goOn }) }()
			<-reached
			require.NoError(t, r.Finish(ctx))
			assert.False(t, r.Release())
			close(goOn)
			require.NoError(t, <-returned)
		})
	}
}

// A goroutine of a handler may read its session while the request ends and another one gets its place: it reads what is the session's, or
// nothing. Where a call is not counted the race detector tells.
func TestReadsDoNotMeetTheNextRequest(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	own := w.loginWith(t, "", "ann", parsedClaims(t, `{"email":"ann@example.com"}`), nil)
	w.clock.Step(time.Second)
	other := w.loginWith(t, "", "bob", parsedClaims(t, `{"email":"bob@example.com","name":"Bob"}`), nil)
	for _, cookie := range []string{own, other, other} {
		w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert(fmt.Sprint("v", s.Len()), s.UserID())) })
	}
	for name, read := range map[string]func(*coatcheck.Session) any{
		"ID":           func(s *coatcheck.Session) any { return s.ID() },
		"Key":          func(s *coatcheck.Session) any { return s.Key() },
		"LoginPending": func(s *coatcheck.Session) any { return s.LoginPending() },
		"UserID":       func(s *coatcheck.Session) any { return s.UserID() },
		"ExpiresAt":    func(s *coatcheck.Session) any { return s.ExpiresAt() },
		"CreatedAt":    func(s *coatcheck.Session) any { return s.CreatedAt() },
		"Contains":     func(s *coatcheck.Session) any { return s.Contains("v1") },
		"Len":          func(s *coatcheck.Session) any { return s.Len() },
		"Entries":      func(s *coatcheck.Session) any { return fmt.Sprint(entries(s)) },
		"Get":          func(s *coatcheck.Session) any { v, _ := coatcheck.Get[string](s, "v1"); return v },
		"Claims":       func(s *coatcheck.Session) any { return coatcheck.Claims(s).Text(coatcheck.ClaimEmail) },
	} {
		t.Run(name, func(t *testing.T) {
			r, none := new(coatcheck.Request), read(new(coatcheck.Session))
			for range 50 {
				require.NoError(t, w.m.Open(ctx, r, presented(own), coatcheck.Client{}, w.clock.Now()))
				s := r.Lend()
				want := read(s)
				var over atomic.Bool
				begun, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					assert.Equal(t, want, read(s))
					close(begun)
					for !over.Load() {
						if got := read(s); got != none {
							assert.Equal(t, want, got)
						}
						runtime.Gosched() // on one processor it would go on for 10 ms
					}
				}()
				<-begun
				if !r.Release() {
					r = new(coatcheck.Request)
				}
				require.NoError(t, w.m.Open(ctx, r, presented(other), coatcheck.Client{}, w.clock.Now()))
				over.Store(true)
				<-ended
				assert.Equal(t, none, read(s))
				r.Release()
			}
		})
	}
}

// slowDecoder calls waiting before it reads what it decodes.
type slowDecoder string

var waiting func()

func (d *slowDecoder) UnmarshalJSON(b []byte) error {
	waiting()
	*d = slowDecoder(b)
	return nil
}

// The middleware's own handlers hold the request while they work on it.
func TestHold(t *testing.T) {
	w := newWorld(t)
	r := w.open()
	lent := r.Lend()
	require.True(t, r.Hold(lent))
	r.Unhold()
	require.True(t, r.Hold(lent))
	require.Error(t, r.Finish(context.Background()), "the answer must wait")
	assert.False(t, r.Release())
	assert.False(t, r.Hold(lent), "it has ended")
	r = w.open()
	lent = r.Lend()
	r.Disown()
	assert.False(t, r.Hold(lent))
}

// A handler that is late must not hold the request that the pool has made of its own one since: that one's answer would be a 500.
func TestHoldOfTheNextRequest(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	r := w.open()
	late := r.Lend()
	require.True(t, r.Release())
	require.NoError(t, w.m.Open(ctx, r, presented(), coatcheck.Client{}, w.clock.Now()))
	assert.False(t, r.Hold(late))
	require.NoError(t, r.Finish(ctx))
	assert.True(t, r.Release())
}

// A handler that goes on after its request was answered without it, as behind a timeout, can persist nothing any more.
func TestDisownedRequest(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	r := w.open()
	s := r.Lend()
	require.NoError(t, s.Insert("a", 1))
	r.Disown()
	require.ErrorIs(t, s.BeginLogin(ctx, "u"), coatcheck.ErrDetached)
	require.ErrorIs(t, s.Commit(ctx), coatcheck.ErrDetached)
	assert.Empty(t, w.store.ops())
	require.ErrorIs(t, s.Insert("a", 2), coatcheck.ErrDetached)
	assert.True(t, s.Contains("a"), "it stays the handler's")
}
