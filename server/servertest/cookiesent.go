package servertest

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

var cookieSentRules = []rule{
	{name: "attributes", unserved: true, check: checkCookieAttributes},
	{name: "a browser's jar", check: checkJar},
	{name: "Max-Age is what is left", check: checkMaxAge},
	{name: "Max-Age is 400 days at most", config: longLived, check: checkMaxAgeBound},
	{name: "only when there is something to tell", check: checkNoNeedlessCookie},
	{name: "cleared when every value is dead", check: checkCleared},
	{name: "the cookie's own claim does not matter", check: checkReplayed},
}

// CKE-01, CKE-03: checkAnswer compares every Set-Cookie, clears included, with h.attrs.
func checkCookieAttributes(h *harness) {
	for _, c := range []struct {
		name, attrs string
		cookie      server.Cookie
	}{
		{"default", "httponly; path=/; samesite=Lax; secure", server.Cookie{}},
		{"strict", "httponly; path=/; samesite=Strict; secure", server.Cookie{SameSite: "strict"}},
		{"none", "httponly; path=/; samesite=None; secure", server.Cookie{SameSite: "none"}},
		{"domain and path", "domain=example.com; httponly; path=/auth; samesite=Lax; secure", server.Cookie{Name: "sid", Domain: "example.com", Path: "/auth"}},
		{"insecure", "httponly; path=/; samesite=Lax", server.Cookie{Name: "coatcheck", Insecure: true}},
		{"for scripts", "path=/; samesite=Lax; secure", server.Cookie{Name: "__Secure-sid", ScriptAccess: true}},
		{"http prefix", "httponly; path=/; samesite=Lax; secure", server.Cookie{Name: "__Host-Http-sid"}},
	} {
		h.name, h.attrs = c.cookie.Name, c.attrs
		if h.name == "" {
			h.name = "__Host-coatcheck"
		}
		h.serve(func(cfg *server.Config) { cfg.Cookie = c.cookie })
		j := newJar(h.clock.now)
		in := h.tryLogin(h.user())
		j.apply(in)
		require.Equal(h, h.token(in), j.value(h.name), "%s: a browser takes the cookie", c.name)
		j.apply(h.post("/auth/logout", j.line()))
		assert.Empty(h, j.cookies, "%s: and the clear empties its jar", c.name)
	}
}

func checkJar(h *harness) {
	user := h.user()
	j := newJar(h.clock.now)
	require.NotEmpty(h, j.line())
	for range 3 {
		j.apply(h.tryLogin(user, j.line()))
		assert.Len(h, j.cookies, 1)
		assert.Equal(h, user, h.me(j.value(h.name)))
		j.apply(h.get("/auth/me", j.line()))
		j.apply(h.post("/auth/refresh", j.line()))
		j.apply(h.get("/auth/verify", j.line()))
		j.apply(h.get("/auth/sessions", j.line()))
		j.apply(h.do("DELETE", "/auth/sessions", j.line()))
		assert.Equal(h, user, h.me(j.value(h.name)))
		j.apply(h.post("/auth/logout", j.line()))
		assert.Empty(h, j.cookies)
	}
	j.apply(h.tryLogin(user, j.line()))
	h.clock.step(maxLifetime)
	assert.Empty(h, j.value(h.name), "the cookie goes with the session")
}

var maxAgeIn = regexp.MustCompile(`Max-Age=(\d+)`)

func (h *harness) maxAge(r response) time.Duration {
	h.Helper()
	require.Len(h, r.header["Set-Cookie"], 1)
	m := maxAgeIn.FindStringSubmatch(r.header["Set-Cookie"][0])
	require.NotNil(h, m)
	seconds, err := strconv.Atoi(m[1])
	require.NoError(h, err)
	return time.Duration(seconds) * time.Second
}

// CKE-04.
func checkMaxAge(h *harness) {
	resp := h.tryLogin(h.user())
	assert.Equal(h, maxLifetime, h.maxAge(resp))
	token, left := h.token(resp), maxLifetime
	for _, d := range []time.Duration{20 * time.Minute, 29*time.Minute + 999*time.Millisecond, time.Second, 29 * time.Minute} {
		h.clock.step(d)
		left -= d
		resp := h.post("/auth/refresh", h.cookie(token))
		assert.Equal(h, left.Truncate(time.Second), h.maxAge(resp), "of %v", left)
		token = h.token(resp)
	}
	for left > 20*time.Minute {
		h.clock.step(20 * time.Minute)
		left -= 20 * time.Minute
		require.NotEmpty(h, h.me(token))
	}
	h.clock.step(left - 1500*time.Millisecond)
	resp = h.post("/auth/refresh", h.cookie(token))
	assert.Equal(h, time.Second, h.maxAge(resp))
	token = h.token(resp)
	h.clock.step(time.Second)
	resp = h.post("/auth/refresh", h.cookie(token))
	assert.Equal(h, time.Second, h.maxAge(resp), "a Max-Age of 0 would be a clear")
	token = h.token(resp)
	h.clock.step(500 * time.Millisecond)
	assert.Equal(h, "", h.me(token))
}

func longLived(cfg *server.Config) {
	cfg.Policy.TTL, cfg.Policy.MaxLifetime = 500*24*time.Hour, 1000*24*time.Hour
}

func checkMaxAgeBound(h *harness) {
	resp := h.tryLogin(h.user())
	assert.Equal(h, 400*24*time.Hour, h.maxAge(resp))
	h.clock.step(499 * 24 * time.Hour)
	assert.NotEmpty(h, h.me(h.token(resp)))
	assert.Equal(h, 400*24*time.Hour, h.maxAge(h.post("/auth/refresh", h.cookie(h.token(resp)))))
	h.clock.step(200 * 24 * time.Hour)
	resp = h.post("/auth/refresh", h.cookie(h.token(resp)))
	assert.Equal(h, 301*24*time.Hour, h.maxAge(resp))
}

func checkNoNeedlessCookie(h *harness) {
	token := h.login(h.user())
	for range 30 {
		h.clock.step(time.Minute)
		swaps := h.store.calls(opSwap)
		assert.Empty(h, h.get("/auth/me", h.cookie(token)).header["Set-Cookie"])
		assert.Empty(h, h.get("/auth/verify", h.cookie(token)).header["Set-Cookie"])
		assert.Empty(h, h.get("/auth/sessions", h.cookie(token)).header["Set-Cookie"])
		assert.LessOrEqual(h, h.store.calls(opSwap)-swaps, 1, "a renewal is one write")
	}
	assert.Equal(h, 10, h.store.calls(opSwap), "a renewal each renew-every, and none of them sets a cookie")
	assert.Empty(h, h.do("DELETE", "/auth/sessions", h.cookie(token)).header["Set-Cookie"])
	assert.Empty(h, h.do("DELETE", "/auth/sessions/x", h.cookie(token)).header["Set-Cookie"])
}

// deadCookies are the contract's three kinds; an expired one is checked with the lifetimes.
func checkCleared(h *harness) {
	live := h.login(h.user())
	ended := h.login(h.user())
	h.post("/auth/logout", h.cookie(ended))
	for _, c := range []struct {
		name   string
		values []string
		cookie string
	}{
		{"malformed", []string{"x"}, "cleared"},
		{"empty", []string{""}, "cleared"},
		{"unknown", []string{madeUp()}, "cleared"},
		{"unknown and malformed", []string{madeUp(), "x"}, "cleared"},
		{"three unknown", []string{madeUp(), madeUp(), madeUp()}, "cleared"},
		{"the same unknown one twice", slices.Repeat([]string{madeUp()}, 2), "cleared"},
		{"four unknown", []string{madeUp(), madeUp(), madeUp(), madeUp()}, ""},
		{"wrong secret", []string{wrongSecret(h, live)}, ""},
		{"wrong secret and malformed", []string{wrongSecret(h, live), "x"}, ""},
		{"wrong secret and unknown", []string{wrongSecret(h, live), madeUp()}, ""},
		{"ended a moment ago", []string{ended}, ""},
		{"ended a moment ago and unknown", []string{madeUp(), ended}, ""},
		{"live and malformed", []string{live, "x"}, ""},
		{"live and unknown", []string{madeUp(), live}, ""},
	} {
		for _, path := range []string{"/auth/me", "/auth/sessions"} {
			assert.Equal(h, c.cookie, h.cookieOf(h.get(path, h.cookie(c.values...))), "%s: %s", c.name, path)
		}
		assert.Equal(h, "", h.cookieOf(h.get("/auth/verify", h.cookie(c.values...))), "%s: verify", c.name)
	}
}

func checkReplayed(h *harness) {
	token := h.login(h.user())
	h.clock.step(ttl)
	for range 3 { // a jar that somebody edited sends it for ever
		assert.Equal(h, "", h.me(token))
		assert.Equal(h, 401, h.get("/auth/verify", h.cookie(token)).status)
		h.clock.step(365 * 24 * time.Hour)
	}
}
