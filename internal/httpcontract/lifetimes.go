package httpcontract

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

var lifetimeRules = []Rule{
	{Name: "idle expiry", Check: checkIdle},
	{Name: "idle expiry, renewed with every request", Config: func(cfg *middleware.Config) { cfg.Policy.RenewEvery = -1 }, Check: checkIdleExact},
	{Name: "fixed expiry", Config: func(cfg *middleware.Config) { cfg.Policy.FixedExpiry = true }, Check: checkFixed},
	{Name: "absolute expiry", Check: checkAbsolute},
	{Name: "an expired cookie is cleared", Check: checkExpiredCleared},
	{Name: "sessions-not-before", Config: notBefore, Check: checkNotBefore},
}

// SES-04: a session ends no earlier than ttl minus renew-every and no later than ttl after its last request.
func checkIdle(h *Harness) {
	token := h.Login(h.User())
	h.Clock.Step(TTL - time.Millisecond)
	assert.True(h, h.Alive(token), "a millisecond before")
	h.Clock.Step(TTL - time.Millisecond)
	assert.True(h, h.Alive(token), "that was a renewal")
	h.Clock.Step(TTL)
	assert.False(h, h.Alive(token), "at the end of it")

	token = h.Login(h.User())
	h.Clock.Step(RenewEvery - time.Millisecond)
	assert.True(h, h.Alive(token), "too early for a renewal")
	h.Clock.Step(TTL - RenewEvery)
	assert.True(h, h.Alive(token), "ttl minus renew-every after that")
	h.Clock.Step(TTL)
	assert.False(h, h.Alive(token))

	token = h.Login(h.User())
	for range 200 { // once per renewal interval, for ten hours
		h.Clock.Step(RenewEvery)
		require.True(h, h.Alive(token))
	}

	token = h.Login(h.User())
	for range 23 { // as seldom as possible without losing the session
		h.Clock.Step(TTL - RenewEvery)
		require.True(h, h.Alive(token))
	}
}

func checkIdleExact(h *Harness) {
	token := h.Login(h.User())
	for range 10 {
		h.Clock.Step(time.Millisecond)
		require.True(h, h.Alive(token))
		h.Clock.Step(TTL - time.Millisecond)
		require.True(h, h.Alive(token))
	}
	h.Clock.Step(TTL)
	assert.False(h, h.Alive(token))
}

func checkFixed(h *Harness) {
	token := h.Login(h.User())
	for range 29 {
		h.Clock.Step(time.Minute)
		require.True(h, h.Alive(token))
	}
	h.Clock.Step(time.Minute - time.Millisecond)
	assert.True(h, h.Alive(token))
	h.Clock.Step(time.Millisecond)
	assert.False(h, h.Alive(token), "requests push nothing out")
}

// SES-05.
func checkAbsolute(h *Harness) {
	for _, refreshing := range []bool{false, true} {
		token := h.Login(h.User())
		left := MaxLifetime
		for ; left > 20*time.Minute; left -= 20 * time.Minute {
			h.Clock.Step(20 * time.Minute)
			require.True(h, h.Alive(token))
			if refreshing {
				token = h.Refresh(token)
			}
		}
		h.Clock.Step(left - time.Millisecond)
		assert.True(h, h.Alive(token))
		if refreshing {
			token = h.Refresh(token) // with a Max-Age of 1 s
		}
		h.Clock.Step(time.Millisecond)
		assert.False(h, h.Alive(token), "whatever the activity")
	}
}

func checkExpiredCleared(h *Harness) {
	idle := h.Login(h.User())
	h.Clock.Step(TTL)
	for _, route := range h.Readers {
		resp := h.Do(route.Method, route.Path, h.Cookie(idle))
		assert.Equal(h, "", route.User(h, resp), route.Path)
		assert.Equal(h, !route.NoCookie, h.CookieOf(resp) == "cleared", route.Path)
	}
	resp := h.Post("/auth/refresh", h.Cookie(idle))
	assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, AnonymousView, resp.Body)
	assert.Equal(h, Answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(h.Post("/auth/logout", h.Cookie(idle))))
	resp = h.TryLogin(h.User(), h.Cookie(idle))
	assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), "set, and not cleared as well")
}

func notBefore(cfg *middleware.Config) { cfg.Policy.NotBefore = cfg.Policy.Now().Add(time.Hour) }

func checkNotBefore(h *Harness) {
	token := h.Login(h.User())
	resp := h.Get("/auth/me", h.Cookie(token))
	assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, AnonymousView, resp.Body)
	assert.False(h, h.Alive(token))
	h.Clock.Step(time.Hour)
	assert.True(h, h.Alive(h.Login(h.User())))
}
