package httpcontract

import (
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

var cookieSentRules = []Rule{
	{Name: "attributes", Unstarted: true, Check: checkCookieAttributes},
	{Name: "a browser's jar", Check: checkJar},
	{Name: "Max-Age is what is left", Check: checkMaxAge},
	{Name: "Max-Age is 400 days at most", Config: longLived, Check: checkMaxAgeBound},
	{Name: "only when there is something to tell", Check: checkNoNeedlessCookie},
	{Name: "cleared when every value is dead", Check: checkCleared},
	{Name: "the cookie's own claim does not matter", Check: checkReplayed},
}

// CKE-01, CKE-03: checkAnswer compares every Set-Cookie, clears included, with h.CookieAttrs.
func checkCookieAttributes(h *Harness) {
	for _, c := range []struct {
		name, attrs string
		cookie      cookie.Config
	}{
		{"default", "httponly; path=/; samesite=Lax; secure", cookie.Config{}},
		{"strict", "httponly; path=/; samesite=Strict; secure", cookie.Config{SameSite: "strict"}},
		{"none", "httponly; path=/; samesite=None; secure", cookie.Config{SameSite: "none"}},
		{"domain and path", "domain=example.com; httponly; path=/auth; samesite=Lax; secure", cookie.Config{Name: "sid", Domain: "example.com", Path: "/auth"}},
		{"insecure", "httponly; path=/; samesite=Lax", cookie.Config{Name: "coatcheck", Insecure: true}},
		{"for scripts", "path=/; samesite=Lax; secure", cookie.Config{Name: "__Secure-sid", ScriptAccess: true}},
		{"http prefix", "httponly; path=/; samesite=Lax; secure", cookie.Config{Name: "__Host-Http-sid"}},
	} {
		h.CookieName, h.CookieAttrs = c.cookie.Name, c.attrs
		if h.CookieName == "" {
			h.CookieName = "__Host-coatcheck"
		}
		h.Start(func(cfg *middleware.Config) { cfg.Cookie = c.cookie })
		j := NewJar(h.Clock.Now)
		in := h.TryLogin(h.User())
		j.Apply(in)
		require.Equal(h, h.Token(in), j.Value(h.CookieName), "%s: a browser takes the cookie", c.name)
		j.Apply(h.Post("/auth/logout", j.Line()))
		assert.Empty(h, j.cookies, "%s: and the clear empties its jar", c.name)
	}
}

func checkJar(h *Harness) {
	user := h.User()
	j := NewJar(h.Clock.Now)
	require.NotEmpty(h, j.Line())
	for range 3 {
		j.Apply(h.TryLogin(user, j.Line()))
		assert.Len(h, j.cookies, 1)
		assert.Equal(h, user, h.Me(j.Value(h.CookieName)))
		for _, route := range append([]Reader{refreshing}, h.Readers...) {
			j.Apply(h.Do(route.Method, route.Path, j.Line()))
		}
		assert.Equal(h, user, h.Me(j.Value(h.CookieName)))
		j.Apply(h.Post("/auth/logout", j.Line()))
		assert.Empty(h, j.cookies)
	}
	j.Apply(h.TryLogin(user, j.Line()))
	h.Clock.Step(MaxLifetime)
	assert.Empty(h, j.Value(h.CookieName), "the cookie goes with the session")
}

// CKE-04.
func checkMaxAge(h *Harness) {
	resp := h.TryLogin(h.User())
	assert.Equal(h, MaxLifetime, h.MaxAge(resp))
	token, left := h.Token(resp), MaxLifetime
	for _, d := range []time.Duration{20 * time.Minute, 29*time.Minute + 999*time.Millisecond, time.Second, 29 * time.Minute} {
		h.Clock.Step(d)
		left -= d
		resp := h.Post("/auth/refresh", h.Cookie(token))
		assert.Equal(h, (left + time.Second - 1).Truncate(time.Second), h.MaxAge(resp), "of %v, rounded up", left)
		token = h.Token(resp)
	}
	for left > 20*time.Minute {
		h.Clock.Step(20 * time.Minute)
		left -= 20 * time.Minute
		require.NotEmpty(h, h.Me(token))
	}
	h.Clock.Step(left - 1500*time.Millisecond)
	resp = h.Post("/auth/refresh", h.Cookie(token))
	assert.Equal(h, 2*time.Second, h.MaxAge(resp))
	token = h.Token(resp)
	h.Clock.Step(time.Second)
	resp = h.Post("/auth/refresh", h.Cookie(token))
	assert.Equal(h, time.Second, h.MaxAge(resp))
	token = h.Token(resp)
	h.Clock.Step(500 * time.Millisecond)
	assert.Equal(h, "", h.Me(token))
}

func longLived(cfg *middleware.Config) {
	cfg.Policy.TTL, cfg.Policy.MaxLifetime = 500*24*time.Hour, 1000*24*time.Hour
}

func checkMaxAgeBound(h *Harness) {
	resp := h.TryLogin(h.User())
	assert.Equal(h, 400*24*time.Hour, h.MaxAge(resp))
	h.Clock.Step(499 * 24 * time.Hour)
	assert.NotEmpty(h, h.Me(h.Token(resp)))
	assert.Equal(h, 400*24*time.Hour, h.MaxAge(h.Post("/auth/refresh", h.Cookie(h.Token(resp)))))
	h.Clock.Step(200 * 24 * time.Hour)
	resp = h.Post("/auth/refresh", h.Cookie(h.Token(resp)))
	assert.Equal(h, 301*24*time.Hour, h.MaxAge(resp))
}

func checkNoNeedlessCookie(h *Harness) {
	token := h.Login(h.User())
	for range 30 {
		h.Clock.Step(time.Minute)
		swaps := h.Store.Calls(OpSwap)
		for _, route := range h.Readers {
			assert.Empty(h, h.Do(route.Method, route.Path, h.Cookie(token)).Header["Set-Cookie"], route.Path)
		}
		assert.LessOrEqual(h, h.Store.Calls(OpSwap)-swaps, 1, "a renewal is one write")
	}
	assert.Equal(h, 10, h.Store.Calls(OpSwap), "a renewal each renew-every, and none of them sets a cookie")
}

// checkCleared checks two of the contract's three kinds of dead cookies; an expired one is checked with the lifetimes.
func checkCleared(h *Harness) {
	live := h.Login(h.User())
	ended := h.Login(h.User())
	h.Post("/auth/logout", h.Cookie(ended))
	for _, c := range []struct {
		name   string
		values []string
		cookie string
	}{
		{"malformed", []string{"x"}, "cleared"},
		{"empty", []string{""}, "cleared"},
		{"unknown", []string{MadeUp()}, "cleared"},
		{"unknown and malformed", []string{MadeUp(), "x"}, "cleared"},
		{"three unknown", []string{MadeUp(), MadeUp(), MadeUp()}, "cleared"},
		{"the same unknown one twice", slices.Repeat([]string{MadeUp()}, 2), "cleared"},
		{"four unknown", []string{MadeUp(), MadeUp(), MadeUp(), MadeUp()}, ""},
		{"wrong secret", []string{h.WrongSecret(live)}, ""},
		{"wrong secret and malformed", []string{h.WrongSecret(live), "x"}, ""},
		{"wrong secret and unknown", []string{h.WrongSecret(live), MadeUp()}, ""},
		{"ended a moment ago", []string{ended}, ""},
		{"ended a moment ago and unknown", []string{MadeUp(), ended}, ""},
		{"live and malformed", []string{live, "x"}, ""},
		{"live and unknown", []string{MadeUp(), live}, ""},
	} {
		for _, route := range h.Readers {
			want := c.cookie
			if route.NoCookie {
				want = ""
			}
			assert.Equal(h, want, h.CookieOf(h.Do(route.Method, route.Path, h.Cookie(c.values...))), "%s: %s", c.name, route.Path)
		}
	}
}

func checkReplayed(h *Harness) {
	token := h.Login(h.User())
	h.Clock.Step(TTL)
	for range 3 { // an edited cookie jar sends it for ever
		h.nobody(h.Cookie(token))
		h.Clock.Step(365 * 24 * time.Hour)
	}
}
