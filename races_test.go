package coatcheck_test

import (
	"context"
	"math/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// These are the races by name (issue 5). Each runs in every order in which the store operations of its requests can happen.

// request is an actor: one request with this cookie. Its outcome is in the fields once it is done.
type request struct {
	w       *world
	cookie  string
	handler func(s *coatcheck.Session)

	s   *coatcheck.Request
	ans answer
	err error
}

func (r *request) run(ctx context.Context) {
	r.s = new(coatcheck.Request)
	p := new(coatcheck.Presented)
	if r.cookie != "" {
		p.Add([]byte(r.cookie))
	}
	if r.err = r.w.m.Open(ctx, r.s, p, coatcheck.Client{}, r.w.clock.Now()); r.err != nil {
		return
	}
	r.handler(r.s.Lend())
	r.err = r.s.Finish(ctx)
	r.ans = r.w.answer(r.s)
}

func insert(name string, value any) func(*coatcheck.Session) {
	return func(s *coatcheck.Session) { _ = s.Insert(name, value) }
}

func authenticate(user string) func(*coatcheck.Session) {
	return func(s *coatcheck.Session) { _ = s.Authenticate(user) }
}

func refreshing(t tester) func(*coatcheck.Session) {
	return func(s *coatcheck.Session) { refreshIn(t, s) }
}

// CON-01: a logout beside any other request leaves no usable token, and a request that came too late says so.
func TestRaceLogout(t *testing.T) {
	for name, other := range map[string]func(*coatcheck.Session){
		"save":    insert("x", 1),
		"update":  func(s *coatcheck.Session) { _ = coatcheck.Update(s, "n", func(n int) int { return n + 1 }) },
		"refresh": refreshing(t),
		"cycle":   (*coatcheck.Session).CycleID,
		"clear":   (*coatcheck.Session).Clear,
		"logout":  (*coatcheck.Session).Destroy,
		"renewal": func(*coatcheck.Session) {},
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				cookie := w.login("u")
				w.clock.Step(renew)
				logout := &request{w: w, cookie: cookie, handler: (*coatcheck.Session).Destroy}
				racer := &request{w: w, cookie: cookie, handler: other}
				return w, []actor{logout.run, racer.run}, func(t *testing.T) {
					require.NoError(t, logout.err)
					require.NoError(t, racer.err)
					assert.Equal(t, coatcheck.ClearCookie, logout.ans.cookie)
					if logout.s.Report().Reused.Key != (coatcheck.Key{}) {
						return // the logout came after a CycleID, with a token that was dead then
					}
					assert.Zero(t, w.data.live(w.clock.Now()), "a session lives")
					for _, token := range []string{cookie, racer.ans.token} {
						assert.Empty(t, w.open(token).UserID())
					}
				}
			})
		})
	}
}

// A refresh that meets the end of its session answers as anonymous, without a cookie.
func TestRaceLogoutBeforeRefreshCommits(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	refreshIn(t, s.Lend())
	w.logout(cookie)
	require.NoError(t, s.Commit(context.Background()))
	assert.Empty(t, s.UserID())
	assert.Zero(t, s.ID())
	assert.Zero(t, s.Len())
	assert.Equal(t, 1, s.Report().Dropped)
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
}

// A value that a handler sets after its session was found gone is dropped too: a session begun for it would take the place
// of the successor in the browser's jar.
func TestRaceInsertAfterTheSessionWasLost(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	s := w.open(cookie)
	require.NoError(t, s.Insert("a", 1))
	w.logout(cookie)
	fresh := w.login("u")
	require.NoError(t, s.Commit(context.Background()))
	require.NoError(t, s.Insert("b", 1))
	a := w.finish(s)
	j := jar(fresh)
	j.apply(a)
	assert.Equal(t, "u", w.user(string(j)))
	assert.Equal(t, 2, s.Report().Dropped)

	require.NoError(t, s.Authenticate("u"), "who proves who he is begins a session nevertheless")
	assert.Equal(t, coatcheck.SetCookie, w.finish(s).cookie)
	s = w.open(fresh)
	require.NoError(t, s.Insert("a", 1))
	w.logout(fresh)
	require.NoError(t, s.Commit(context.Background()))
	s.Destroy()
	require.NoError(t, s.Insert("b", 1))
	assert.Equal(t, coatcheck.SetCookie, w.finish(s).cookie, "and so does who asks for a new one")
}

// CON-04: exactly one of several parallel refreshes rotates, and every browser ends with a live cookie that can be
// refreshed.
func TestRaceRefreshes(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		cookie := w.login("u")
		reqs, actors := refreshes(t, w, cookie, 3)
		return w, actors, func(t *testing.T) {
			orders(len(reqs), func(order []int) { checkRefreshes(t, w, cookie, reqs, order) })
		}
	})
}

func TestRaceFiftyRefreshes(t *testing.T) {
	for seed := range int64(20) {
		rnd := rand.New(rand.NewSource(seed))
		w := newWorld(t)
		cookie := w.login("u")
		reqs, actors := refreshes(t, w, cookie, 50)
		run(w, rnd.Intn, actors)
		for range 50 {
			checkRefreshes(t, w, cookie, reqs, rnd.Perm(len(reqs)))
		}
	}
}

func refreshes(t tester, w *world, cookie string, n int) (reqs []*request, actors []actor) {
	for range n {
		r := &request{w: w, cookie: cookie, handler: refreshing(t)}
		reqs, actors = append(reqs, r), append(actors, r.run)
	}
	return reqs, actors
}

func checkRefreshes(t *testing.T, w *world, cookie string, reqs []*request, order []int) {
	t.Helper()
	rotated, j := 0, jar(cookie)
	for _, i := range order {
		require.NoError(t, reqs[i].err)
		assert.Equal(t, "u", reqs[i].s.UserID(), "each is served the session")
		raw, _ := reqs[i].s.Raw("refreshed")
		assert.Equal(t, "true", string(raw))
		rotated += reqs[i].s.Report().Rotated
		j.apply(reqs[i].ans)
		assert.Equal(t, "u", w.user(string(j)), "live after every answer")
	}
	assert.Equal(t, 1, rotated)
	tok, _ := coatcheck.ParseToken([]byte(j))
	assert.Equal(t, w.record(cookie).ID, tok.ID(), "the jar ends with the current token")
}

// A slow request with the old cookie races with a login, or with a logout and a login: if it commits later, its answer
// never replaces the new cookie, and every value that was acknowledged to it is in the new session.
func TestRaceLoginAndSlowRequest(t *testing.T) {
	logins := map[string]struct {
		first  func(w *world, t tester) string // makes the session before the login
		keeps  bool                            // its values go with the login
		logout bool
	}{
		"anonymous":    {func(w *world, _ tester) string { return w.begin("a", 1) }, true, false},
		"same user":    {func(w *world, _ tester) string { return w.login("u") }, true, false},
		"other user":   {func(w *world, _ tester) string { return w.login("v") }, false, false},
		"logout first": {func(w *world, _ tester) string { return w.login("u") }, false, true},
	}
	for name, tt := range logins {
		for what, slowly := range map[string]func(*coatcheck.Session){
			"insert":  insert("x", 1),
			"refresh": func(s *coatcheck.Session) { s.Rotate(); insert("x", 1)(s) },
			"update":  func(s *coatcheck.Session) { _ = coatcheck.Update(s, "x", func(n int) int { return n + 1 }) },
			"clear":   func(s *coatcheck.Session) { s.Clear(); insert("x", 1)(s) },
			"cycle":   func(s *coatcheck.Session) { s.CycleID(); insert("x", 1)(s) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
					w := newWorld(t)
					old := tt.first(w, t)
					slow := &request{w: w, cookie: old, handler: slowly}
					login := &request{w: w, cookie: old, handler: authenticate("u")}
					logout := &request{w: w, cookie: old, handler: (*coatcheck.Session).Destroy}
					change := func(ctx context.Context) {
						if tt.logout {
							logout.run(ctx)
							login.cookie = ""
						}
						login.run(ctx)
					}
					return w, []actor{change, slow.run}, func(t *testing.T) {
						checkSlow(t, w, old, slow, login, tt.keeps, what)
					}
				})
			})
		}
	}
}

func checkSlow(t *testing.T, w *world, old string, slow, login *request, keeps bool, what string) {
	t.Helper()
	require.NoError(t, login.err)
	require.NoError(t, slow.err)
	require.Equal(t, coatcheck.SetCookie, login.ans.cookie)
	if what == "cycle" && slow.s.Report().Rotated == 1 {
		assert.Empty(t, w.value(login.ans.token, "x"), "values behind a token that was not admitted any more")
		return // the request came first, and the token that the login carried was dead at once: there was nothing to end
	}
	assert.Equal(t, 1, w.data.live(w.clock.Now()), "the new session and no other")
	assert.Equal(t, "u", w.user(login.ans.token))
	assert.Empty(t, w.open(old).ID())

	written := slow.ans.cookie == coatcheck.SetCookie
	stored := w.value(login.ans.token, "x") != ""
	if keeps {
		assert.Equal(t, written, stored, "what the slow request was told, and what is there")
	} else if !keeps {
		assert.False(t, stored)
	}
	if !written {
		j := jar(old)
		j.apply(login.ans, slow.ans)
		assert.Equal(t, login.ans.token, string(j), "the jar keeps the new one")
		assert.Equal(t, 1, slow.s.Report().Dropped)
	}
}

// CycleID races with a refresh with the stolen old token: whichever commits first, the thief gets no live token.
func TestRaceCycleAndStolenRefresh(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		cookie := w.login("u")
		owner := &request{w: w, cookie: cookie, handler: (*coatcheck.Session).CycleID}
		thief := &request{w: w, cookie: cookie, handler: func(s *coatcheck.Session) {
			refreshIn(t, s)
			_ = coatcheck.Update(s, "seen", func(n int) int { return n + 1 })
		}}
		return w, []actor{owner.run, thief.run}, func(t *testing.T) {
			require.NoError(t, owner.err)
			require.NoError(t, thief.err)
			require.Equal(t, coatcheck.SetCookie, owner.ans.cookie)
			assert.Equal(t, "u", w.user(owner.ans.token))
			assert.Empty(t, w.user(cookie), "the stolen token")
			if thief.ans.token != "" {
				assert.Empty(t, w.user(thief.ans.token), "the token that the thief got for it")
			}
			w.clock.Step(2 * grace)
			assert.Empty(t, w.user(cookie))
		}
	})
}

// The race is the same with a token that is old already, in its grace or with a successor that is not used yet: the owner's
// CycleID ends it, and in no order does the thief get a live token.
func TestRaceCycleAndRefreshWithAnOldToken(t *testing.T) {
	for name, used := range map[string]bool{"in its grace": true, "the successor unused": false} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				old := w.login("u")
				cookie := w.refresh(old).token
				if used {
					w.do(cookie, func(*coatcheck.Session) {})
				}
				w.clock.Step(grace / 2)
				owner := &request{w: w, cookie: cookie, handler: (*coatcheck.Session).CycleID}
				thief := &request{w: w, cookie: old, handler: refreshing(t)}
				again := &request{w: w, cookie: old, handler: refreshing(t)}
				return w, []actor{owner.run, thief.run, again.run}, func(t *testing.T) {
					for _, r := range []*request{owner, thief, again} {
						require.NoError(t, r.err)
					}
					require.Equal(t, coatcheck.SetCookie, owner.ans.cookie)
					assert.Equal(t, "u", w.user(owner.ans.token))
					assert.Empty(t, thief.ans.token, "the thief got a token")
					assert.Empty(t, again.ans.token)
					assert.Empty(t, w.user(old))
					assert.Empty(t, w.user(cookie))
				}
			})
		})
	}
}

// A stolen old token gains nothing from a conflict: its handler's functions do not get the record that the conflict
// returned, and a change that would not fit is dropped rather than reported.
func TestRaceConflictIsCheckedBeforeItIsMerged(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	thief := w.open(cookie)
	var seen []string
	require.NoError(t, coatcheck.Update(thief.Lend(), "secret", func(old string) string {
		seen = append(seen, old)
		return "x"
	}))
	w.do(cookie, func(s *coatcheck.Session) {
		s.CycleID()
		require.NoError(t, s.Insert("secret", "new"))
	})
	assert.Equal(t, coatcheck.KeepCookie, w.finish(thief).cookie)
	assert.Equal(t, []string{""}, seen)
	assert.Equal(t, 1, thief.Report().Dropped)
}

// A session that expires while the handler works is not written, not revived, and not cleared: the next request does that.
func TestRaceExpiryInTheMiddleOfARequest(t *testing.T) {
	for name, handler := range map[string]func(*coatcheck.Session){
		"save": insert("x", 1), "refresh": refreshing(t), "cycle": (*coatcheck.Session).CycleID, "renewal": func(*coatcheck.Session) {},
		"logout": (*coatcheck.Session).Destroy,
	} {
		for end, step := range map[string]time.Duration{"idle": ttl, "absolute": maxLife} {
			t.Run(name+", "+end, func(t *testing.T) {
				w := newWorld(t, func(p *coatcheck.Policy) { p.TTL = ttl })
				cookie := w.login("u")
				w.clock.Step(ttl - time.Millisecond)
				s := w.open(cookie)
				handler(s.Lend())
				w.clock.Step(step)
				a := w.finish(s)
				if name == "logout" {
					assert.Equal(t, coatcheck.ClearCookie, a.cookie)
				} else {
					assert.Equal(t, coatcheck.KeepCookie, a.cookie)
					assert.Zero(t, s.Len())
				}
				assert.Empty(t, w.user(cookie))
				assert.Equal(t, coatcheck.ClearCookie, w.do(cookie, func(*coatcheck.Session) {}).cookie)
			})
		}
	}
}

// A Swap that arrives when the session has expired stores nothing.
func TestRaceSlowSaveOnAnExpiredSession(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	before := w.data.raw(key(t, cookie))
	s := w.open(cookie)
	require.NoError(t, s.Insert("x", 1))
	w.clock.Step(ttl)
	w.store.ops()
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
	assert.Empty(t, w.store.ops(), "nor is the store asked to")
	assert.Equal(t, 1, s.Report().Dropped)
	assert.Equal(t, before, w.data.raw(key(t, cookie)))
}
