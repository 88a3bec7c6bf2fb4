package middlewaretest

import (
	"errors"
	"strconv"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

var sessionRules = []rule{
	{"a session without a user", checkUserless},
	{"destroy, and insert afterwards", checkDestroy},
	{"authenticate", checkAuthenticate},
	{"cycle the ID", checkCycle},
	{"the cookie follows a write by the current token only", checkWriteCookie},
	{"the handler's own cookies stay", checkOwnCookies},
	{"a value that is shown once", checkPop},
	{"mounted twice", checkMountedTwice},
	{"mistakes of the configuration", checkMistakes},
}

func checkUserless(h *harness) {
	h.app(with(basics, recipe))
	resp := h.Post("/set?name=cart&value=1")
	require.Equal(h, "set", h.CookieOf(resp))
	assert.Equal(h, httpcontract.MaxLifetime, h.MaxAge(resp))
	token := h.Token(resp)
	assert.Equal(h, `"1"`, h.value("cart", token))
	assert.Equal(h, "", h.who(token))
	other := h.Token(h.Post("/set?name=cart&value=1"))
	assert.NotEqual(h, h.RawToken(token)[:4], h.RawToken(other)[:4], "a Tag of its own")

	assert.Equal(h, httpcontract.AnonymousView, h.Get("/auth/me", h.Cookie(token)).Body)
	assert.Equal(h, httpcontract.AnonymousView, h.Post("/auth/refresh", h.Cookie(token)).Body)
	assert.Equal(h, 204, h.Post("/auth/logout", h.Cookie(token)).Status)
	assert.Empty(h, h.value("cart", token), "and ends like any other")
}

func checkDestroy(h *harness) {
	handlers := with(basics)
	handlers["/again"] = func(c Context) error {
		s := c.Session()
		s.Destroy()
		return s.Insert("b", 2)
	}
	handlers["/committed"] = func(c Context) error {
		s := c.Session()
		s.Destroy()
		return errors.Join(s.Commit(c.Context()), s.Insert("b", 2))
	}
	h.app(handlers)
	for _, path := range []string{"/again", "/committed"} {
		token := h.begin("u")
		h.Post("/set?name=a&value=1", h.Cookie(token))
		resp := h.Post(path, h.Cookie(token))
		require.Equal(h, "set", h.CookieOf(resp), path)
		next := h.Token(resp)
		assert.NotEqual(h, h.RawToken(token)[:16], h.RawToken(next)[:16], "a new Key")
		assert.Equal(h, "", h.who(token), path)
		assert.Equal(h, "", h.who(next), "a session without a user")
		assert.Empty(h, h.value("a", next), "and none of the old values")
		assert.Equal(h, "2", h.value("b", next))
	}
	token := h.begin("u")
	assert.Equal(h, "cleared", h.CookieOf(h.Post("/logout", h.Cookie(token))))
	assert.Equal(h, "", h.who(token))
}

func checkAuthenticate(h *harness) {
	h.app(basics)
	token := h.Token(h.Post("/set?name=cart&value=1"))
	alice := h.begin("alice", h.Cookie(token))
	assert.Equal(h, `"1"`, h.value("cart", alice), "an anonymous session's values are kept")
	assert.Empty(h, h.value("cart", token), "and it has ended")
	again := h.begin("alice", h.Cookie(alice))
	assert.Equal(h, `"1"`, h.value("cart", again), "the same user's are kept")
	assert.Equal(h, "", h.who(alice))
	bob := h.begin("bob", h.Cookie(again))
	assert.Empty(h, h.value("cart", bob), "another user's are not")
	assert.Equal(h, "bob", h.who(bob))
	assert.Equal(h, "", h.who(again))
	assert.Empty(h, h.value("cart", h.begin("alice")), "nor do they come back")
}

func checkCycle(h *harness) {
	handlers := with(basics)
	handlers["/cycle"] = func(c Context) error {
		c.Session().CycleID()
		return nil
	}
	h.app(handlers)
	t0 := h.begin("u")
	t1 := h.Token(h.Post("/rotate", h.Cookie(t0)))
	require.Equal(h, "u", h.who(t1))
	require.Equal(h, "u", h.who(t0), "in its grace")
	t2 := h.Token(h.Post("/cycle", h.Cookie(t1)))
	assert.Equal(h, "", h.who(t0), "an earlier grace is over")
	assert.Equal(h, "", h.who(t1), "the old token is dead at once")
	assert.Equal(h, "u", h.who(t2))
	assert.Equal(h, h.RawToken(t0)[:16], h.RawToken(t2)[:16])
}

func checkWriteCookie(h *harness) {
	h.app(basics)
	old := h.begin("u")
	resp := h.Post("/set?name=a&value=1", h.Cookie(old))
	assert.Equal(h, old, h.lastToken(resp), "a write sends the token once more")
	resp = h.Post("/set?name=a&value=1", h.Cookie(old))
	assert.Equal(h, old, h.lastToken(resp))
	token := h.Token(h.Post("/rotate", h.Cookie(old)))
	resp = h.Post("/set?name=a&value=2", h.Cookie(old))
	assert.Empty(h, resp.Header["Set-Cookie"], "the previous token would push its successor out of the jar")
	assert.Equal(h, `"2"`, h.value("a", token), "but the write counts")
	assert.Empty(h, h.Post("/rotate", h.Cookie(old)).Header["Set-Cookie"])
	resp = h.Post("/set?name=a&value=3", h.Cookie(token))
	assert.Equal(h, token, h.lastToken(resp))
}

func checkOwnCookies(h *harness) {
	handlers := with(basics)
	handlers["/theme"] = func(c Context) error {
		c.SetCookie("theme", "dark")
		return c.Session().Insert("a", 1)
	}
	h.app(handlers)
	resp, err := h.Wire.Send(request{Method: "POST", Path: "/theme"})
	require.NoError(h, err)
	require.Len(h, resp.Header["Set-Cookie"], 2)
	names := httpcontract.ParseSetCookie(resp.Header["Set-Cookie"][0]).Name + " " + httpcontract.ParseSetCookie(resp.Header["Set-Cookie"][1]).Name
	assert.Equal(h, "theme "+h.CookieName, names)
}

// A message that a page shows once: it is removed when that page is answered, and kept if the page could not be answered.
func checkPop(h *harness) {
	handlers := with(basics)
	handlers["/pop"] = func(c Context) error {
		message, err := coatcheck.Pop[string](c.Session(), "flash")
		if errors.Is(err, coatcheck.ErrNoValue) {
			return text(c, "nothing")
		}
		return errors.Join(err, text(c, message))
	}
	handlers["/wrong"] = func(c Context) error {
		_, err := coatcheck.Pop[int](c.Session(), "flash")
		return errors.Join(status(c, 409), text(c, strconv.FormatBool(err != nil)))
	}
	h.app(handlers)
	token := h.begin("u")
	h.Post("/set?name=flash&value=saved", h.Cookie(token))
	h.Store.Failing(httpcontract.ErrLost, httpcontract.OpSwap)
	assert.Equal(h, 503, h.Get("/pop", h.Cookie(token)).Status)
	h.Store.On(nil)
	assert.Equal(h, `"saved"`, h.value("flash", token), "nobody has seen it")
	assert.Equal(h, "true", h.Get("/wrong", h.Cookie(token)).Body)
	assert.Equal(h, `"saved"`, h.value("flash", token), "it is not a number")
	assert.Equal(h, "saved", h.Get("/pop", h.Cookie(token)).Body)
	assert.Equal(h, "nothing", h.Get("/pop", h.Cookie(token)).Body)
	assert.Empty(h, h.value("flash", token))
}

func checkMountedTwice(h *harness) {
	// Two clocks cannot be compared, and so the rule goes by the real one.
	realTime := func(cfg *middleware.Config) { cfg.Policy.Now = nil }
	h.serve(App{Layers: []Layer{h.sessions(realTime), h.sessions(realTime)}, Handlers: basics})
	resp := h.Post("/set?name=a&value=1")
	assert.Equal(h, "set", h.CookieOf(resp))
	assert.Equal(h, 1, h.Store.Calls(httpcontract.OpCreate), "one session a request")
	swaps := h.Store.Calls(httpcontract.OpSwap)
	h.Post("/set?name=a&value=2", h.Cookie(h.Token(resp)))
	assert.Equal(h, swaps+1, h.Store.Calls(httpcontract.OpSwap), "and one write")
}

func checkMistakes(h *harness) {
	require.NoError(h, h.driver.New(h.Store, middleware.Config{}))
	assert.ErrorContains(h, h.driver.New(nil, middleware.Config{}), "store")
	err := h.driver.New(h.Store, middleware.Config{Cookie: cookie.Config{Name: "a b"}, Policy: coatcheck.Policy{TTL: -1}})
	assert.ErrorContains(h, err, "cookie-name")
	assert.ErrorContains(h, err, "ttl", "all mistakes at once")
	err = h.driver.New(nil, middleware.Config{Cookie: cookie.Config{Name: "a b"}, DBSC: "dbsc/", Policy: coatcheck.Policy{TTL: -1}})
	for _, mistake := range []string{"store", "cookie-name", "dbsc", "ttl"} {
		assert.ErrorContains(h, err, mistake)
	}
	assert.Len(h, strings.Split(err.Error(), "\n"), 4, "and no other")
}
