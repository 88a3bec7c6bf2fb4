package coatcheck_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A token is too old when the last proof is, and then it is cleared; the name stays, because the device can still prove.
func TestTokenOfABoundSessionGetsTooOld(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	w.clock.Step(tooOld - time.Millisecond)
	assert.Equal(t, answer{}, w.use(token))
	assert.Equal(t, "u", w.user(token), "within the leeway")
	w.clock.Step(time.Millisecond)
	r := w.open(token)
	assert.Empty(t, r.UserID())
	assert.Equal(t, coatcheck.Reuse{Key: key(t, token), ID: w.record(token).ID, User: "u"}, r.Report().TooOld)
	assert.Zero(t, r.Report().Reused)
	require.NoError(t, r.Insert("a", 1))
	assert.Equal(t, coatcheck.ClearCookie, w.finish(r).cookie)
	assert.True(t, r.OnlyTooOld())
	assert.Equal(t, 1, r.Report().Dropped, "a session for the value would take the place of the bound one")

	p := presented(token)
	p.ToWatch()
	require.NoError(t, w.m.Open(t.Context(), r, p, coatcheck.Client{}, w.clock.Now()))
	assert.True(t, r.RotatedOut())
	assert.Equal(t, coatcheck.Reuse{Key: key(t, token), ID: w.record(token).ID, User: "u"}, r.Report().Left)
	assert.Zero(t, r.Report().TooOld)
	assert.Equal(t, coatcheck.ClearCookie, w.finish(r).cookie)
	assert.True(t, r.OnlyTooOld())

	renewed := w.prove(token)
	assert.Equal(t, "u", w.user(renewed.token))
	assert.Equal(t, "u", w.user(token), "requests on their way")
	w.use(renewed.token)
	w.clock.Step(grace)
	assert.Empty(t, w.user(token))
	assert.Equal(t, "u", w.user(renewed.token))
	dead := w.login("v")
	w.logout(dead)
	w.clock.Step(tooOld)
	r = w.open(renewed.token, dead)
	assert.Equal(t, coatcheck.ClearCookie, w.finish(r).cookie)
	assert.True(t, r.OnlyTooOld())
	alive := w.login("v")
	r = w.open(renewed.token, alive)
	assert.Equal(t, "v", r.UserID())
	assert.Equal(t, coatcheck.KeepCookie, w.finish(r).cookie)
	assert.False(t, r.OnlyTooOld())
}

// The leeway is a tenth, and at least a second.
func TestLeeway(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.BoundTTL = 2 * time.Second })
	token := w.bound()
	w.clock.Step(3 * time.Second)
	assert.Equal(t, "u", w.user(token))
	w.clock.Step(time.Millisecond)
	assert.Empty(t, w.user(token))
	for ttl, ok := range map[time.Duration]bool{time.Second: true, time.Second - 1: false, -time.Second: false} {
		assert.Equal(t, ok, coatcheck.Policy{BoundTTL: ttl}.Validate() == nil, ttl)
	}
}

// A browser that takes the cookie of a registration and rejects the rest is not signed out.
func TestAgeIsEnforcedOnceTheBindingWasUsed(t *testing.T) {
	w := newWorld(t)
	token, c := w.offered("u")
	a, err := w.bind(token, aKey, c)
	require.NoError(t, err)
	w.clock.Step(25 * time.Minute)
	assert.Equal(t, "u", w.user(token))
	assert.Equal(t, "u", w.user(a.token))
	w.use(token)
	w.clock.Step(25 * time.Minute)
	assert.Equal(t, "u", w.user(token), "it uses the token of the login only")
	w.use(a.token)
	assert.Empty(t, w.user(a.token), "it presented the bound token")
	assert.Equal(t, "u", w.user(w.prove(token).token))

	token, c = w.offered("v")
	_, err = w.bind(token, aKey, c)
	require.NoError(t, err)
	w.prove(token)
	w.clock.Step(tooOld)
	assert.Empty(t, w.user(token), "a refresh has proved")
}

// A store may answer from a cache that has not seen the last proof: only what stands in the store itself is too old.
func TestTooOldIsReadPastTheCache(t *testing.T) {
	w := newWorld(t)
	token := w.bound()
	cached := w.data.raw(key(t, token))
	renewAt := func() string { w.clock.Step(tooOld); return w.prove(token, token).token }
	renewed := renewAt()
	store := &staleStore{Store: w.data, stale: cached}
	m, err := coatcheck.NewManager(store, w.m.Policy())
	require.NoError(t, err)
	r := new(coatcheck.Request)
	require.NoError(t, m.Open(context.Background(), r, presented(token), coatcheck.Client{}, w.clock.Now()))
	assert.Equal(t, "u", r.UserID())
	require.NoError(t, m.Open(context.Background(), r, presented(renewed), coatcheck.Client{}, w.clock.Now()))
	assert.Equal(t, "u", r.UserID())
	w.clock.Step(tooOld)
	require.NoError(t, m.Open(context.Background(), r, presented(token), coatcheck.Client{}, w.clock.Now()))
	assert.Empty(t, r.UserID())
}

// staleStore has a cache that holds one record for good.
type staleStore struct {
	coatcheck.Store
	stale []byte
}

func (s *staleStore) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if rec.Read(key, s.stale) == nil && rec.Standing(id, now).Admitted() {
		return nil
	}
	return s.Store.Load(ctx, key, id, now, rec)
}
