package httpcontract

import (
	"math/rand/v2"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

var rotationRules = []Rule{
	{Name: "the grace counts from the successor's first use", Check: checkGrace},
	{Name: "no grace", Config: func(cfg *middleware.Config) { cfg.Policy.RotationGrace = -1 }, Check: checkNoGrace},
	{Name: "one generation only", Check: checkGenerations},
	{Name: "a lost answer", Check: checkLostAnswer},
	{Name: "a lost answer of the store", Check: checkLostStoreAnswer},
	{Name: "parallel refreshes", Check: checkParallelRefreshes},
	{Name: "any order of the answers", Check: checkAnswerOrders},
	{Name: "a slow request does not wipe its successor", Check: checkSlowRequest},
	{Name: "reuse is reported", Check: checkReuse},
	{Name: "reuse is reported once a minute", Check: checkReuseRate},
	{Name: "reuse ends the session where asked to", Config: revokeOnReuse, Check: checkReuseRevokes},
	{Name: "logout during a refresh", Check: checkLogoutDuringRefresh},
	{Name: "logout against everything", Check: checkLogoutRaces},
}

func checkGrace(h *Harness) {
	old := h.Login(h.User())
	token := h.Refresh(old)
	h.Clock.Step(20 * time.Minute)
	require.True(h, h.Alive(old), "admitted without end while the successor was not presented")
	require.True(h, h.Alive(token))
	h.Clock.Step(Grace - time.Millisecond)
	assert.True(h, h.Alive(old))
	assert.True(h, h.Alive(token), "a later use does not begin the grace anew")
	h.Clock.Step(time.Millisecond)
	assert.False(h, h.Alive(old))
	resp := h.Get("/auth/me", h.Cookie(old))
	assert.Equal(h, Answer{Status: 200}, h.Answer(resp), "and its cookie is not cleared: it may be the successor's by now")
	assert.Equal(h, AnonymousView, resp.Body)
	assert.True(h, h.Alive(token))
}

func checkNoGrace(h *Harness) {
	old := h.Login(h.User())
	token := h.Refresh(old)
	assert.True(h, h.Alive(old), "the answer may have been lost")
	assert.True(h, h.Alive(token))
	assert.False(h, h.Alive(old))
	assert.True(h, h.Alive(token))
}

// CON-05: T0 is dead once T2 exists.
func checkGenerations(h *Harness) {
	t0 := h.Login(h.User())
	t1 := h.Refresh(t0)
	require.True(h, h.Alive(t0))
	t2 := h.Refresh(t1)
	assert.False(h, h.Alive(t0))
	assert.True(h, h.Alive(t1))
	assert.True(h, h.Alive(t2))
	assert.Empty(h, h.Events("reuse"), "two generations old is no reuse, but a wrong secret")
	assert.Equal(h, AnonymousView, h.Post("/auth/refresh", h.Cookie(t0)).Body)
	assert.True(h, h.Alive(t2))
}

// The client never got the answer, and refreshes with the old token.
func checkLostAnswer(h *Harness) {
	user := h.User()
	old := h.Login(user)
	lost := h.Refresh(old)
	h.Clock.Step(Grace)
	resp := h.Post("/auth/refresh", h.Cookie(old))
	assert.Equal(h, Answer{Status: 200}, h.Answer(resp), "within a grace it is a parallel refresh")
	assert.Equal(h, UserView(user, h.IDOf(lost), true), resp.Body)
	h.Clock.Step(time.Millisecond)
	resp = h.Post("/auth/refresh", h.Cookie(old))
	require.Equal(h, Answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), "later the answer was lost")
	assert.Equal(h, UserView(user, h.IDOf(h.Token(resp)), true), resp.Body)
	assert.False(h, h.Alive(lost), "the unused one is dropped")
	assert.True(h, h.Alive(old))
	assert.True(h, h.Alive(h.Token(resp)))
	h.Clock.Step(Grace)
	assert.False(h, h.Alive(old))
	assert.True(h, h.Alive(h.Token(resp)))
	assert.Len(h, h.Events("reuse"), 1)
}

// The store rotated, and its answer was lost: the client got 503, and is not logged out.
func checkLostStoreAnswer(h *Harness) {
	user := h.User()
	old := h.Login(user)
	h.Store.Afterwards(func(op string) error {
		if op == OpSwap {
			return ErrLost
		}
		return nil
	})
	assert.Equal(h, Answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.Post("/auth/refresh", h.Cookie(old))))
	h.Store.Afterwards(nil)
	assert.Equal(h, user, h.Me(old))
	h.Clock.Step(Grace + time.Millisecond)
	assert.Equal(h, user, h.Me(old))
	assert.Equal(h, user, h.Me(h.Refresh(old)))
}

// CON-04.
func checkParallelRefreshes(h *Harness) {
	for range 10 {
		user := h.User()
		old := h.Login(user)
		answers := make([]Response, 50)
		h.AtOnce(len(answers), func(i int) { answers[i] = h.Post("/auth/refresh", h.Cookie(old)) })
		var tokens []string
		for _, resp := range answers {
			assert.Equal(h, 200, resp.Status)
			if token := h.Token(resp); token != "" {
				tokens = append(tokens, token)
			}
		}
		require.Len(h, tokens, 1, "exactly one rotates")
		for _, resp := range answers {
			assert.Equal(h, UserView(user, h.IDOf(tokens[0]), true), resp.Body, "and all of them show the one session")
		}
		assert.Equal(h, user, h.Me(tokens[0]))
		assert.Equal(h, user, h.Me(old))
	}
}

// Whichever answer the browser applies last, its jar authenticates, also after the grace.
func checkAnswerOrders(h *Harness) {
	for range 20 {
		user := h.User()
		j := NewJar(h.Clock.Now)
		j.Apply(h.TryLogin(user))
		for range 4 {
			line := j.Line()
			var answers [5]Response
			h.AtOnce(len(answers), func(i int) {
				if i == 0 {
					answers[i] = h.Get("/auth/me", line)
				} else {
					answers[i] = h.Post("/auth/refresh", line)
				}
			})
			rand.Shuffle(len(answers), func(a, b int) { answers[a], answers[b] = answers[b], answers[a] })
			applied := len(answers)
			if rand.IntN(4) == 0 {
				applied = rand.IntN(applied) // the others were lost
			}
			for _, resp := range answers[:applied] {
				j.Apply(resp)
			}
			require.Equal(h, user, h.Get("/auth/me", j.Line()).View(h.T).User())
			h.Clock.Step(2 * Grace)
			require.Equal(h, user, h.Get("/auth/me", j.Line()).View(h.T).User())
		}
	}
}

// A request that left before the refresh, and is answered after the grace, says nothing about the cookie.
func checkSlowRequest(h *Harness) {
	j := NewJar(h.Clock.Now)
	user := h.User()
	j.Apply(h.TryLogin(user))
	before := j.Line()
	j.Apply(h.Post("/auth/refresh", j.Line()))
	require.Equal(h, user, h.Get("/auth/me", j.Line()).View(h.T).User())
	h.Clock.Step(2 * Grace)
	for _, route := range h.Readers {
		j.Apply(h.Do(route.Method, route.Path, before))
	}
	j.Apply(h.Post("/auth/refresh", before))
	assert.Equal(h, user, h.Get("/auth/me", j.Line()).View(h.T).User())

	before = j.Line()
	j.Apply(h.TryLogin(user, j.Line()))
	j.Apply(h.Get("/auth/me", before))
	j.Apply(h.Post("/auth/refresh", before))
	assert.Equal(h, user, h.Get("/auth/me", j.Line()).View(h.T).User(), "nor does one that meets a tombstone")
}

// Reused returns the previous token, which is not admitted any more, and its successor.
func (h *Harness) Reused(user string) (old, token string) {
	h.Helper()
	old = h.Login(user)
	token = h.Refresh(old)
	require.Equal(h, user, h.Me(token))
	h.Clock.Step(Grace)
	return old, token
}

func checkReuse(h *Harness) {
	user := h.User()
	old, token := h.Reused(user)
	assert.Equal(h, "", h.Me(old))
	events := h.Events("reuse")
	require.Len(h, events, 1)
	assert.Equal(h, user, events[0]["user"])
	assert.Equal(h, h.IDOf(token), events[0]["session_id"])
	assert.Equal(h, "refused", events[0]["outcome"])
	assert.Equal(h, user, h.Me(token), "the session lives")
	assert.Equal(h, user, h.Me(token, old))

	for _, value := range []string{h.WrongSecret(token), h.WrongSecret(old), MadeUp()} {
		other := h.User()
		h.Refresh(h.Login(other))
		assert.Equal(h, "", h.Me(value))
	}
	assert.Len(h, h.Events("reuse"), 1, "any other wrong secret is no reuse")
}

func checkReuseRate(h *Harness) {
	oldA, _ := h.Reused(h.User())
	oldB, _ := h.Reused(h.User())
	for range 30 {
		h.Me(oldA)
		h.Alive(oldA)
	}
	assert.Len(h, h.Events("reuse"), 1)
	h.Me(oldB)
	assert.Len(h, h.Events("reuse"), 2, "each session for itself")
	h.Clock.Step(time.Minute - time.Millisecond)
	h.Me(oldA)
	assert.Len(h, h.Events("reuse"), 2)
	h.Clock.Step(time.Millisecond)
	h.Me(oldA)
	h.Me(oldA)
	assert.Len(h, h.Events("reuse"), 3)
}

func revokeOnReuse(cfg *middleware.Config) { cfg.Policy.RevokeOnReuse = true }

func checkReuseRevokes(h *Harness) {
	user := h.User()
	old, token := h.Reused(user)
	for _, value := range []string{h.WrongSecret(token), h.WrongSecret(old)} {
		h.Me(value)
	}
	assert.Equal(h, user, h.Me(token), "a wrong secret ends nothing")
	assert.Equal(h, user, h.Me(token, old), "nor does a reuse beside a live token of the session")
	assert.Equal(h, user, h.Me(old, token))

	older := h.Login(user)
	young := h.Refresh(h.Refresh(older))
	h.Me(older)
	assert.Equal(h, user, h.Me(young), "nor does a token two generations old")
	assert.Len(h, h.Events("reuse"), 1, "which is no reuse")

	stranger := h.Login(h.User())
	assert.NotEmpty(h, h.Me(old, stranger))
	assert.Equal(h, "", h.Me(token), "beside another session's it does")
	assert.NotEmpty(h, h.Me(stranger))

	for _, route := range []func(old string) Response{
		func(old string) Response { return h.Get("/auth/me", h.Cookie(old)) },
		func(old string) Response { return h.Do(h.Probe.Method, h.Probe.Path, h.Cookie(old)) },
		func(old string) Response { return h.Post("/auth/refresh", h.Cookie(old)) },
	} {
		other := h.Login(user)
		old, token := h.Reused(user)
		resp := route(old)
		assert.Empty(h, resp.Header["Set-Cookie"])
		assert.Equal(h, "", h.Me(token))
		assert.Equal(h, user, h.Me(other), "the user's other sessions live")
	}
	outcomes := make(map[any]int)
	for _, e := range h.Events("reuse") {
		outcomes[e["outcome"]]++
	}
	assert.Equal(h, 3, outcomes["revoked"])
}

func checkLogoutDuringRefresh(h *Harness) {
	user := h.User()
	token := h.Login(user)
	h.Store.Once(OpSwap, func() { h.Post("/auth/logout", h.Cookie(token)) })
	resp := h.Post("/auth/refresh", h.Cookie(token))
	assert.Equal(h, AnonymousView, resp.Body)
	assert.Equal(h, "", h.Me(token))

	token = h.Login(user)
	var next string
	h.Store.Once(OpEnd, func() { next = h.Refresh(token) })
	assert.Equal(h, 204, h.Post("/auth/logout", h.Cookie(token)).Status)
	assert.Equal(h, "", h.Me(token))
	assert.Equal(h, "", h.Me(next), "the successor goes with it")
}

// CON-01: after the logout's answer nothing opens the session any more.
func checkLogoutRaces(h *Harness) {
	user := h.User()
	for range 150 {
		token := h.Login(user)
		answers := make([]Response, 6)
		h.Clock.Step(RenewEvery) // so that every request also wants to renew
		h.AtOnce(len(answers), func(i int) {
			switch i {
			case 0:
				answers[i] = h.Post("/auth/logout", h.Cookie(token))
				assert.False(h, h.Alive(token), "after the logout's answer")
			case 1, 2:
				answers[i] = h.Post("/auth/refresh", h.Cookie(token))
			default:
				answers[i] = h.Get("/auth/me", h.Cookie(token))
			}
		})
		for _, resp := range answers {
			if next := h.Token(resp); next != "" {
				assert.Equal(h, "", h.Me(next))
			}
		}
		assert.Equal(h, "", h.Me(token))
	}
}
