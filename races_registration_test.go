package coatcheck_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A registration beside another request with the token of the login.
func TestRaceRegistrationAndRequest(t *testing.T) {
	for name, handler := range map[string]func(*coatcheck.Session){
		"nothing": func(*coatcheck.Session) {},
		"value":   insert("x", 1),
		"refresh": refreshing(t),
		"logout":  (*coatcheck.Session).Destroy,
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				token, c := w.offered("u")
				w.clock.Step(time.Second)
				bind := &device{w: w, token: token, challenge: c, bind: &aKey}
				other := &request{w: w, cookie: token, handler: handler}
				return w, []actor{bind.run, other.run}, func(t *testing.T) {
					require.NoError(t, other.err)
					if name == "logout" {
						assert.Zero(t, w.data.live(w.clock.Now()))
						assert.Empty(t, w.user(bind.ans.token))
						return
					}
					require.NoError(t, bind.err)
					assert.Equal(t, "u", w.user(bind.ans.token))
					assert.Equal(t, "u", w.user(token), "requests on their way")
				}
			})
		})
	}
}

// Two devices race for one session: one is bound, and the other is refused.
func TestRaceRegistrations(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		token, c := w.offered("u")
		one := &device{w: w, token: token, challenge: c, bind: &aKey}
		two := &device{w: w, token: token, challenge: c, bind: &anotherKey}
		return w, []actor{one.run, two.run}, func(t *testing.T) {
			won, lost := one, two
			if one.err != nil {
				won, lost = two, one
			}
			require.NoError(t, won.err)
			require.ErrorIs(t, lost.err, coatcheck.ErrBound)
			k, err := w.prover(token).boundKey()
			require.NoError(t, err)
			assert.True(t, k.Equal(*won.bind))
			assert.Equal(t, "u", w.user(won.ans.token))
		}
	})
}

// boundKey returns the key that the session is bound to.
func (d *device) boundKey() (coatcheck.PublicKey, error) {
	r, err := d.w.named(d.token)
	if err != nil {
		return coatcheck.PublicKey{}, err
	}
	k, _, err := r.DeviceKey()
	return k, err
}

// A browser that has lost the answer of its registration registers again, beside the first: both are done. The token that was
// issued last opens the session, as does that of the login, and a browser that got the other one goes on by a proof.
func TestRaceRegistrationsOfOneDevice(t *testing.T) {
	explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
		w := newWorld(t)
		login, c := w.offered("u")
		one := &device{w: w, token: login, challenge: c, bind: &aKey}
		two := &device{w: w, token: login, challenge: c, bind: &aKey}
		return w, []actor{one.run, two.run}, func(t *testing.T) {
			require.NoError(t, one.err)
			require.NoError(t, two.err)
			assert.Equal(t, "u", w.user(one.ans.token)+w.user(two.ans.token), "one of them")
			assert.Equal(t, "u", w.user(login))
			for _, got := range []string{one.ans.token, two.ans.token} {
				assert.Equal(t, "u", w.user(w.prove(got).token))
			}
		}
	})
}

// The first proof beside a registration that is sent again, by the device itself and by a thief's: the session stays bound to
// the device's key, and the one of the two that came too late is told so.
func TestRaceProofAndRegistration(t *testing.T) {
	for name, again := range map[string]coatcheck.PublicKey{"the same device": aKey, "another device": anotherKey} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t)
				login, c := w.offered("u")
				a, err := w.bind(login, aKey, c)
				require.NoError(t, err)
				proof := w.prover(a.token)
				bind := &device{w: w, token: login, challenge: c, bind: &again}
				return w, []actor{proof.run, bind.run}, func(t *testing.T) {
					k, err := w.prover(a.token).boundKey()
					require.NoError(t, err)
					assert.True(t, k.Equal(aKey))
					last := proof.ans
					if bind.err == nil {
						require.Equal(t, "the same device", name)
						require.ErrorIs(t, proof.err, coatcheck.ErrChallenge, "the registration was first, and the challenge is another one")
						last = bind.ans
					} else {
						require.ErrorIs(t, bind.err, coatcheck.ErrBound)
						require.NoError(t, proof.err)
					}
					assert.Equal(t, "u", w.user(last.token))
					assert.Equal(t, "u", w.user(login), "requests on their way: nobody has presented the token after it")
				}
			})
		})
	}
}

// A registration beside the end of its session from elsewhere leaves no usable token.
func TestRaceRegistrationAndEnd(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, w *world, token string){
		"revoke all": func(ctx context.Context, w *world, _ string) { _, _ = w.m.EndUser(ctx, "u") },
		"revoke one": func(ctx context.Context, w *world, token string) { _ = w.m.End(ctx, "u", key(w.t, token)) },
		"reuse": func(ctx context.Context, w *world, token string) {
			r := &request{w: w, cookie: token, handler: func(*coatcheck.Session) {}}
			r.run(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, func(t *testing.T) (*world, []actor, func(*testing.T)) {
				w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
				login, c := w.offered("u")
				token := login
				if name == "reuse" {
					token = w.refresh(login).token
					w.use(token)
					w.clock.Step(grace)
				}
				bind := &device{w: w, token: token, challenge: c, bind: &aKey}
				return w, []actor{func(ctx context.Context) { end(ctx, w, login) }, bind.run}, func(t *testing.T) {
					if bind.err != nil {
						require.ErrorIs(t, bind.err, coatcheck.ErrNotFound)
						assert.Equal(t, answer{}, bind.ans)
					}
					if name == "reuse" && w.data.live(w.clock.Now()) > 0 { // the registration came first, and the token is not the previous one any more
						require.NoError(t, bind.err)
						w.logout(bind.ans.token)
					}
					assert.Zero(t, w.data.live(w.clock.Now()), "a session lives")
					for _, token := range []string{login, token, bind.ans.token} {
						assert.Empty(t, w.user(token))
					}
				}
			})
		})
	}
}
