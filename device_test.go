package coatcheck_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

const (
	boundTTL = 10 * time.Minute
	tooOld   = boundTTL + boundTTL/10 + time.Millisecond
)

var (
	aKey       = coatcheck.PublicKey{Algorithm: coatcheck.ES256, Bytes: bytes.Repeat([]byte{7}, 33)}
	anotherKey = coatcheck.PublicKey{Algorithm: coatcheck.ES256, Bytes: bytes.Repeat([]byte{8}, 33)}
)

// offered logs a user in with an offer to bind the session, and returns the token and the challenge.
func (w *world) offered(user string) (string, coatcheck.Challenge) {
	w.t.Helper()
	r := w.open()
	r.OfferBinding()
	require.NoError(w.t, r.Authenticate(user))
	a := w.finish(r)
	k, c, ok := r.Offered()
	require.True(w.t, ok)
	require.Equal(w.t, key(w.t, a.token), k)
	return a.token, c
}

// named begins the request of a device that names the session of a token, and carries these cookies.
func (w *world) named(token string, cookies ...string) (*coatcheck.Request, error) {
	w.t.Helper()
	r := new(coatcheck.Request)
	_, err := w.m.OpenNamed(context.Background(), r, key(w.t, token), presented(cookies...), coatcheck.Client{}, w.clock.Now())
	return r, err
}

// bind binds the session of a token to a key.
func (w *world) bind(token string, k coatcheck.PublicKey, c coatcheck.Challenge) (answer, error) {
	w.t.Helper()
	r, err := w.named(token)
	if err == nil {
		err = r.Bind(context.Background(), k, c)
	}
	if err != nil {
		require.NoError(w.t, r.Finish(context.Background()))
		require.Equal(w.t, coatcheck.KeepCookie, r.Cookie())
		return answer{}, err
	}
	return w.finish(r), nil
}

// prove renews the token of a bound session by a proof of its challenge.
func (w *world) prove(token string, cookies ...string) answer {
	w.t.Helper()
	r, err := w.named(token, cookies...)
	require.NoError(w.t, err)
	_, c, err := r.DeviceKey()
	require.NoError(w.t, err)
	require.NoError(w.t, r.Prove(context.Background(), c))
	return w.finish(r)
}

// bound returns the token of a session of the user u that was bound and used.
func (w *world) bound() string {
	w.t.Helper()
	token, c := w.offered("u")
	a, err := w.bind(token, aKey, c)
	require.NoError(w.t, err)
	w.use(a.token)
	return a.token
}

// use is a request that changes nothing.
func (w *world) use(token string) answer {
	w.t.Helper()
	return w.do(token, func(*coatcheck.Session) {})
}

func TestWhoMayBind(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(w *world, token string, c coatcheck.Challenge)
		key     coatcheck.PublicKey
		other   bool // the challenge is another one
		want    error
	}{
		"in time":                             {func(w *world, _ string, _ coatcheck.Challenge) { w.clock.Step(2 * time.Minute) }, aKey, false, nil},
		"too late":                            {func(w *world, _ string, _ coatcheck.Challenge) { w.clock.Step(2*time.Minute + 1e6) }, aKey, false, coatcheck.ErrChallenge},
		"another challenge":                   {nil, aKey, true, coatcheck.ErrChallenge},
		"after requests":                      {func(w *world, token string, _ coatcheck.Challenge) { w.use(token) }, aKey, false, nil},
		"after a refresh":                     {func(w *world, token string, _ coatcheck.Challenge) { w.refresh(token) }, aKey, false, nil},
		"after a logout":                      {func(w *world, token string, _ coatcheck.Challenge) { w.logout(token) }, aKey, false, coatcheck.ErrNotFound},
		"another key, not yet used":           {bindTo(aKey, false), anotherKey, false, coatcheck.ErrBound},
		"another key, used":                   {bindTo(aKey, true), anotherKey, false, coatcheck.ErrBound},
		"the same key, not yet used":          {bindTo(aKey, false), aKey, false, nil},
		"the same key, used":                  {bindTo(aKey, true), aKey, false, coatcheck.ErrBound},
		"the same key with another challenge": {bindTo(aKey, false), aKey, true, coatcheck.ErrChallenge},
		"the same key, not yet used, too late": {func(w *world, token string, c coatcheck.Challenge) {
			bindTo(aKey, false)(w, token, c)
			w.clock.Step(3 * time.Minute)
		}, aKey, false, coatcheck.ErrChallenge},
		"the same key after a refresh's proof": {func(w *world, token string, c coatcheck.Challenge) {
			bindTo(aKey, false)(w, token,
				c)
			w.prove(token)
		}, aKey, false, coatcheck.ErrBound},
		"same bytes, but of another algorithm": {bindTo(aKey, false), coatcheck.PublicKey{Algorithm: coatcheck.RS256, Bytes: aKey.Bytes}, false, coatcheck.ErrBound},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token, c := w.offered("u")
			if tt.between != nil {
				tt.between(w, token, c)
			}
			if tt.other {
				c[3]++
			}
			a, err := w.bind(token, tt.key, c)
			if tt.want != nil {
				assert.ErrorIs(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "u", w.user(a.token))
			assert.Equal(t, "u", w.user(token), "the token of the login is in its grace")
		})
	}
}

func bindTo(k coatcheck.PublicKey, use bool) func(*world, string, coatcheck.Challenge) {
	return func(w *world, token string, c coatcheck.Challenge) {
		a, err := w.bind(token, k, c)
		require.NoError(w.t, err)
		if use {
			w.use(a.token)
		}
	}
}

// A session whose login offered nothing is bound by nobody: a thief could bind it to a key of his own.
func TestOnlyOfferedSessionsAreBound(t *testing.T) {
	w := newWorld(t)
	_, err := w.bind(w.login("u"), aKey, coatcheck.Challenge{})
	assert.ErrorIs(t, err, coatcheck.ErrChallenge)
	_, err = w.bind(w.begin("a", 1), aKey, coatcheck.Challenge{})
	assert.ErrorIs(t, err, coatcheck.ErrChallenge)

	r := w.open()
	r.OfferBinding()
	require.NoError(t, r.Insert("a", 1))
	w.finish(r)
	_, _, ok := r.Offered()
	assert.False(t, ok, "no login")
	r = w.open(w.login("u"))
	r.OfferBinding()
	r.CycleID()
	w.finish(r)
	_, _, ok = r.Offered()
	assert.False(t, ok, "no login")
	r = w.open()
	r.OfferBinding()
	require.NoError(t, r.BeginLogin(context.Background(), "u"))
	_, err = w.m.EndUser(context.Background(), "u")
	require.NoError(t, err)
	require.NoError(t, r.Authenticate("u"))
	require.ErrorIs(t, r.Commit(context.Background()), coatcheck.ErrRevoked)
	_, _, ok = r.Offered()
	assert.False(t, ok, "the login was refused")
}

// A change of privilege before the first use does not lift the rule.
func TestBindingIsUsedAfterCycleID(t *testing.T) {
	w := newWorld(t)
	token, c := w.offered("u")
	_, err := w.bind(token, aKey, c)
	require.NoError(t, err)
	cycled := w.do(token, (*coatcheck.Session).CycleID).token
	w.use(cycled)
	w.clock.Step(tooOld)
	assert.Empty(t, w.user(cycled))
}

// A bound session's cookie is set by its registration and its refreshes only.
func TestBoundSessionGetsNoOtherCookie(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	w.clock.Step(time.Minute)
	assert.Equal(t, coatcheck.KeepCookie, w.refresh(token).cookie)
	assert.Equal(t, "true", w.value(token, "refreshed"))
	assert.Equal(t, coatcheck.KeepCookie, w.do(token, insert("a", 1)).cookie)
	assert.Equal(t, "1", w.value(token, "a"))
	r := w.open(token)
	r.CycleID()
	require.Equal(t, coatcheck.SetCookie, w.finish(r).cookie, "a change of privilege has to")
	_, left := r.Token(w.clock.Now())
	assert.Equal(t, boundTTL-time.Minute, left, "but a thief gains no time by it")

	p, err := w.named(token)
	require.NoError(t, err)
	_, c, _ := p.DeviceKey()
	require.NoError(t, p.Prove(context.Background(), c))
	_, left = p.Token(w.clock.Now())
	assert.Equal(t, boundTTL, left)
	w.clock.Step(maxLife - 5*time.Minute) // what is left of the absolute lifetime is less
	_, left = p.Token(w.clock.Now())
	assert.Negative(t, left)
}

func TestProofs(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	token := w.bound()
	r, err := w.named(token)
	require.NoError(t, err)
	k, c, err := r.DeviceKey()
	require.NoError(t, err)
	assert.True(t, k.Equal(aKey))
	assert.Empty(t, r.UserID(), "a name opens nothing")
	assert.Zero(t, r.ID())
	require.NoError(t, r.Prove(ctx, c))
	assert.Equal(t, "u", r.UserID())

	again, err := w.named(token)
	require.NoError(t, err)
	require.ErrorIs(t, again.Prove(ctx, c), coatcheck.ErrChallenge, "replayed")
	assert.Equal(t, coatcheck.KeepCookie, w.finish(again).cookie)
	_, err = w.named(w.login("v"))
	require.NoError(t, err)
	unbound, _ := w.named(w.login("v"))
	_, _, err = unbound.DeviceKey()
	require.ErrorIs(t, err, coatcheck.ErrNotBound)
	require.ErrorIs(t, unbound.Prove(ctx, c), coatcheck.ErrNotBound)

	w.logout(token)
	_, err = w.named(token)
	assert.ErrorIs(t, err, coatcheck.ErrNotFound)
	w.data.put(key(t, token), []byte("damaged"))
	r, err = w.named(token)
	assert.ErrorIs(t, err, coatcheck.ErrNotFound)
	assert.Equal(t, 1, r.Report().Damaged)
	assert.True(t, r.Eventful(), "or nobody reads the report")
	w.store.before = func(context.Context, string) error { return coatcheck.ErrUnavailable }
	_, err = w.named(token)
	assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
}

// A token that comes along must open the session.
func TestForeignTokens(t *testing.T) {
	w := newWorld(t)
	token, _ := w.offered("u")
	rotated := w.refresh(token).token
	foreign := func(cookies ...string) bool {
		f, err := w.m.OpenNamed(context.Background(), new(coatcheck.Request), key(t, token), presented(cookies...), coatcheck.Client{}, w.clock.Now())
		require.NoError(t, err)
		return f
	}
	assert.False(t, foreign())
	assert.False(t, foreign(token))
	assert.False(t, foreign(rotated, token))
	assert.True(t, foreign(token, w.login("u")))
	assert.True(t, foreign("garbage"))
	w.use(rotated)
	w.clock.Step(grace)
	assert.True(t, foreign(token))
}

// The answer to a proof is lost: the token that the browser has stays admitted, and the next proof makes it another one.
func TestLostAnswerOfAProof(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	for _, cookies := range [][]string{nil, {token}} {
		for range 3 {
			w.prove(token, cookies...)
			assert.Equal(t, "u", w.user(token))
		}
	}
	last := w.prove(token).token
	w.use(last)
	w.clock.Step(grace)
	assert.Empty(t, w.user(token))
	assert.Equal(t, "u", w.user(last))
}

// The token that came along with a proof is the one that the browser has.
func TestProofWithAToken(t *testing.T) {
	w := newWorld(t)
	login, c := w.offered("u")
	a, err := w.bind(login, aKey, c)
	require.NoError(t, err)
	first := w.prove(a.token, a.token).token
	assert.Equal(t, "u", w.user(a.token), "it was never used, and came along")
	assert.Empty(t, w.user(login))
	w.prove(first, a.token)
	assert.Equal(t, "u", w.user(a.token), "it came along again")
	assert.Empty(t, w.user(first))
}

// Signing out, and signing in again, end a session whose token is too old.
func TestTooOldTokenEndsItsSession(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	w.clock.Step(tooOld)
	r := w.open(token)
	r.Destroy()
	assert.Equal(t, coatcheck.ClearCookie, w.finish(r).cookie)
	assert.False(t, r.OnlyTooOld())
	assert.Equal(t, 1, r.Report().Ended)
	assert.Zero(t, w.data.live(w.clock.Now()))

	token = w.bound()
	w.clock.Step(tooOld)
	next := w.do(token, authenticate("u"))
	assert.Equal(t, 1, w.data.live(w.clock.Now()))
	assert.Equal(t, "u", w.user(next.token))
}

// A proof renews a rolling session, as any request does.
func TestProofRenews(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	w.clock.Step(ttl - time.Second)
	token = w.prove(token).token
	w.clock.Step(boundTTL)
	assert.Equal(t, "u", w.user(token))
}

// What docs/device-bound.md says of a thief who binds the session first: the user is signed out a grace after the thief used the bound
// token, and the user's next login ends the thief's session only until the thief has renewed it.
func TestThiefWhoBindsFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		renewals, live int
	}{"not renewed": {0, 1}, "renewed": {1, 2}, "renewed twice": {2, 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			users, c := w.offered("u")
			a, err := w.bind(users, aKey, c)
			require.NoError(t, err)
			_, err = w.bind(users, anotherKey, c)
			require.ErrorIs(t, err, coatcheck.ErrBound, "the browser comes too late")
			assert.Equal(t, "u", w.user(users), "the thief has not used the session")
			thiefs := a.token
			w.use(thiefs)
			assert.Equal(t, "u", w.user(users), "the grace")
			w.clock.Step(grace + time.Millisecond)
			assert.Empty(t, w.user(users), "the user is signed out, long before the token is too old")
			for range tt.renewals {
				w.clock.Step(boundTTL - time.Minute)
				thiefs = w.prove(thiefs, thiefs).token
				w.use(thiefs)
			}
			again := w.do(users, authenticate("u"))
			assert.Equal(t, "u", w.user(again.token))
			assert.Equal(t, tt.live, w.data.live(w.clock.Now()))
			assert.Equal(t, tt.renewals > 0, w.user(thiefs) == "u")
		})
	}
}

// A browser with a cookie that has ended by itself has the token of the last proof, if it has any, however soon that is.
func TestLostAnswerOfAProofWithAShortLife(t *testing.T) {
	const short = 30 * time.Second
	w := newWorld(t, func(p *coatcheck.Policy) { p.BoundTTL = short })
	first := w.bound()
	second := w.prove(first).token
	w.clock.Step(short - time.Millisecond)
	w.prove(first)
	assert.Equal(t, "u", w.user(first), "its cookie has not ended")
	assert.Empty(t, w.user(second))

	second = w.prove(first, first).token
	w.clock.Step(short)
	w.prove(first)
	assert.Empty(t, w.user(first))
	assert.Equal(t, "u", w.user(second))
}
