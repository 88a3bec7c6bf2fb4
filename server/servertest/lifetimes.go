package servertest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

var lifetimeRules = []rule{
	{name: "idle expiry", check: checkIdle},
	{name: "idle expiry, renewed with every request", config: func(cfg *server.Config) { cfg.Policy.RenewEvery = -1 }, check: checkIdleExact},
	{name: "fixed expiry", config: func(cfg *server.Config) { cfg.Policy.FixedExpiry = true }, check: checkFixed},
	{name: "absolute expiry", check: checkAbsolute},
	{name: "an expired cookie is cleared", check: checkExpiredCleared},
	{name: "login starts both timers anew", check: checkLoginTimers},
	{name: "refresh starts the idle timer only", check: checkRefreshTimers},
	{name: "last_seen_at is as coarse as the renewals", check: checkLastSeen},
	{name: "sessions-not-before", config: notBefore, check: checkNotBefore},
}

// alive asks without renewing anything: a request of another route could.
func (h *harness) alive(token string) bool {
	h.Helper()
	return h.get("/auth/verify", h.cookie(token)).status == 200
}

// SES-04: a session ends no earlier than ttl minus renew-every and no later than ttl after its last request.
func checkIdle(h *harness) {
	token := h.login(h.user())
	h.clock.step(ttl - time.Millisecond)
	assert.True(h, h.alive(token), "a millisecond before")
	h.clock.step(ttl - time.Millisecond)
	assert.True(h, h.alive(token), "that was a renewal")
	h.clock.step(ttl)
	assert.False(h, h.alive(token), "at the end of it")

	token = h.login(h.user())
	h.clock.step(renewEvery - time.Millisecond)
	assert.True(h, h.alive(token), "too early for a renewal")
	h.clock.step(ttl - renewEvery)
	assert.True(h, h.alive(token), "ttl minus renew-every after that")
	h.clock.step(ttl)
	assert.False(h, h.alive(token))

	token = h.login(h.user())
	for range 200 { // once per renewal interval, for ten hours
		h.clock.step(renewEvery)
		require.True(h, h.alive(token))
	}

	token = h.login(h.user())
	for range 23 { // as seldom as one may
		h.clock.step(ttl - renewEvery)
		require.True(h, h.alive(token))
	}
}

func checkIdleExact(h *harness) {
	token := h.login(h.user())
	for range 10 {
		h.clock.step(time.Millisecond)
		require.True(h, h.alive(token))
		h.clock.step(ttl - time.Millisecond)
		require.True(h, h.alive(token))
	}
	h.clock.step(ttl)
	assert.False(h, h.alive(token))
}

func checkFixed(h *harness) {
	token := h.login(h.user())
	for range 29 {
		h.clock.step(time.Minute)
		require.True(h, h.alive(token))
	}
	h.clock.step(time.Minute - time.Millisecond)
	assert.True(h, h.alive(token))
	h.clock.step(time.Millisecond)
	assert.False(h, h.alive(token), "requests push nothing out")
}

// SES-05.
func checkAbsolute(h *harness) {
	for _, refreshing := range []bool{false, true} {
		token := h.login(h.user())
		left := maxLifetime
		for ; left > 20*time.Minute; left -= 20 * time.Minute {
			h.clock.step(20 * time.Minute)
			require.True(h, h.alive(token))
			if refreshing {
				token = h.refresh(token)
			}
		}
		h.clock.step(left - time.Millisecond)
		assert.True(h, h.alive(token))
		if refreshing {
			token = h.refresh(token) // with a Max-Age of 1 s, because 0 would be a clear
		}
		h.clock.step(time.Millisecond)
		assert.False(h, h.alive(token), "whatever the activity")
	}
}

func checkExpiredCleared(h *harness) {
	idle := h.login(h.user())
	h.clock.step(ttl)
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(h.get("/auth/me", h.cookie(idle))))
	assert.Equal(h, answer{401, "unauthenticated", "cleared"}, h.answer(h.get("/auth/sessions", h.cookie(idle))))
	resp := h.post("/auth/refresh", h.cookie(idle))
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(resp))
	assert.Equal(h, anonymousView, resp.body)
	assert.Equal(h, answer{status: 401, code: "unauthenticated"}, h.answer(h.get("/auth/verify", h.cookie(idle))))
	assert.Equal(h, answer{204, "", "cleared"}, h.answer(h.post("/auth/logout", h.cookie(idle))))
	resp = h.tryLogin(h.user(), h.cookie(idle))
	assert.Equal(h, answer{200, "", "set"}, h.answer(resp), "set, and not cleared as well")
}

// SES-01.
func checkLoginTimers(h *harness) {
	user := h.user()
	token := h.login(user)
	for range 10 {
		h.clock.step(20 * time.Minute)
		require.True(h, h.alive(token))
	}
	resp := h.tryLogin(user, h.cookie(token))
	assert.Equal(h, maxLifetime, h.maxAge(resp), "an absolute lifetime of its own")
	d := h.devices(h.token(resp))
	require.Len(h, d, 1)
	assert.Equal(h, h.clock.rfc3339(0), d[0].CreatedAt)
	assert.Equal(h, h.clock.rfc3339(ttl), d[0].ExpiresAt)
	assert.False(h, h.alive(token), "and the old token is dead")
}

func checkRefreshTimers(h *harness) {
	token := h.login(h.user())
	created := h.clock.rfc3339(0)
	h.clock.step(20 * time.Minute)
	token = h.refresh(token)
	d := h.devices(token)[0]
	assert.Equal(h, created, d.CreatedAt)
	assert.Equal(h, h.clock.rfc3339(0), d.LastSeenAt)
	assert.Equal(h, h.clock.rfc3339(ttl), d.ExpiresAt)
}

func checkLastSeen(h *harness) {
	user := h.user()
	token, watcher := h.login(user), h.login(user)
	seen := func() string {
		for _, d := range h.devices(watcher) {
			if d.Handle == handleOf(h, token) {
				return d.LastSeenAt
			}
		}
		return ""
	}
	at := h.clock.rfc3339(0)
	h.clock.step(renewEvery - time.Millisecond)
	require.True(h, h.alive(token))
	assert.Equal(h, at, seen())
	h.clock.step(time.Millisecond)
	require.True(h, h.alive(token))
	assert.Equal(h, h.clock.rfc3339(0), seen())
}

func notBefore(cfg *server.Config) { cfg.Policy.NotBefore = cfg.Policy.Now().Add(time.Hour) }

func checkNotBefore(h *harness) {
	token := h.login(h.user())
	resp := h.get("/auth/me", h.cookie(token))
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(resp))
	assert.Equal(h, anonymousView, resp.body)
	assert.False(h, h.alive(token))
	h.clock.step(time.Hour)
	assert.True(h, h.alive(h.login(h.user())))
}
