package servertest

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
)

var middlewareRules = []rule{
	{name: "persists whatever the status", unserved: true, check: checkPersistsAnyStatus},
	{name: "a handler's error", unserved: true, check: checkHandlerError},
	{name: "503 instead of the handler's answer", unserved: true, check: checkPersistFails},
	{name: "a panic persists nothing", unserved: true, check: checkPanic},
	{name: "a panic in the server", config: withMode(panicMode{}), check: checkServerPanic},
	{name: "nothing is stored that was given nothing", unserved: true, check: checkNeverStored},
	{name: "a session without a user", unserved: true, check: checkUserless},
	{name: "commit, then nothing", unserved: true, check: checkCommit},
	{name: "a failed commit is the handler's", unserved: true, check: checkCommitFails},
	{name: "destroy, and insert afterwards", unserved: true, check: checkDestroy},
	{name: "authenticate", unserved: true, check: checkAuthenticate},
	{name: "cycle the ID", unserved: true, check: checkCycle},
	{name: "the cookie follows a write by the current token only", unserved: true, check: checkWriteCookie},
	{name: "reading writes nothing", unserved: true, check: checkReadOnly},
	{name: "the handler's own cookies stay", unserved: true, check: checkOwnCookies},
	{name: "mounted twice, and not at all", unserved: true, check: checkMounting},
	{name: "a session kept beyond its request", unserved: true, check: checkKept},
	{name: "too large", unserved: true, check: checkTooLarge},
	{name: "nothing of a request outlives it", unserved: true, check: checkPoisoned},
}

// app serves handlers for "POST /name" behind the middleware, and "GET /get/name" that answers a value's JSON.
func (h *harness) app(handlers map[string]fiber.Handler) {
	h.Helper()
	h.serveApp(nil, func(app *fiber.App) {
		for name, f := range handlers {
			app.Post("/"+name, f)
		}
		app.Get("/get/:name", func(c *fiber.Ctx) error {
			raw, _ := fibersession.Get(c).Raw(c.Params("name"))
			return c.Send(raw)
		})
		app.Get("/who", func(c *fiber.Ctx) error { return c.SendString(fibersession.Get(c).UserID()) })
	})
}

func (h *harness) value(name, token string) string {
	h.Helper()
	return h.get("/get/"+name, h.cookie(token)).body
}

func (h *harness) who(token string) string {
	h.Helper()
	return h.get("/who", h.cookie(token)).body
}

// handlers that most rules need.
func basics() map[string]fiber.Handler {
	return map[string]fiber.Handler{
		"login": func(c *fiber.Ctx) error { return fibersession.Get(c).Authenticate(c.Query("user")) },
		"set":   func(c *fiber.Ctx) error { return fibersession.Get(c).Insert(c.Query("name"), c.Query("value")) },
		"logout": func(c *fiber.Ctx) error {
			fibersession.Get(c).Destroy()
			return nil
		},
		"rotate": func(c *fiber.Ctx) error {
			fibersession.Get(c).Rotate()
			return nil
		},
	}
}

// begin logs a user in through the application and returns the token.
func (h *harness) begin(user string, head ...string) string {
	h.Helper()
	resp := h.post("/login?user="+user, head...)
	require.Equal(h, "set", h.cookieOf(resp))
	return h.token(resp)
}

func checkPersistsAnyStatus(h *harness) {
	handlers := basics()
	handlers["status"] = func(c *fiber.Ctx) error {
		status := c.QueryInt("status")
		return errors.Join(fibersession.Get(c).Insert("status", status), c.SendStatus(status))
	}
	h.app(handlers)
	token := h.begin("u")
	for _, status := range []int{200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 409, 418, 422, 500, 502, 503} {
		resp := h.post("/status?status="+strconv.Itoa(status), h.cookie(token))
		assert.Equal(h, status, resp.status)
		assert.Equal(h, token, h.lastToken(resp), "the same token once more")
		assert.Equal(h, strconv.Itoa(status), h.value("status", token))
	}
}

// lastToken is token for an answer that may repeat one.
func (h *harness) lastToken(r response) string {
	h.Helper()
	require.Len(h, r.header["Set-Cookie"], 1)
	return parseSetCookie(r.header["Set-Cookie"][0]).value
}

func checkHandlerError(h *harness) {
	handlers := basics()
	handlers["error"] = func(c *fiber.Ctx) error {
		return errors.Join(fibersession.Get(c).Insert("seen", true), fiber.NewError(418, "short and stout"))
	}
	handlers["plain"] = func(c *fiber.Ctx) error {
		return errors.Join(fibersession.Get(c).Insert("plain", true), errors.New("out of tea"))
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.post("/error", h.cookie(token))
	assert.Equal(h, 418, resp.status, "what the handler's error says is the application's business")
	assert.Contains(h, resp.body, "short and stout")
	assert.Equal(h, "true", h.value("seen", token))
	assert.Equal(h, 500, h.post("/plain", h.cookie(token)).status)
	assert.Equal(h, "true", h.value("plain", token))
	assert.Equal(h, "set", h.cookieOf(h.post("/error")), "a session that began in a failing request")
}

func checkPersistFails(h *harness) {
	handlers := basics()
	handlers["rich"] = func(c *fiber.Ctx) error {
		c.Set("X-Secret", "yes")
		c.Cookie(&fiber.Cookie{Name: "theme", Value: "dark"})
		return errors.Join(fibersession.Get(c).Insert("a", 1), c.Status(201).SendString("done"))
	}
	handlers["error"] = func(c *fiber.Ctx) error {
		return errors.Join(fibersession.Get(c).Insert("a", 1), fiber.NewError(418))
	}
	h.app(handlers)
	token := h.begin("u")
	for _, c := range []struct{ path, op, line string }{
		{"/rich", opSwap, h.cookie(token)},
		{"/error", opSwap, h.cookie(token)},
		{"/rich", opCreate, "X: y"},
		{"/error", opCreate, h.cookie(madeUp())},
		{"/login?user=v", opCreate, "X: y"},
		{"/login?user=v", opMark, "X: y"},
		{"/login?user=w", opEnd, h.cookie(token)},
		{"/logout", opEnd, h.cookie(token)},
		{"/rotate", opSwap, h.cookie(token)},
		{"/rich", opLoad, h.cookie(token)},
	} {
		for _, err := range []error{errLost, coatcheck.ErrUnavailable} {
			h.store.failing(err, c.op)
			resp := h.post(c.path, c.line)
			h.store.on(nil)
			assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp), "%s: %s", c.path, c.op)
			assert.Empty(h, resp.header["X-Secret"])
			assert.NotContains(h, resp.body, "done")
			checkProblem(h.T, resp)
		}
	}
	assert.Equal(h, "u", h.who(token))
	assert.Empty(h, h.value("a", token))
	assert.Empty(h, h.devicesOf("v"), "no login of the failed ones is left, unless it could not be ended either")
}

// devicesOf lists a user's sessions through the store.
func (h *harness) devicesOf(user string) []string {
	h.Helper()
	var handles []string
	m, err := coatcheck.NewManager(h.store, coatcheck.Policy{Now: h.clock.now})
	require.NoError(h, err)
	sessions, err := m.List(h.Context(), user)
	require.NoError(h, err)
	for _, s := range sessions {
		handles = append(handles, s.Handle.String())
	}
	return handles
}

func checkPanic(h *harness) {
	h.serveApp(nil, func(app *fiber.App) {
		app.Use(func(c *fiber.Ctx) error { return c.Next() })
	})
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(recover.New())
	app.Use(h.sessions(nil))
	app.Post("/panic", func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		_ = s.Insert("a", 1)
		s.Rotate()
		panic("handler")
	})
	app.Post("/fresh", func(c *fiber.Ctx) error {
		_ = fibersession.Get(c).Authenticate("ghost")
		panic("handler")
	})
	app.Post("/login", func(c *fiber.Ctx) error { return fibersession.Get(c).Authenticate("u") })
	app.Get("/who", func(c *fiber.Ctx) error {
		return c.SendString(fibersession.Get(c).UserID() + strconv.Itoa(fibersession.Get(c).Len()))
	})
	ln := listen(h.T)
	go func() { _ = app.Listener(ln) }()
	h.Cleanup(func() { _ = app.ShutdownWithTimeout(time.Millisecond) })
	h.wire.close()
	h.wire = newWire(ln.Addr())

	token := h.token(h.post("/login"))
	creates, swaps := h.store.calls(opCreate), h.store.calls(opSwap)
	for range 20 { // a session from the pool is clean after a panic
		resp := h.post("/panic", h.cookie(token))
		assert.Equal(h, answer{status: 500}, h.answer(resp))
		assert.Equal(h, answer{status: 500}, h.answer(h.post("/fresh", h.cookie(token))))
		assert.Equal(h, "u0", h.who(token))
		assert.Equal(h, "0", h.get("/who").body)
	}
	assert.Equal(h, creates, h.store.calls(opCreate))
	assert.Equal(h, swaps, h.store.calls(opSwap))
	assert.Empty(h, h.devicesOf("ghost"))
}

func checkNeverStored(h *harness) {
	handlers := basics()
	handlers["nothing"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		s.Remove("a")
		s.Clear()
		s.Rotate()
		s.CycleID()
		_ = s.Contains("a")
		_ = s.Insert("a", 1)
		s.Remove("a")
		s.Destroy()
		return s.Commit(c.Context())
	}
	handlers["read"] = func(c *fiber.Ctx) error {
		_, err := coatcheck.Get[string](fibersession.Get(c), "a")
		if !errors.Is(err, coatcheck.ErrNoValue) {
			return err
		}
		return nil
	}
	handlers["taken"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		_ = s.Insert("a", 1)
		s.Remove("a")
		return nil
	}
	h.app(handlers)
	for _, line := range []string{"X: y", h.cookie(madeUp()), h.cookie("x")} {
		for range 100 {
			for _, path := range []string{"/nothing", "/read", "/taken", "/rotate", "/logout"} {
				resp := h.post(path, line)
				assert.Equal(h, 200, resp.status, "%s %s", path, resp.body)
				assert.NotEqual(h, "set", h.cookieOf(resp), path)
			}
		}
	}
	assert.Zero(h, h.store.calls(opCreate))
	assert.Zero(h, h.store.calls(opSwap))
}

func checkUserless(h *harness) {
	h.app(basics())
	resp := h.post("/set?name=cart&value=1")
	require.Equal(h, "set", h.cookieOf(resp))
	assert.Equal(h, maxLifetime, h.maxAge(resp))
	token := h.token(resp)
	assert.Equal(h, `"1"`, h.value("cart", token))
	assert.Equal(h, "", h.who(token))
	other := h.token(h.post("/set?name=cart&value=1"))
	assert.NotEqual(h, rawToken(h, token)[:4], rawToken(h, other)[:4], "a Tag of its own")

	api := &harness{T: h.T, store: h.store, api: h.api, clock: h.clock, logs: h.logs, name: h.name, attrs: h.attrs, issued: map[string]bool{}}
	api.serve(nil)
	assert.Equal(h, anonymousView, api.get("/auth/me", h.cookie(token)).body, "a stored session without a user is anonymous")
	assert.Equal(h, anonymousView, api.post("/auth/refresh", h.cookie(token)).body)
	assert.Equal(h, 401, api.get("/auth/verify", h.cookie(token)).status)
	assert.Equal(h, 401, api.get("/auth/sessions", h.cookie(token)).status)
	assert.Equal(h, 204, api.post("/auth/logout", h.cookie(token)).status)
	assert.Empty(h, h.value("cart", token), "and ends like any other")
}

func checkCommit(h *harness) {
	handlers := basics()
	handlers["commit"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		if err := errors.Join(s.Insert("a", 1), s.Commit(c.Context())); err != nil {
			return err
		}
		id := s.ID()
		h.store.failing(errLost) // from here on any operation would be a 503
		return c.SendString(id.String())
	}
	h.app(handlers)
	token := h.begin("u")
	for _, line := range []string{h.cookie(token), "X: y"} {
		swaps, creates := h.store.calls(opSwap), h.store.calls(opCreate)
		resp := h.post("/commit", line)
		h.store.on(nil)
		assert.Equal(h, 200, resp.status)
		assert.Equal(h, idOf(h, h.lastToken(resp)), resp.body)
		assert.Equal(h, 1, h.store.calls(opSwap)-swaps+h.store.calls(opCreate)-creates)
	}
	assert.Equal(h, "1", h.value("a", token))
}

func checkCommitFails(h *harness) {
	handlers := basics()
	handlers["try"] = func(c *fiber.Ctx) error {
		s := fibersession.Get(c)
		if err := errors.Join(s.Insert("a", 1), s.Commit(c.Context())); err != nil {
			return c.Status(409).SendString("the handler answers")
		}
		return nil
	}
	h.app(handlers)
	token := h.begin("u")
	h.store.failing(errLost, opSwap)
	resp := h.post("/try", h.cookie(token))
	h.store.on(nil)
	assert.Equal(h, answer{status: 409}, h.answer(resp))
	assert.Equal(h, "the handler answers", resp.body)
	assert.Empty(h, h.value("a", token))
	assert.Equal(h, "u", h.who(token))
}

func poison(b []byte) {
	copy(b, bytes.Repeat([]byte("P"), len(b)))
}
