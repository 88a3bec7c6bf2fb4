package coatcheck_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// SES-04: whatever a browser's rhythm, its session ends no earlier than ttl minus renew-every and no later than ttl after its
// last request, and at its absolute expiry at the latest (SES-05).
func TestSessionEndsInItsWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := rapid.SampledFrom([]time.Duration{-1, time.Millisecond, time.Second, renew, ttl - time.Second}).Draw(t, "renew-every")
		w := newWorld(t, func(p *coatcheck.Policy) { p.RenewEvery, p.MaxLifetime = every, 2*time.Hour })
		began := w.clock.Now()
		cookie := w.login("u")
		last := began
		for range rapid.IntRange(0, 30).Draw(t, "requests") {
			w.clock.Step(rapid.SampledFrom([]time.Duration{
				time.Millisecond, time.Second, renew - time.Millisecond, renew, 10 * time.Minute, ttl - max(0, every) - time.Millisecond,
			}).Draw(t, "step"))
			if w.user(cookie) == "" {
				break
			}
			last = w.clock.Now()
			a := w.do(cookie, nothing)
			require.Equal(t, coatcheck.KeepCookie, a.cookie, "renewal sends no cookie")
		}
		absolute := began.Add(2 * time.Hour)
		alive := minTime(last.Add(ttl-max(0, every)), absolute).Add(-time.Millisecond)
		if alive.After(w.clock.Now()) {
			w.clock.Step(alive.Sub(w.clock.Now()))
			require.Equal(t, "u", w.user(cookie), "too early")
		}
		w.clock.Step(minTime(last.Add(ttl), absolute).Sub(w.clock.Now()))
		require.Empty(t, w.user(cookie), "too late")
		require.Equal(t, coatcheck.ClearCookie, w.do(cookie, nothing).cookie)
	})
}

// A user who is active at the slowest rhythm that keeps a session is never logged out before the absolute expiry.
func TestActiveSessionLivesToItsAbsoluteExpiry(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	steps := 0
	for steps = 0; w.user(cookie) != ""; steps++ {
		w.do(cookie, nothing)
		rec := w.record(cookie)
		require.LessOrEqual(t, rec.IdleExpiry, rec.AbsoluteExpiry)
		w.clock.Step(20 * time.Minute)
	}
	assert.Equal(t, int(maxLife/(20*time.Minute)), steps, "12 hours of 20 minutes")
	cookie = w.login("u")
	for range 100 { // refreshes do not lengthen it either
		w.clock.Step(maxLife/100 - time.Millisecond)
		a := w.refresh(cookie)
		require.Equal(t, coatcheck.SetCookie, a.cookie)
		cookie = a.token
	}
	w.clock.Step(100 * time.Millisecond)
	assert.Empty(t, w.user(cookie))
}

func TestExpiryToTheMillisecond(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.clock.Step(ttl - time.Millisecond)
	assert.Equal(t, "u", w.user(cookie))
	w.clock.Step(time.Millisecond)
	assert.Empty(t, w.user(cookie), "nothing has removed it, and it is dead")
}

// lazyStore returns what it holds, whatever the time, like a cache that has not checked the expiry, or a store whose
// janitor has not run yet.
type lazyStore struct{ *mapStore }

func (l lazyStore) Load(_ context.Context, key coatcheck.Key, _ coatcheck.ID, _ time.Time, rec *coatcheck.Record) error {
	return rec.Read(key, l.raw(key))
}

// SES-05: an expired session is dead although the store still hands it out.
func TestExpiredRecordFromALazyStore(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.store.Store = lazyStore{w.data}
	w.clock.Step(ttl - time.Millisecond)
	assert.Equal(t, "u", w.user(cookie))
	w.clock.Step(time.Millisecond)
	assert.Empty(t, w.user(cookie))
	assert.Equal(t, coatcheck.ClearCookie, w.do(cookie, nothing).cookie)
}

// A read writes nothing: at most one write per renew-every.
func TestReadsDoNotWrite(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.store.ops()
	swaps := 0
	for range 600 { // ten minutes, a request each second
		w.clock.Step(time.Second)
		w.do(cookie, func(s *coatcheck.Session) { s.Len(); s.Contains("a"); s.UserID() })
		for _, op := range w.store.ops() {
			if op != opLoad {
				assert.Equal(t, opSwap, op)
				swaps++
			}
		}
	}
	assert.Equal(t, 3, swaps)
}

func TestRenewEveryRequest(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.RenewEvery = -1 })
	cookie := w.login("u")
	w.store.ops()
	w.do(cookie, nothing)
	assert.Equal(t, []string{opLoad}, w.store.ops(), "nothing to push within one millisecond")
	for range 3 {
		w.clock.Step(time.Millisecond)
		w.do(cookie, nothing)
		assert.Equal(t, []string{opLoad, opSwap}, w.store.ops())
	}
}

func TestFixedExpiry(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.FixedExpiry = true })
	cookie := w.login("u")
	w.store.ops()
	for range 29 {
		w.clock.Step(time.Minute)
		w.do(cookie, nothing)
		w.do(cookie, insert("x", 1))
	}
	assert.NotContains(t, w.store.ops(), opCreate)
	w.clock.Step(time.Minute - time.Millisecond)
	assert.Equal(t, "u", w.user(cookie))
	w.clock.Step(time.Millisecond)
	assert.Empty(t, w.user(cookie), "ttl after it began")
}

// A session is renewed from the time of the request's arrival, however long its handler takes, and its expiry never goes
// back.
func TestRenewalIsJudgedByTheRequest(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.clock.Step(renew)
	early := w.open(cookie)
	arrived := w.clock.Now()
	w.clock.Step(time.Minute)
	w.finish(early)
	assert.Equal(t, arrived.UnixMilli(), w.record(cookie).LastSeen)
	assert.Equal(t, arrived.Add(ttl).UnixMilli(), w.record(cookie).IdleExpiry)

	w.clock.Step(renew)
	slow := w.open(cookie)
	w.clock.Step(renew)
	w.do(cookie, nothing)
	seen := w.clock.Now()
	assert.Equal(t, coatcheck.KeepCookie, w.finish(slow).cookie)
	assert.Equal(t, seen.UnixMilli(), w.record(cookie).LastSeen, "judged anew on the conflict")
	assert.Zero(t, slow.Report().Renewed)
}

// A write that comes when a renewal is due includes the renewal.
func TestRenewalRidesAWrite(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.clock.Step(renew)
	w.store.ops()
	w.do(cookie, insert("x", 1))
	assert.Equal(t, []string{opLoad, opSwap}, w.store.ops())
	assert.Equal(t, w.clock.Now().UnixMilli(), w.record(cookie).LastSeen)
}

// SES-07: a clock that steps back pushes no expiry out, and brings no ended session back.
func TestClockStepsBack(t *testing.T) {
	w := newWorld(t)
	cookie, ended := w.login("u"), w.login("u")
	w.logout(ended)
	before := w.record(cookie).Expiry()
	w.clock.Step(-time.Hour)
	a := w.refresh(cookie)
	require.Equal(t, coatcheck.SetCookie, a.cookie)
	assert.Equal(t, before, w.record(a.token).Expiry())
	assert.Empty(t, w.user(ended))
}

// SES-07: a clock that steps an hour forward and back again does not bring back a session that was refused meanwhile.
func TestClockStepsForwardAndBack(t *testing.T) {
	w := newWorld(t)
	store, err := shardstore.New(shardstore.Options{JanitorEvery: time.Hour, Now: w.clock.Now})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	w.store.Store = store
	cookie := w.login("u")
	w.clock.Step(time.Hour)
	require.Equal(t, coatcheck.ClearCookie, w.do(cookie, nothing).cookie)
	w.clock.Step(-time.Hour)
	assert.Empty(t, w.user(cookie))
	assert.Equal(t, coatcheck.ClearCookie, w.refresh(cookie).cookie)
}

// SES-07: a logout, or a login that replaces a session, by a clock by which that session has expired, stands when the clock is set right.
// The store is one that keeps what has expired, as Redis does.
func TestClockIsAheadAtLogout(t *testing.T) {
	for name, act := range map[string]func(*coatcheck.Session){
		"logout": (*coatcheck.Session).Destroy,
		"login":  func(s *coatcheck.Session) { require.NoError(t, s.Authenticate("u")) },
	} {
		for others := range coatcheck.MaxCandidates + 1 {
			t.Run(fmt.Sprintf("%s, behind %d other cookies", name, others), func(t *testing.T) {
				w := newWorld(t)
				cookie := w.login("u")
				var cookies []string
				for range others {
					cookies = append(cookies, string(coatcheck.NewToken(coatcheck.Tag{}).AppendSecretText(nil)))
				}
				w.clock.Step(time.Hour)
				s := w.open(append(cookies, cookie)...)
				require.Empty(t, s.UserID())
				act(s.Lend())
				w.finish(s)
				w.clock.Step(-time.Hour)
				assert.Empty(t, w.user(cookie))
			})
		}
		t.Run(name+", of a session that expires meanwhile", func(t *testing.T) {
			w := newWorld(t)
			cookie := w.login("u")
			s := w.open(cookie)
			w.clock.Step(time.Hour)
			act(s.Lend())
			w.finish(s)
			w.clock.Step(-time.Hour)
			assert.Empty(t, w.user(cookie))
		})
	}
}

// The same holds for a session that an operator's not-before refuses: it may be taken back.
func TestLogoutOfARefusedSession(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.m.SetNotBefore(w.clock.Now().Add(time.Minute))
	require.Empty(t, w.user(cookie))
	w.logout(cookie)
	w.m.SetNotBefore(time.Time{})
	assert.Empty(t, w.user(cookie))
}

// SES-07: the nodes' clocks differ by a minute, and a session is in use at both all the time. It ends at its absolute
// expiry by each node's own clock, so at most half a minute late, and no node writes to it afterwards.
func TestClocksOfNodesDiffer(t *testing.T) {
	const skew = 30 * time.Second
	w := newWorld(t)
	node := func(off time.Duration) func(cookie string, handler func(*coatcheck.Session)) (answer, string) {
		now := func() time.Time { return w.clock.Now().Add(off) }
		m, err := coatcheck.NewManager(w.store, coatcheck.Policy{Now: now})
		require.NoError(t, err)
		return func(cookie string, handler func(*coatcheck.Session)) (answer, string) {
			s := new(coatcheck.Request)
			require.NoError(t, m.Open(t.Context(), s, presented(cookie), coatcheck.Client{}, now()))
			user := s.UserID()
			handler(s.Lend())
			return w.finish(s), user
		}
	}
	fast, slow := node(skew), node(-skew)
	began := w.clock.Now()
	a, _ := fast("", func(s *coatcheck.Session) { require.NoError(t, s.Authenticate("u")) })
	absolute := w.record(a.token).AbsoluteExpiry
	require.Equal(t, began.Add(maxLife+skew).UnixMilli(), absolute)
	for w.clock.Now().Before(began.Add(maxLife)) {
		for _, use := range []func(string, func(*coatcheck.Session)) (answer, string){fast, slow} {
			next, user := use(a.token, func(s *coatcheck.Session) { refreshIn(t, s) })
			if require.Equal(t, "u", user, w.clock.Now()); next.cookie == coatcheck.SetCookie {
				a = next
			}
		}
		require.Equal(t, absolute, w.record(a.token).AbsoluteExpiry)
		w.clock.Step(10 * time.Minute)
	}
	before := w.data.raw(key(t, a.token))
	_, user := fast(a.token, func(s *coatcheck.Session) { refreshIn(t, s) })
	assert.Empty(t, user, "by the clock that it began by")
	w.clock.Step(2 * skew)
	_, user = slow(a.token, func(s *coatcheck.Session) { refreshIn(t, s) })
	assert.Empty(t, user, "by the clock that is behind")
	assert.Equal(t, before, w.data.raw(key(t, a.token)), "and nothing was written")
}

func TestRecordStanding(t *testing.T) {
	now := time.UnixMilli(1_000)
	current, previous := coatcheck.ID{1}, coatcheck.ID{2}
	tests := map[string]struct {
		prev  coatcheck.ID
		until int64
		id    coatcheck.ID
		want  coatcheck.Standing
	}{
		"current":               {previous, 0, current, coatcheck.Current},
		"previous, open":        {previous, coatcheck.PrevOpen, previous, coatcheck.Previous},
		"previous, last ms":     {previous, 1_001, previous, coatcheck.Previous},
		"previous, over":        {previous, 1_000, previous, coatcheck.Reused},
		"neither":               {previous, coatcheck.PrevOpen, coatcheck.ID{3}, coatcheck.Unknown},
		"no ID":                 {previous, coatcheck.PrevOpen, coatcheck.ID{}, coatcheck.Unknown},
		"no ID and no previous": {coatcheck.ID{}, coatcheck.PrevOpen, coatcheck.ID{}, coatcheck.Unknown},
		"last byte differs":     {previous, 0, coatcheck.ID{1, 15: 1}, coatcheck.Unknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rec := &coatcheck.Record{Header: coatcheck.Header{ID: current, PrevID: tt.prev, PrevUntil: tt.until}}
			got := rec.Standing(tt.id, now)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, got == coatcheck.Current || got == coatcheck.Previous, got.Admitted())
		})
	}
}

func TestRecordLives(t *testing.T) {
	now := time.UnixMilli(1_000)
	for name, tt := range map[string]struct {
		idle, absolute int64
		want           bool
	}{
		"both ahead":   {1_001, 1_001, true},
		"idle now":     {1_000, 1_001, false},
		"absolute now": {1_001, 1_000, false},
		"both past":    {1, 1, false},
	} {
		rec := &coatcheck.Record{Header: coatcheck.Header{IdleExpiry: tt.idle, AbsoluteExpiry: tt.absolute}}
		assert.Equal(t, tt.want, rec.Lives(now), name)
		assert.Equal(t, min(tt.idle, tt.absolute), rec.Expiry(), name)
	}
}

// B17: a session shows where it was last seen, as of its last renewal or rotation, and still where it began. The note takes no
// write of its own.
func TestLastIPFollowsTheClient(t *testing.T) {
	w := newWorld(t)
	home, train := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::7")
	from := func(addr netip.Addr, cookie string, handler func(*coatcheck.Session)) answer {
		t.Helper()
		r := new(coatcheck.Request)
		require.NoError(t, w.m.Open(t.Context(), r, presented(cookie), coatcheck.Client{IP: addr}, w.clock.Now()))
		handler(r.Lend())
		return w.finish(r)
	}
	where := func() (began, last netip.Addr) {
		t.Helper()
		sessions, err := w.m.List(t.Context(), "u")
		require.NoError(t, err)
		require.Len(t, sessions, 1)
		return sessions[0].CreatedIP, sessions[0].LastIP
	}
	cookie := from(home, "", func(s *coatcheck.Session) { require.NoError(t, s.Authenticate("u")) }).token
	began, last := where()
	assert.Equal(t, []netip.Addr{home, home}, []netip.Addr{began, last})

	w.clock.Step(renew - time.Millisecond)
	w.store.ops()
	from(train, cookie, nothing)
	assert.Equal(t, []string{opLoad}, w.store.ops(), "no write of its own")
	from(train, cookie, insert("x", 1))
	_, last = where()
	assert.Equal(t, home, last, "as coarse as LastSeen")

	w.clock.Step(time.Millisecond)
	w.store.ops()
	from(train, cookie, nothing)
	assert.Equal(t, []string{opLoad, opSwap}, w.store.ops())
	began, last = where()
	assert.Equal(t, []netip.Addr{home, train}, []netip.Addr{began, last}, "a renewal")

	cookie = from(home, cookie, func(s *coatcheck.Session) { refreshIn(t, s) }).token
	began, last = where()
	assert.Equal(t, []netip.Addr{home, home}, []netip.Addr{began, last}, "a rotation")

	w.clock.Step(renew)
	from(train, cookie, nothing)
	w.clock.Step(renew)
	from(netip.Addr{}, cookie, nothing)
	_, last = where()
	assert.Equal(t, train, last, "an address that is not known changes nothing")
}
