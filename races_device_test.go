package coatcheck_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// device is an actor: one request by which a device binds the session of a token to its key, or proves the key if the
// challenge is that of a bound session. It carries no cookie: a browser may send none.
type device struct {
	w         *world
	token     string
	challenge coatcheck.Challenge
	bind      *coatcheck.PublicKey

	r   *coatcheck.Request
	ans answer
	err error
}

func (d *device) run(ctx context.Context) {
	d.r = new(coatcheck.Request)
	if _, d.err = d.w.m.OpenNamed(ctx, d.r, key(d.w.t, d.token), presented(), coatcheck.Client{}, d.w.clock.Now()); d.err != nil {
		return
	}
	if d.bind != nil {
		d.err = d.r.Bind(ctx, *d.bind, d.challenge)
	} else {
		d.err = d.r.Prove(ctx, d.challenge)
	}
	if err := d.r.Finish(ctx); d.err == nil {
		d.err = err
	}
	d.ans = d.w.answer(d.r)
}

// prover returns the request with the proof that the session of token waits for.
func (w *world) prover(token string) *device {
	w.t.Helper()
	r, err := w.named(token)
	require.NoError(w.t, err)
	_, c, err := r.DeviceKey()
	require.NoError(w.t, err)
	return &device{w: w, token: token, challenge: c}
}

// Two refreshes with one proof: exactly one rotates, and in whatever order the answers arrive the browser has a live token.
func TestRaceProofs(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		token := w.bound()
		w.clock.Step(boundTTL)
		one, two := w.prover(token), w.prover(token)
		return w, []actor{one.run, two.run}, func(t *testing.T) {
			won, lost := one, two
			if one.err != nil {
				won, lost = two, one
			}
			require.NoError(t, won.err)
			require.ErrorIs(t, lost.err, coatcheck.ErrChallenge)
			_, next, err := lost.r.DeviceKey()
			require.NoError(t, err)
			assert.NotEqual(t, one.challenge, next, "the one that lost is told the next challenge")
			orders(2, func(order []int) {
				j := jar(token)
				for _, i := range order {
					j.apply([]answer{one.ans, two.ans}[i])
				}
				assert.Equal(t, "u", w.user(string(j)))
			})
		}
	})
}

// A proof beside the end of its session leaves no usable token.
func TestRaceProofAndEnd(t *testing.T) {
	for name, end := range map[string]func(w *world, token, old string) (actor, func(t *testing.T)){
		"logout": func(w *world, token, _ string) (actor, func(t *testing.T)) {
			r := &request{w: w, cookie: token, handler: (*coatcheck.Session).Destroy}
			return r.run, func(t *testing.T) {
				require.NoError(t, r.err)
				assert.Equal(t, coatcheck.ClearCookie, r.ans.cookie)
			}
		},
		"logout with a token that is too old": func(w *world, token, _ string) (actor, func(t *testing.T)) {
			w.clock.Step(tooOld)
			r := &request{w: w, cookie: token, handler: (*coatcheck.Session).Destroy}
			return r.run, func(t *testing.T) { require.NoError(t, r.err) }
		},
		"revoke all": func(w *world, _, _ string) (actor, func(t *testing.T)) {
			return func(ctx context.Context) { _, _ = w.m.EndUser(ctx, "u") }, func(*testing.T) {}
		},
		"revoke one": func(w *world, token, _ string) (actor, func(t *testing.T)) {
			return func(ctx context.Context) { _ = w.m.End(ctx, "u", key(w.t, token)) }, func(*testing.T) {}
		},
		"reuse": func(w *world, token, old string) (actor, func(t *testing.T)) {
			r := &request{w: w, cookie: old, handler: func(*coatcheck.Session) {}}
			return r.run, func(t *testing.T) {
				require.NoError(t, r.err)
				if !r.s.Report().Reused.Revoked { // the proof came first, and the token is not the previous one any more
					assert.Equal(t, 1, r.s.Report().WrongSecret)
					w.logout(token)
				}
			}
		},
		"revoke all others": func(w *world, _, _ string) (actor, func(t *testing.T)) {
			elsewhere := w.login("u")
			return func(ctx context.Context) { _, _ = w.m.EndOthers(ctx, "u", key(w.t, elsewhere)) }, func(t *testing.T) {
				assert.Equal(t, "u", w.user(elsewhere))
				w.logout(elsewhere)
			}
		},
		"login of the same user": func(w *world, token, _ string) (actor, func(t *testing.T)) {
			r := &request{w: w, cookie: token, handler: func(s *coatcheck.Session) { authenticate("u")(s) }}
			return r.run, func(t *testing.T) {
				require.NoError(t, r.err)
				assert.Equal(t, "u", w.user(r.ans.token))
				w.logout(r.ans.token)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
				old, c := w.offered("u")
				a, err := w.bind(old, aKey, c)
				require.NoError(t, err)
				w.use(a.token)
				w.clock.Step(grace)
				proof := w.prover(a.token)
				ending, check := end(w, a.token, old)
				return w, []actor{ending, proof.run}, func(t *testing.T) {
					if proof.err != nil {
						require.ErrorIs(t, proof.err, coatcheck.ErrNotFound)
						assert.Equal(t, answer{}, proof.ans)
					}
					check(t)
					assert.Zero(t, w.data.live(w.clock.Now()), "a session lives")
					for _, token := range []string{old, a.token, proof.ans.token} {
						assert.Empty(t, w.user(token))
					}
				}
			})
		})
	}
}

// A proof beside any other request of the browser: both do what they are for, and the browser has a live token.
func TestRaceProofAndRequest(t *testing.T) {
	for name, handler := range map[string]func(*coatcheck.Session){
		"nothing": func(*coatcheck.Session) {},
		"value":   insert("x", 1),
		"refresh": func(s *coatcheck.Session) { s.Rotate(); insert("x", 1)(s) },
		"update":  func(s *coatcheck.Session) { _ = coatcheck.Update(s, "x", func(n int) int { return n + 1 }) },
		"cycle":   func(s *coatcheck.Session) { s.CycleID(); insert("x", 1)(s) },
	} {
		for used, before := range map[string]bool{"used": true, "not yet used": false} {
			t.Run(name+"/"+used, func(t *testing.T) {
				explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
					w := newWorld(t)
					login, c := w.offered("u")
					a, err := w.bind(login, aKey, c)
					require.NoError(t, err)
					token := a.token
					if before {
						w.use(token)
					}
					w.clock.Step(boundTTL - time.Second)
					proof := w.prover(token)
					other := &request{w: w, cookie: token, handler: handler}
					return w, []actor{proof.run, other.run}, func(t *testing.T) {
						require.NoError(t, proof.err)
						require.NoError(t, other.err)
						if other.s.Report().Dropped == 0 && name != "nothing" {
							current := proof.ans.token
							if w.user(current) == "" {
								current = other.ans.token
							}
							assert.Equal(t, "1", w.value(current, "x"))
						}
						if name != "cycle" {
							assert.Equal(t, answer{}, other.ans, "only the proof sets a cookie")
							assert.Equal(t, "u", other.s.UserID())
							assert.Equal(t, "u", w.user(proof.ans.token))
						}
						assert.Equal(t, w.clock.Now().UnixMilli(), w.record(token).ProvedAt().UnixMilli())
					}
				})
			})
		}
	}
}

// Each store operation of a registration and of a proof fails in turn, before or after it happened: no cookie is set, and the
// device goes on with what the browser has.
func TestDeviceMeetsAFailingStore(t *testing.T) {
	for name, bind := range map[string]bool{"registration": true, "proof": false} {
		for when, after := range map[string]bool{"before": false, "after": true} {
			for _, op := range []string{opLoad, opSwap} {
				t.Run(name+"/"+op+"/"+when, func(t *testing.T) {
					w := newWorld(t)
					token, c := w.offered("u")
					d := &device{w: w, token: token, challenge: c, bind: &aKey}
					if !bind {
						d.run(context.Background())
						require.NoError(t, d.err)
						token = d.ans.token
						w.use(token)
						d = w.prover(token)
					}
					fail := func(_ context.Context, got string) error {
						if got == op {
							return coatcheck.ErrUnavailable
						}
						return nil
					}
					if after {
						w.store.after = fail
					} else {
						w.store.before = fail
					}
					d.run(context.Background())
					require.ErrorIs(t, d.err, coatcheck.ErrUnavailable)
					assert.Equal(t, answer{}, d.ans)
					w.store.before, w.store.after = nil, nil

					assert.Equal(t, "u", w.user(token), "the token that the browser has")
					if !bind {
						d = w.prover(token)
					}
					d.run(context.Background())
					require.NoError(t, d.err, "the same again, or the proof of the challenge that now stands")
					assert.Equal(t, "u", w.user(d.ans.token))
				})
			}
		}
	}
}
