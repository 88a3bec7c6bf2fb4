package coatcheck_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A login from an anonymous session races with values written to it: every acknowledged value goes with the login.
func TestRaceLoginAndTwoWriters(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		old := w.begin("a", 1)
		login := &request{w: w, cookie: old, handler: authenticate("u")}
		x := &request{w: w, cookie: old, handler: insert("x", 1)}
		y := &request{w: w, cookie: old, handler: insert("y", 1)}
		return w, []actor{login.run, x.run, y.run}, func(t *testing.T) {
			require.NoError(t, login.err)
			want := []string{"a=1"}
			for _, r := range []*request{x, y} {
				require.NoError(t, r.err)
				if r.ans.cookie == coatcheck.SetCookie {
					want = append(want, entries(r.s.Lend())...)
				}
			}
			slices.Sort(want)
			assert.Equal(t, slices.Compact(want), entries(w.open(login.ans.token).Lend()))
			assert.Equal(t, 1, w.data.live(w.clock.Now()))
		}
	})
}

// A value that the login's handler removes is gone, although it was written after the login had loaded the session.
func TestRaceLoginRemovesWhatIsWrittenMeanwhile(t *testing.T) {
	w := newWorld(t)
	old := w.begin("a", 1)
	s := w.open(old)
	require.NoError(t, s.Authenticate("u"))
	s.Remove("x")
	w.do(old, insert("x", 1))
	a := w.finish(s)
	assert.Equal(t, []string{"a=1"}, entries(w.open(a.token).Lend()))
}

// Values of a session that was logged out before its login-in-progress could end it do not go with the login.
func TestRaceLoginAndLogout(t *testing.T) {
	for _, first := range []string{"", "u", "v"} {
		t.Run("from "+first, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				old := w.do("", func(s *coatcheck.Session) {
					if first != "" {
						require.NoError(t, s.Authenticate(first))
					}
					require.NoError(t, s.Insert("a", 1))
				}).token
				login := &request{w: w, cookie: old, handler: authenticate("u")}
				logout := &request{w: w, cookie: old, handler: (*coatcheck.Session).Destroy}
				return w, []actor{login.run, logout.run}, func(t *testing.T) {
					require.NoError(t, login.err)
					require.NoError(t, logout.err)
					assert.Equal(t, 1, login.s.Report().Replaced+logout.s.Report().Ended, "ended once")
					assert.Equal(t, "u", w.user(login.ans.token))
					assert.Equal(t, 1, w.data.live(w.clock.Now()))
					kept := first != "v" && login.s.Report().Replaced == 1
					assert.Equal(t, kept, w.value(login.ans.token, "a") != "")
				}
			})
		})
	}
}

// CON-07: the limit is exact, whatever else happens.
func TestRaceLoginsAtTheLimit(t *testing.T) {
	for name, tt := range map[string]struct{ limit, before, logins int }{
		"two at one":      {1, 1, 2},
		"two at two":      {2, 2, 2},
		"two below three": {3, 2, 2},
		"three at two":    {2, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t, func(p *coatcheck.Policy) { p.MaxPerUser = tt.limit })
				for range tt.before {
					w.login("u")
					w.clock.Step(time.Second)
				}
				other := w.login("v")
				var logins []*request
				var actors []actor
				for range tt.logins {
					r := &request{w: w, handler: authenticate("u")}
					logins, actors = append(logins, r), append(actors, r.run)
				}
				return w, actors, func(t *testing.T) {
					pushed := 0
					for _, r := range logins {
						require.NoError(t, r.err)
						assert.Equal(t, coatcheck.SetCookie, r.ans.cookie)
						pushed += r.s.Report().LimitEnded
					}
					assert.Len(t, w.data.liveOf("u", w.clock.Now()), tt.limit)
					assert.Equal(t, tt.before+tt.logins-tt.limit, pushed)
					assert.Equal(t, "v", w.user(other), "another user's session")
				}
			})
		})
	}
}

// A login that replaces the user's own session does not count twice: no other session ends for it.
func TestReloginAtTheLimitPushesNobodyOut(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.MaxPerUser = 2 })
	phone := w.login("u")
	w.clock.Step(time.Second)
	laptop := w.login("u")
	w.clock.Step(time.Second)
	a := w.do(laptop, authenticate("u"))
	assert.Equal(t, "u", w.user(phone))
	assert.Equal(t, "u", w.user(a.token))
	assert.Empty(t, w.user(laptop))
}

// REV-02: ending all of a user's sessions refuses every login that began before, whichever step it has reached.
func TestRaceRevokeAllAndLogin(t *testing.T) {
	for name, first := range map[string]func(w *world) string{
		"from nothing":          func(*world) string { return "" },
		"from an anonymous one": func(w *world) string { return w.begin("a", 1) },
		"from his own":          func(w *world) string { return w.login("u") },
		"from another user's":   func(w *world) string { return w.login("v") },
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				old := first(w)
				revoked, began := false, false
				login := &request{w: w, cookie: old}
				admin := func(ctx context.Context) {
					pause(ctx, "revoke all")
					revoked = true
					_, err := w.data.EndUser(ctx, "u", coatcheck.Key{}, true, w.clock.Now(), w.clock.Now().Add(grace))
					require.NoError(t, err)
				}
				attempt := func(ctx context.Context) {
					login.handler = func(s *coatcheck.Session) {
						require.NoError(t, s.BeginLogin(ctx, "u"))
						began = !revoked
						pause(ctx, "credentials")
						require.NoError(t, s.Authenticate("u"))
					}
					login.run(ctx)
				}
				write := &request{w: w, cookie: old, handler: insert("x", 1)}
				actors := []actor{attempt, admin}
				if old != "" {
					actors = append(actors, write.run)
				}
				return w, actors, func(t *testing.T) { checkRevoked(t, w, login, began, old) }
			})
		})
	}
}

func checkRevoked(t *testing.T, w *world, login *request, began bool, old string) {
	t.Helper()
	live := len(w.data.liveOf("u", w.clock.Now()))
	if !began {
		require.NoError(t, login.err, "a login that begins afterwards")
		assert.Equal(t, 1, live)
		return
	}
	assert.Zero(t, live, "a session of a login that began before")
	if login.err != nil {
		assert.ErrorIs(t, login.err, coatcheck.ErrRevoked)
		assert.NotEqual(t, coatcheck.SetCookie, login.ans.cookie)
		assert.Empty(t, login.s.UserID())
	} else {
		assert.Empty(t, w.user(login.ans.token), "it was acknowledged, and ended")
	}
	if old != "" {
		w.do(old, func(*coatcheck.Session) {})
	}
}

// A login whose session is ended between its steps was refused, however late that shows.
func TestRaceLoginEndedBeforeItsMerge(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, w *world){
		"revoke all": func(ctx context.Context, w *world) {
			_, err := w.data.EndUser(ctx, "u", coatcheck.Key{}, true, w.clock.Now(), w.clock.Now().Add(grace))
			require.NoError(t, err)
		},
		"pushed out by the limit": func(_ context.Context, w *world) {
			w.clock.Step(time.Second)
			w.login("u")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(p *coatcheck.Policy) { p.MaxPerUser = 1 })
			old := w.begin("a", 1)
			s := w.open(old)
			require.NoError(t, s.Authenticate("u"))
			w.do(old, insert("x", 1)) // so that there is something to merge
			w.store.once(opSwap, func() { end(t.Context(), w) })
			assert.ErrorIs(t, s.Finish(t.Context()), coatcheck.ErrRevoked)
			assert.NotEqual(t, coatcheck.SetCookie, s.Cookie())
			assert.Empty(t, s.UserID())
		})
	}
}

// A refused login leaves the carried session alone.
func TestRefusedLoginLeavesTheCarriedSession(t *testing.T) {
	for name, want := range map[string]error{"revoked": coatcheck.ErrRevoked, "full": coatcheck.ErrFull} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			old := w.do("", func(s *coatcheck.Session) {
				require.NoError(t, s.Authenticate("v"))
				require.NoError(t, s.Insert("a", 1))
			}).token
			w.store.before = failOp(opCreate, want)
			s := w.open(old)
			require.NoError(t, s.Authenticate("u"))
			err := s.Finish(context.Background())
			require.ErrorIs(t, err, want)
			assert.NotErrorIs(t, err, coatcheck.ErrUnavailable)
			assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
			w.store.before = nil
			assert.Equal(t, "v", w.user(old))
			assert.Equal(t, []string{"a=1"}, entries(w.open(old).Lend()))
		})
	}
}

func failOp(op string, err error) func(context.Context, string) error {
	return func(_ context.Context, got string) error {
		if got == op {
			return err
		}
		return nil
	}
}

// A mark that was read for one user is not used for another. Whether the other user's mark existed before the login began
// is unknown then, so any mark refuses the login.
func TestLoginReadsTheMarkOfItsUser(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	_, err := w.data.EndUser(ctx, "v", coatcheck.Key{}, true, w.clock.Now(), w.clock.Now().Add(grace))
	require.NoError(t, err)
	s := w.open()
	require.NoError(t, s.BeginLogin(ctx, "u"))
	require.NoError(t, s.Authenticate("v"))
	require.ErrorIs(t, s.Finish(ctx), coatcheck.ErrRevoked)

	s = w.open()
	require.NoError(t, s.BeginLogin(ctx, "u"))
	require.NoError(t, s.Authenticate("w"))
	assert.Equal(t, coatcheck.SetCookie, w.finish(s).cookie, "no mark stands at w")
}

// A login whose values do not fit together with those written meanwhile is refused as a whole.
func TestLoginThatDoesNotFitBeginsNothing(t *testing.T) {
	w := newWorld(t)
	old := w.begin("a", 1)
	s := w.open(old)
	require.NoError(t, s.Authenticate("u"))
	require.NoError(t, s.Insert("x", string(make([]byte, 300)))) // 1800 bytes of \u0000
	w.do(old, insert("y", string(make([]byte, 300))))
	assert.ErrorIs(t, s.Finish(context.Background()), coatcheck.ErrTooLarge)
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
}

// A token that was made for a rotation in which another request was faster has the old key, so the next session must not
// use it.
func TestRotationThatWasDroppedLeavesNoToken(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	s.Rotate()
	w.store.once(opSwap, func() { w.refresh(cookie) })
	require.NoError(t, s.Commit(ctx))
	require.Zero(t, s.Report().Rotated)
	s.Destroy()
	require.NoError(t, s.Insert("x", 1))
	require.NoError(t, s.Commit(ctx))
	s.CycleID()
	a := w.finish(s)
	assert.Equal(t, s.Key(), key(t, a.token))
	assert.Equal(t, "1", w.value(a.token, "x"))
}
