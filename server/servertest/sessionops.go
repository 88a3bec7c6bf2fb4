package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/server/login"
)

// panicMode panics over some users.
type panicMode struct{}

func (panicMode) Check(_ context.Context, a *login.Attempt) (string, error) {
	switch a.UserID {
	case "panic":
		panic("password " + string(a.Password))
	case "nil map":
		writeTo(nil, string(a.Password))
	case "index":
		_ = a.Password[len(a.Password)+len(a.UserID)]
	}
	return a.UserID, nil
}

func writeTo(m map[string]int, name string) { m[name] = 1 }

// DOS-06, and LOG-01 for what a panic is logged with.
func checkServerPanic(h *harness) {
	h.canaries = append(h.canaries, "hunter2-canary")
	user := h.user()
	token := h.login(user)
	for _, who := range []string{"panic", "nil map", "index"} {
		resp := h.send(request{"POST", "/auth/login", []string{asJSON, h.cookie(token)}, `{"user_id":"` + who + `","password":"hunter2-canary"}`})
		assert.Equal(h, answer{status: 500, code: "internal"}, h.answer(resp), who)
	}
	assert.Equal(h, user, h.me(token), "the session that it carried lives")
	for _, op := range []string{opLoad, opSwap, opList, opEnd} {
		h.store.on(func(got string) error {
			if got == op {
				panic("store: " + op)
			}
			return nil
		})
		for _, route := range allRoutes {
			method, path, _ := strings.Cut(route, " ")
			resp := h.send(request{method, path, []string{asJSON, h.cookie(token)}, `{"user_id":"` + user + `"}`})
			if op == opLoad {
				assert.Equal(h, answer{status: 500, code: "internal"}, h.answer(resp), route)
			}
		}
		resp, err := h.admin.send(request{method: "GET", path: "/admin/users/" + user + "/sessions"})
		require.NoError(h, err)
		assert.Equal(h, op == opList, resp.status == 500, "the admin listener, too")
		h.store.on(nil)
	}
	assert.NotEmpty(h, h.login(user), "the process lives")
	stacks := 0
	for _, line := range h.logs.lines() {
		if strings.Contains(line, `"stack"`) {
			stacks++
		}
	}
	assert.GreaterOrEqual(h, stacks, 3+len(allRoutes))
}

func checkDestroy(h *harness) {
	handlers := basics()
	handlers["again"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		s.Destroy()
		return s.Insert("b", 2)
	}
	handlers["committed"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		s.Destroy()
		return errors.Join(s.Commit(c.Context()), s.Insert("b", 2))
	}
	h.app(handlers)
	for _, path := range []string{"/again", "/committed"} {
		token := h.begin("u")
		h.post("/set?name=a&value=1", h.cookie(token))
		resp := h.post(path, h.cookie(token))
		require.Equal(h, "set", h.cookieOf(resp), path)
		next := h.token(resp)
		assert.NotEqual(h, rawToken(h, token)[:16], rawToken(h, next)[:16], "a new Key")
		assert.Equal(h, "", h.who(token), path)
		assert.Equal(h, "", h.who(next), "a session without a user")
		assert.Empty(h, h.value("a", next), "and none of the old values")
		assert.Equal(h, "2", h.value("b", next))
	}
	token := h.begin("u")
	assert.Equal(h, "cleared", h.cookieOf(h.post("/logout", h.cookie(token))))
	assert.Equal(h, "", h.who(token))
}

func checkAuthenticate(h *harness) {
	h.app(basics())
	token := h.token(h.post("/set?name=cart&value=1"))
	alice := h.begin("alice", h.cookie(token))
	assert.Equal(h, `"1"`, h.value("cart", alice), "an anonymous session's values are kept")
	assert.Empty(h, h.value("cart", token), "and it has ended")
	again := h.begin("alice", h.cookie(alice))
	assert.Equal(h, `"1"`, h.value("cart", again), "the same user's are kept")
	assert.Equal(h, "", h.who(alice))
	bob := h.begin("bob", h.cookie(again))
	assert.Empty(h, h.value("cart", bob), "another user's are not")
	assert.Equal(h, "bob", h.who(bob))
	assert.Equal(h, "", h.who(again))
	assert.Empty(h, h.value("cart", h.begin("alice")), "nor do they come back")
}

func checkCycle(h *harness) {
	handlers := basics()
	handlers["cycle"] = func(c *fiber.Ctx) error {
		fibersession.Get(c).CycleID()
		return nil
	}
	h.app(handlers)
	t0 := h.begin("u")
	t1 := h.token(h.post("/rotate", h.cookie(t0)))
	require.Equal(h, "u", h.who(t1))
	require.Equal(h, "u", h.who(t0), "in its grace")
	t2 := h.token(h.post("/cycle", h.cookie(t1)))
	assert.Equal(h, "", h.who(t0), "an earlier grace is over")
	assert.Equal(h, "", h.who(t1), "the old token is dead at once")
	assert.Equal(h, "u", h.who(t2))
	assert.Equal(h, rawToken(h, t0)[:16], rawToken(h, t2)[:16])
}

func checkWriteCookie(h *harness) {
	h.app(basics())
	old := h.begin("u")
	resp := h.post("/set?name=a&value=1", h.cookie(old))
	assert.Equal(h, old, h.lastToken(resp), "a write sends the token once more")
	resp = h.post("/set?name=a&value=1", h.cookie(old))
	assert.Equal(h, old, h.lastToken(resp))
	token := h.token(h.post("/rotate", h.cookie(old)))
	resp = h.post("/set?name=a&value=2", h.cookie(old))
	assert.Empty(h, resp.header["Set-Cookie"], "the previous token would push its successor out of the jar")
	assert.Equal(h, `"2"`, h.value("a", token), "but the write counts")
	assert.Empty(h, h.post("/rotate", h.cookie(old)).header["Set-Cookie"])
	resp = h.post("/set?name=a&value=3", h.cookie(token))
	assert.Equal(h, token, h.lastToken(resp))
}

func checkReadOnly(h *harness) {
	h.app(basics())
	token := h.begin("u")
	h.post("/set?name=a&value=1", h.cookie(token))
	swaps := h.store.calls(opSwap)
	for range 20 {
		assert.Equal(h, `"1"`, h.value("a", token))
	}
	assert.Equal(h, swaps, h.store.calls(opSwap))
}

func checkOwnCookies(h *harness) {
	handlers := basics()
	handlers["theme"] = func(c *fiber.Ctx) error {
		c.Cookie(&fiber.Cookie{Name: "theme", Value: "dark"})
		return fibersession.Get(c).Insert("a", 1)
	}
	h.app(handlers)
	resp, err := h.wire.send(request{method: "POST", path: "/theme"})
	require.NoError(h, err)
	require.Len(h, resp.header["Set-Cookie"], 2)
	names := parseSetCookie(resp.header["Set-Cookie"][0]).name + " " + parseSetCookie(resp.header["Set-Cookie"][1]).name
	assert.Equal(h, "theme "+h.name, names)
}

func checkMounting(h *harness) {
	h.serveApp(nil, func(app *fiber.App) {
		app.Use(h.sessions(nil))
		app.Post("/set", func(c *fiber.Ctx) error { return fibersession.Get(c).Insert("a", 1) })
	})
	resp := h.post("/set")
	assert.Equal(h, "set", h.cookieOf(resp))
	assert.Equal(h, 1, h.store.calls(opCreate), "one session a request")

	app := fiber.New()
	app.Get("/", func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		assert.Empty(h, s.UserID())
		assert.ErrorIs(h, s.Insert("a", 1), coatcheck.ErrDetached)
		return nil
	})
	app.Handler()(newCtx("GET", "/"))
	_, err := fibersession.New(nil, fibersession.Config{})
	assert.ErrorContains(h, err, "store")
	_, err = fibersession.New(h.store, fibersession.Config{Cookie: fibersession.Cookie{Name: "a b"}, Policy: coatcheck.Policy{TTL: -1}})
	assert.ErrorContains(h, err, "cookie-name")
	assert.ErrorContains(h, err, "ttl", "all mistakes at once")
}

func checkKept(h *harness) {
	var kept atomic.Pointer[coatcheck.Session]
	handlers := basics()
	handlers["keep"] = func(c *fiber.Ctx) error {
		kept.Store(fibersession.Get(c))
		return nil
	}
	h.app(handlers)
	h.post("/keep")
	s := kept.Load()
	assert.Empty(h, s.UserID())
	assert.ErrorIs(h, s.Insert("a", 1), coatcheck.ErrDetached)
	assert.ErrorIs(h, s.Commit(context.Background()), coatcheck.ErrDetached)
	assert.Equal(h, "coatcheck.Session", fmt.Sprintf("%v", s))
}

func checkTooLarge(h *harness) {
	handlers := basics()
	handlers["large"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		if err := s.Insert(c.Query("name"), strings.Repeat("x", c.QueryInt("n"))); !errors.Is(err, coatcheck.ErrTooLarge) {
			return err
		}
		return c.SendStatus(413)
	}
	h.app(handlers)
	token := h.begin("u")
	assert.Equal(h, 413, h.post("/large?name=a&n=3072", h.cookie(token)).status)
	assert.Empty(h, h.value("a", token))
	assert.Equal(h, 200, h.post("/large?name=a&n=2000", h.cookie(token)).status)
	assert.Equal(h, 413, h.post("/large?name=b&n=1100", h.cookie(token)).status, "all values together")

	other := h.begin("u")
	h.store.once(opSwap, func() { h.post("/large?name=a&n=2000", h.cookie(other)) })
	resp := h.post("/large?name=b&n=2000", h.cookie(other))
	assert.Equal(h, answer{status: 503, code: "session_too_large"}, h.answer(resp), "each fitted alone")
	assert.Len(h, h.value("a", other), 2002)
	assert.Empty(h, h.value("b", other))
}

// DOS-07: after each request every byte that the request came in is overwritten.
func checkPoisoned(h *harness) {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(func(c *fiber.Ctx) error {
		err := c.Next()
		poison(c.Request().Header.RawHeaders())
		poison(c.Request().Body())
		poison(c.Request().URI().FullURI())
		poison(c.Request().URI().QueryString())
		for _, value := range c.Request().Header.All() {
			poison(value)
		}
		return err
	})
	app.Use(h.sessions(nil))
	app.Post("/login", func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		return errors.Join(s.Authenticate(c.Query("user")), s.Insert(c.Query("name"), json.RawMessage(c.Body())))
	})
	app.Get("/get/:name", func(c *fiber.Ctx) error {
		raw, _ := fibersession.Get(c).Raw(c.Params("name"))
		return c.SendString(fibersession.Get(c).UserID() + " " + string(raw))
	})
	ln := listen(h.T)
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	h.wire = newWire(ln.Addr())
	h.Cleanup(func() {
		h.wire.close()
		_ = app.Shutdown()
		assert.NoError(h, <-served)
	})
	const users = 40
	tokens := make([]string, users)
	for i := range tokens { // one after the other: all on one connection, and all of one length
		n := strconv.Itoa(100 + i)
		resp := h.send(request{"POST", "/login?user=user" + n + "&name=name" + n, []string{"User-Agent: agent" + n}, `"body` + n + `"`})
		require.Equal(h, "set", h.cookieOf(resp))
		tokens[i] = h.token(resp)
	}
	m, err := coatcheck.NewManager(h.store, coatcheck.Policy{Now: h.clock.now})
	require.NoError(h, err)
	for i, token := range tokens {
		n := strconv.Itoa(100 + i)
		assert.Equal(h, "user"+n+` "body`+n+`"`, h.get("/get/name"+n, h.cookie(token)).body)
		sessions, err := m.List(h.Context(), "user"+n)
		require.NoError(h, err)
		require.Len(h, sessions, 1)
		assert.Equal(h, "agent"+n, sessions[0].UserAgent)
	}
}
