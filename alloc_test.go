//go:build !race

// The race detector allocates by itself, so "make test" runs this without it.

package coatcheck_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

func TestReadPathDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) {
		require.NoError(t, s.Authenticate("user-42"))
		require.NoError(t, s.Insert("refreshed", true))
		require.NoError(t, s.Insert("theme", "dark"))
	}).token
	ctx, p, s := context.Background(), presented(cookie), new(coatcheck.Request)
	now := w.clock.Now()
	m, err := coatcheck.NewManager(w.data, w.m.Policy()) // without the hooks, whose counting would allocate
	require.NoError(t, err)

	allocs := testing.AllocsPerRun(1000, func() {
		if m.Open(ctx, s, p, coatcheck.Client{}, now) != nil || len(s.RawUserID()) == 0 || s.ID() == (coatcheck.ID{}) {
			panic("no session")
		}
		if v, err := coatcheck.Get[bool](s.Lend(), "refreshed"); err != nil || !v {
			panic("no value")
		}
		if raw, ok := s.Raw("theme"); !ok || len(raw) != 6 {
			panic("no value")
		}
		if s.Finish(ctx) != nil || s.Cookie() != coatcheck.KeepCookie {
			panic("not a read")
		}
		s.Release()
	})
	assert.Zero(t, allocs, "Open, Get[bool], Raw, Finish")

	s = w.open(cookie)
	assert.Equal(t, 1.0, testing.AllocsPerRun(1000, func() { sink, _ = coatcheck.Get[string](s.Lend(), "theme") }), "the string itself")
	assert.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = coatcheck.Get[bool](s.Lend(), "theme2") }), "absent")

	anonymous := presented()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		_ = m.Open(ctx, s, anonymous, coatcheck.Client{}, now)
		_ = s.Finish(ctx)
	}), "anonymous")
}

func TestLastIPDoesNotAllocate(t *testing.T) {
	var rec coatcheck.Record
	require.NoError(t, example().write(&rec))
	rec.SetLastIP(elsewhere)
	here := rec.IP()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		rec.SetLastIP(here)
		rec.SetLastIP(elsewhere)
		rec.SetLastIP(elsewhere)
	}))
}

// A session that a device may be bound to, and one that is bound and whose last proof is recent enough, cost no allocation
// either.
func TestBoundReadPathDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	offered, _ := w.offered("u")
	m, err := coatcheck.NewManager(w.data, w.m.Policy())
	require.NoError(t, err)
	ctx, r, now := context.Background(), new(coatcheck.Request), w.clock.Now()
	for name, cookie := range map[string]string{"offered": offered, "bound": w.bound()} {
		p := presented(cookie)
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			if m.Open(ctx, r, p, coatcheck.Client{}, now) != nil || len(r.RawUserID()) == 0 || r.Finish(ctx) != nil || r.Cookie() != coatcheck.KeepCookie {
				panic("no read")
			}
			r.Release()
		}), name)
	}
}

var sink string

func TestClaimsAreReadWithoutAllocations(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.loginWith(t, "", "ann", parsedClaims(t, staff), nil))
	var groups string
	allocs := testing.AllocsPerRun(1000, func() {
		if string(r.EncodedClaims().Groups) == "staff,ops" {
			groups = "found"
		}
	})
	assert.Zero(t, allocs)
	assert.NotEmpty(t, groups)
}
