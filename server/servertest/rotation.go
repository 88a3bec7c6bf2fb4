package servertest

import (
	"math/rand/v2"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

var rotationRules = []rule{
	{name: "the grace counts from the successor's first use", check: checkGrace},
	{name: "no grace", config: func(cfg *server.Config) { cfg.Policy.RotationGrace = -1 }, check: checkNoGrace},
	{name: "one generation only", check: checkGenerations},
	{name: "a lost answer", check: checkLostAnswer},
	{name: "a lost answer of the store", check: checkLostStoreAnswer},
	{name: "parallel refreshes", check: checkParallelRefreshes},
	{name: "any order of the answers", check: checkAnswerOrders},
	{name: "a slow request does not wipe its successor", check: checkSlowRequest},
	{name: "reuse is reported", check: checkReuse},
	{name: "reuse is reported once a minute", check: checkReuseRate},
	{name: "reuse ends the session where asked to", config: revokeOnReuse, check: checkReuseRevokes},
	{name: "logout during a refresh", check: checkLogoutDuringRefresh},
	{name: "logout against everything", check: checkLogoutRaces},
}

func checkGrace(h *harness) {
	old := h.login(h.user())
	token := h.refresh(old)
	h.clock.step(20 * time.Minute)
	require.True(h, h.alive(old), "admitted without end while the successor was not presented")
	require.True(h, h.alive(token))
	h.clock.step(grace - time.Millisecond)
	assert.True(h, h.alive(old))
	assert.True(h, h.alive(token), "a later use does not begin the grace anew")
	h.clock.step(time.Millisecond)
	assert.False(h, h.alive(old))
	resp := h.get("/auth/me", h.cookie(old))
	assert.Equal(h, answer{status: 200}, h.answer(resp), "and its cookie is not cleared: it may be the successor's by now")
	assert.Equal(h, anonymousView, resp.body)
	assert.True(h, h.alive(token))
}

func checkNoGrace(h *harness) {
	old := h.login(h.user())
	token := h.refresh(old)
	assert.True(h, h.alive(old), "the answer may have been lost")
	assert.True(h, h.alive(token))
	assert.False(h, h.alive(old))
	assert.True(h, h.alive(token))
}

// CON-05: T0 is dead once T2 exists.
func checkGenerations(h *harness) {
	t0 := h.login(h.user())
	t1 := h.refresh(t0)
	require.True(h, h.alive(t0))
	t2 := h.refresh(t1)
	assert.False(h, h.alive(t0))
	assert.True(h, h.alive(t1))
	assert.True(h, h.alive(t2))
	assert.Empty(h, h.events("reuse"), "two generations old is no reuse, but a wrong secret")
	assert.Equal(h, anonymousView, h.post("/auth/refresh", h.cookie(t0)).body)
	assert.True(h, h.alive(t2))
}

// The client never got the answer, and refreshes with the old token.
func checkLostAnswer(h *harness) {
	user := h.user()
	old := h.login(user)
	lost := h.refresh(old)
	h.clock.step(grace)
	resp := h.post("/auth/refresh", h.cookie(old))
	assert.Equal(h, answer{status: 200}, h.answer(resp), "within a grace it is a parallel refresh")
	assert.Equal(h, userView(user, idOf(h, lost), true), resp.body)
	h.clock.step(time.Millisecond)
	resp = h.post("/auth/refresh", h.cookie(old))
	require.Equal(h, answer{200, "", "set"}, h.answer(resp), "later the answer was lost")
	assert.Equal(h, userView(user, idOf(h, h.token(resp)), true), resp.body)
	assert.False(h, h.alive(lost), "the unused one is dropped")
	assert.True(h, h.alive(old))
	assert.True(h, h.alive(h.token(resp)))
	h.clock.step(grace)
	assert.False(h, h.alive(old))
	assert.True(h, h.alive(h.token(resp)))
	assert.Len(h, h.events("reuse"), 1)
}

// The store did it, and its answer was lost: the client got 503, and is not logged out.
func checkLostStoreAnswer(h *harness) {
	user := h.user()
	old := h.login(user)
	h.store.afterwards(func(op string) error {
		if op == opSwap {
			return errLost
		}
		return nil
	})
	assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(h.post("/auth/refresh", h.cookie(old))))
	h.store.afterwards(nil)
	assert.Equal(h, user, h.me(old))
	h.clock.step(grace + time.Millisecond)
	assert.Equal(h, user, h.me(old))
	assert.Equal(h, user, h.me(h.refresh(old)))
}

// CON-04.
func checkParallelRefreshes(h *harness) {
	for range 10 {
		user := h.user()
		old := h.login(user)
		answers := make([]response, 50)
		h.parallel(len(answers), func(i int) { answers[i] = h.post("/auth/refresh", h.cookie(old)) })
		var tokens []string
		for _, resp := range answers {
			assert.Equal(h, 200, resp.status)
			if token := h.token(resp); token != "" {
				tokens = append(tokens, token)
			}
		}
		require.Len(h, tokens, 1, "exactly one rotates")
		for _, resp := range answers {
			assert.Equal(h, userView(user, idOf(h, tokens[0]), true), resp.body, "and all of them show the one session")
		}
		assert.Equal(h, user, h.me(tokens[0]))
		assert.Equal(h, user, h.me(old))
	}
}

// Whichever answer the browser applies last, its jar authenticates, also after the grace.
func checkAnswerOrders(h *harness) {
	for range 20 {
		user := h.user()
		j := newJar(h.clock.now)
		j.apply(h.tryLogin(user))
		for range 4 {
			line := j.line()
			var answers [5]response
			h.parallel(len(answers), func(i int) {
				if i == 0 {
					answers[i] = h.get("/auth/me", line)
				} else {
					answers[i] = h.post("/auth/refresh", line)
				}
			})
			rand.Shuffle(len(answers), func(a, b int) { answers[a], answers[b] = answers[b], answers[a] })
			applied := len(answers)
			if rand.IntN(4) == 0 {
				applied = rand.IntN(applied) // the others were lost
			}
			for _, resp := range answers[:applied] {
				j.apply(resp)
			}
			require.Equal(h, user, h.get("/auth/me", j.line()).view(h.T).user())
			h.clock.step(2 * grace)
			require.Equal(h, user, h.get("/auth/me", j.line()).view(h.T).user())
		}
	}
}

// A request that left before the refresh, and is answered after the grace, says nothing about the cookie.
func checkSlowRequest(h *harness) {
	j := newJar(h.clock.now)
	user := h.user()
	j.apply(h.tryLogin(user))
	before := j.line()
	j.apply(h.post("/auth/refresh", j.line()))
	require.Equal(h, user, h.get("/auth/me", j.line()).view(h.T).user())
	h.clock.step(2 * grace)
	for _, route := range []string{"/auth/me", "/auth/sessions", "/auth/verify"} {
		j.apply(h.get(route, before))
	}
	j.apply(h.post("/auth/refresh", before))
	assert.Equal(h, user, h.get("/auth/me", j.line()).view(h.T).user())

	before = j.line()
	j.apply(h.tryLogin(user, j.line()))
	j.apply(h.get("/auth/me", before))
	j.apply(h.post("/auth/refresh", before))
	assert.Equal(h, user, h.get("/auth/me", j.line()).view(h.T).user(), "nor does one that meets a tombstone")
}

// reused returns a token that is the previous one and not admitted any more, and its successor.
func (h *harness) reused(user string) (old, token string) {
	h.Helper()
	old = h.login(user)
	token = h.refresh(old)
	require.Equal(h, user, h.me(token))
	h.clock.step(grace)
	return old, token
}

func checkReuse(h *harness) {
	user := h.user()
	old, token := h.reused(user)
	assert.Equal(h, "", h.me(old))
	events := h.events("reuse")
	require.Len(h, events, 1)
	assert.Equal(h, user, events[0]["user"])
	assert.Equal(h, idOf(h, token), events[0]["session_id"])
	assert.Equal(h, "refused", events[0]["outcome"])
	assert.Equal(h, user, h.me(token), "the session lives")
	assert.Equal(h, user, h.me(token, old))

	for _, value := range []string{wrongSecret(h, token), wrongSecret(h, old), madeUp()} {
		other := h.user()
		h.refresh(h.login(other))
		assert.Equal(h, "", h.me(value))
	}
	assert.Len(h, h.events("reuse"), 1, "any other wrong secret is no reuse")
}

func checkReuseRate(h *harness) {
	oldA, _ := h.reused(h.user())
	oldB, _ := h.reused(h.user())
	for range 30 {
		h.me(oldA)
		h.get("/auth/verify", h.cookie(oldA))
	}
	assert.Len(h, h.events("reuse"), 1)
	h.me(oldB)
	assert.Len(h, h.events("reuse"), 2, "each session for itself")
	h.clock.step(time.Minute - time.Millisecond)
	h.me(oldA)
	assert.Len(h, h.events("reuse"), 2)
	h.clock.step(time.Millisecond)
	h.me(oldA)
	h.me(oldA)
	assert.Len(h, h.events("reuse"), 3)
}

func revokeOnReuse(cfg *server.Config) { cfg.Policy.RevokeOnReuse = true }

func checkReuseRevokes(h *harness) {
	user := h.user()
	old, token := h.reused(user)
	for _, value := range []string{wrongSecret(h, token), wrongSecret(h, old)} {
		h.me(value)
	}
	assert.Equal(h, user, h.me(token), "a wrong secret ends nothing")
	assert.Equal(h, user, h.me(token, old), "nor does a reuse beside a live token of the session")
	assert.Equal(h, user, h.me(old, token))

	older := h.login(user)
	young := h.refresh(h.refresh(older))
	h.me(older)
	assert.Equal(h, user, h.me(young), "nor does a token two generations old")
	assert.Len(h, h.events("reuse"), 1, "which is no reuse")

	stranger := h.login(h.user())
	assert.NotEmpty(h, h.me(old, stranger))
	assert.Equal(h, "", h.me(token), "beside another session's it does")
	assert.NotEmpty(h, h.me(stranger))

	for _, route := range []func(old string) response{
		func(old string) response { return h.get("/auth/me", h.cookie(old)) },
		func(old string) response { return h.get("/auth/verify", h.cookie(old)) },
		func(old string) response { return h.post("/auth/refresh", h.cookie(old)) },
	} {
		other := h.login(user)
		old, token := h.reused(user)
		resp := route(old)
		assert.Empty(h, resp.header["Set-Cookie"])
		assert.Equal(h, "", h.me(token))
		assert.Equal(h, user, h.me(other), "the user's other sessions live")
	}
	outcomes := make(map[any]int)
	for _, e := range h.events("reuse") {
		outcomes[e["outcome"]]++
	}
	assert.Equal(h, 3, outcomes["revoked"])
}

func checkLogoutDuringRefresh(h *harness) {
	user := h.user()
	token := h.login(user)
	h.store.once(opSwap, func() { h.post("/auth/logout", h.cookie(token)) })
	resp := h.post("/auth/refresh", h.cookie(token))
	assert.Equal(h, anonymousView, resp.body)
	assert.Equal(h, "", h.me(token))

	token = h.login(user)
	var next string
	h.store.once(opEnd, func() { next = h.refresh(token) })
	assert.Equal(h, 204, h.post("/auth/logout", h.cookie(token)).status)
	assert.Equal(h, "", h.me(token))
	assert.Equal(h, "", h.me(next), "the successor goes with it")
}

// CON-01: after the logout's answer nothing opens the session any more.
func checkLogoutRaces(h *harness) {
	user := h.user()
	for range 150 {
		token := h.login(user)
		answers := make([]response, 6)
		h.clock.step(renewEvery) // so that every request also wants to renew
		h.parallel(len(answers), func(i int) {
			switch i {
			case 0:
				answers[i] = h.post("/auth/logout", h.cookie(token))
				assert.Equal(h, 401, h.get("/auth/verify", h.cookie(token)).status, "after the logout's answer")
			case 1, 2:
				answers[i] = h.post("/auth/refresh", h.cookie(token))
			default:
				answers[i] = h.get("/auth/me", h.cookie(token))
			}
		})
		for _, resp := range answers {
			if next := h.token(resp); next != "" {
				assert.Equal(h, "", h.me(next))
			}
		}
		assert.Equal(h, "", h.me(token))
	}
}
