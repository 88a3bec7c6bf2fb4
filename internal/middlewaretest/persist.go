package middlewaretest

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var persistRules = []rule{
	{"persists whatever the status", checkPersistsAnyStatus},
	{"a handler's error", checkHandlerError},
	{"503 instead of the handler's answer", checkPersistFails},
	{"a panic persists nothing", checkPanic},
	{"nothing is stored that was given nothing", checkNeverStored},
	{"commit, then nothing", checkCommit},
	{"a failed commit is the handler's", checkCommitFails},
	{"what is asked for after a failed commit", checkAskedAfterFailure},
	{"a login that could not begin", checkBeginLoginFails},
	{"reading writes nothing", checkReadOnly},
	{"too large", checkTooLarge},
	{"an update of what is no such value any more", checkUpdateOfAnother},
	{"changes that always meet others", checkConflictsWithoutEnd},
	{"nothing of a request outlives it", checkPoisoned},
}

// text and status write an answer, for handlers of one expression.
func text(c Context, s string) error {
	c.Write(s)
	return nil
}

func status(c Context, code int) error {
	c.Status(code)
	return nil
}

func checkPersistsAnyStatus(h *harness) {
	handlers := with(basics)
	handlers["/status"] = func(c Context) error {
		code, err := strconv.Atoi(c.Query("status"))
		return errors.Join(err, c.Session().Insert("status", code), status(c, code))
	}
	h.app(handlers)
	token := h.begin("u")
	for _, status := range []int{200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 409, 418, 422, 500, 502, 503} {
		resp := h.Post("/status?status="+strconv.Itoa(status), h.Cookie(token))
		assert.Equal(h, status, resp.Status)
		assert.Equal(h, token, h.lastToken(resp), "the same token once more")
		assert.Equal(h, strconv.Itoa(status), h.value("status", token))
	}
}

// lastToken returns the token of an answer, which may be one that was issued before.
func (h *harness) lastToken(r response) string {
	h.Helper()
	require.Len(h, r.Header["Set-Cookie"], 1)
	return httpcontract.ParseSetCookie(r.Header["Set-Cookie"][0]).Value
}

func checkHandlerError(h *harness) {
	handlers := with(basics)
	handlers["/error"] = func(c Context) error {
		return errors.Join(c.Session().Insert("seen", true), &Error{Status: 418, Text: "short and stout"})
	}
	handlers["/plain"] = func(c Context) error {
		return errors.Join(c.Session().Insert("plain", true), errors.New("out of tea"))
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.Post("/error", h.Cookie(token))
	assert.Equal(h, 418, resp.Status, "the application turns the handler's error into an answer")
	assert.Contains(h, resp.Body, "short and stout")
	assert.Equal(h, "true", h.value("seen", token))
	assert.Equal(h, 500, h.Post("/plain", h.Cookie(token)).Status)
	assert.Equal(h, "true", h.value("plain", token))
	assert.Equal(h, "set", h.CookieOf(h.Post("/error")), "a session that began in a failing request")
}

func checkPersistFails(h *harness) {
	handlers := with(basics)
	handlers["/rich"] = func(c Context) error {
		c.SetHeader("X-Secret", "yes")
		c.SetCookie("theme", "dark")
		return errors.Join(c.Session().Insert("a", 1), status(c, 201), text(c, "of the handler"))
	}
	handlers["/error"] = func(c Context) error {
		return errors.Join(c.Session().Insert("a", 1), &Error{Status: 418})
	}
	h.app(handlers)
	token := h.begin("u")
	for _, c := range []struct{ path, op, line string }{
		{"/rich", httpcontract.OpSwap, h.Cookie(token)},
		{"/error", httpcontract.OpSwap, h.Cookie(token)},
		{"/rich", httpcontract.OpCreate, "X: y"},
		{"/error", httpcontract.OpCreate, h.Cookie(httpcontract.MadeUp())},
		{"/login?user=v", httpcontract.OpCreate, "X: y"},
		{"/login?user=w", httpcontract.OpEnd, h.Cookie(token)},
		{"/logout", httpcontract.OpEnd, h.Cookie(token)},
		{"/rotate", httpcontract.OpSwap, h.Cookie(token)},
		{"/rich", httpcontract.OpLoad, h.Cookie(token)},
	} {
		for _, err := range []error{httpcontract.ErrLost, coatcheck.ErrUnavailable} {
			h.Store.Failing(err, c.op)
			resp := h.Post(c.path, c.line)
			h.Store.On(nil)
			assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "%s: %s", c.path, c.op)
			assert.Empty(h, resp.Header["X-Secret"])
			assert.NotContains(h, resp.Body, "of the handler")
			httpcontract.CheckProblem(h.T, resp)
		}
	}
	assert.Equal(h, "u", h.who(token))
	assert.Empty(h, h.value("a", token))
	assert.Empty(h, h.sessionsOf("v"), "no login of the failed ones is left, unless it could not be ended either")
}

func checkPanic(h *harness) {
	h.serve(App{Layers: []Layer{{Recover: true}, h.sessions(nil)}, Handlers: map[string]Handler{
		"/panic": func(c Context) error {
			s := c.Session()
			_ = s.Insert("a", 1)
			s.Rotate()
			panic("handler")
		},
		"/fresh": func(c Context) error {
			_ = c.Session().Authenticate("ghost")
			panic("handler")
		},
		"/login": func(c Context) error { return c.Session().Authenticate("u") },
		"/who":   func(c Context) error { return text(c, c.Session().UserID()+strconv.Itoa(c.Session().Len())) },
	}})
	token := h.Token(h.Post("/login"))
	creates, swaps := h.Store.Calls(httpcontract.OpCreate), h.Store.Calls(httpcontract.OpSwap)
	for range 20 { // a session from the pool is clean after a panic
		resp := h.Post("/panic", h.Cookie(token))
		assert.Equal(h, answer{Status: 500}, h.Answer(resp))
		assert.Equal(h, answer{Status: 500}, h.Answer(h.Post("/fresh", h.Cookie(token))))
		assert.Equal(h, "u0", h.who(token))
		assert.Equal(h, "0", h.Get("/who").Body)
	}
	assert.Equal(h, creates, h.Store.Calls(httpcontract.OpCreate))
	assert.Equal(h, swaps, h.Store.Calls(httpcontract.OpSwap))
	assert.Empty(h, h.sessionsOf("ghost"))
}

func checkNeverStored(h *harness) {
	handlers := with(basics)
	handlers["/nothing"] = func(c Context) error {
		s := c.Session()
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
	handlers["/read"] = func(c Context) error {
		_, err := coatcheck.Get[string](c.Session(), "a")
		if !errors.Is(err, coatcheck.ErrNoValue) {
			return err
		}
		return nil
	}
	handlers["/taken"] = func(c Context) error {
		s := c.Session()
		_ = s.Insert("a", 1)
		s.Remove("a")
		return nil
	}
	h.app(handlers)
	for _, line := range []string{"X: y", h.Cookie(httpcontract.MadeUp()), h.Cookie("x")} {
		for range 100 {
			for _, path := range []string{"/nothing", "/read", "/taken", "/rotate", "/logout"} {
				resp := h.Post(path, line)
				assert.Equal(h, 200, resp.Status, "%s %s", path, resp.Body)
				assert.NotEqual(h, "set", h.CookieOf(resp), path)
			}
		}
	}
	assert.Zero(h, h.Store.Calls(httpcontract.OpCreate))
	assert.Zero(h, h.Store.Calls(httpcontract.OpSwap))
}

func checkCommit(h *harness) {
	handlers := with(basics)
	handlers["/commit"] = func(c Context) error {
		s := c.Session()
		if err := errors.Join(s.Insert("a", 1), s.Commit(c.Context())); err != nil {
			return err
		}
		id := s.ID()
		h.Store.Failing(httpcontract.ErrLost) // from here on any operation would lead to a 503
		return text(c, id.String())
	}
	h.app(handlers)
	token := h.begin("u")
	for _, line := range []string{h.Cookie(token), "X: y"} {
		swaps, creates := h.Store.Calls(httpcontract.OpSwap), h.Store.Calls(httpcontract.OpCreate)
		resp := h.Post("/commit", line)
		h.Store.On(nil)
		assert.Equal(h, 200, resp.Status)
		assert.Equal(h, h.IDOf(h.lastToken(resp)), resp.Body)
		assert.Equal(h, 1, h.Store.Calls(httpcontract.OpSwap)-swaps+h.Store.Calls(httpcontract.OpCreate)-creates)
	}
	assert.Equal(h, "1", h.value("a", token))
}

func checkCommitFails(h *harness) {
	handlers := with(basics)
	handlers["/try"] = func(c Context) error {
		s := c.Session()
		if err := errors.Join(s.Insert("a", 1), s.Commit(c.Context())); err != nil {
			return errors.Join(status(c, 409), text(c, "the handler answers"))
		}
		return nil
	}
	h.app(handlers)
	token := h.begin("u")
	h.Store.Failing(httpcontract.ErrLost, httpcontract.OpSwap)
	resp := h.Post("/try", h.Cookie(token))
	h.Store.On(nil)
	assert.Equal(h, answer{Status: 409}, h.Answer(resp))
	assert.Equal(h, "the handler answers", resp.Body)
	assert.Empty(h, h.value("a", token))
	assert.Equal(h, "u", h.who(token))
}

func checkReadOnly(h *harness) {
	h.app(basics)
	token := h.begin("u")
	h.Post("/set?name=a&value=1", h.Cookie(token))
	swaps := h.Store.Calls(httpcontract.OpSwap)
	for range 20 {
		assert.Equal(h, `"1"`, h.value("a", token))
	}
	assert.Equal(h, swaps, h.Store.Calls(httpcontract.OpSwap))
}

func checkTooLarge(h *harness) {
	handlers := with(basics)
	handlers["/large"] = func(c Context) error {
		s := c.Session()
		n, err := strconv.Atoi(c.Query("n"))
		if err != nil {
			return err
		}
		if err := s.Insert(c.Query("name"), strings.Repeat("x", n)); !errors.Is(err, coatcheck.ErrTooLarge) {
			return err
		}
		return status(c, 413)
	}
	h.app(handlers)
	token := h.begin("u")
	assert.Equal(h, 413, h.Post("/large?name=a&n=3072", h.Cookie(token)).Status)
	assert.Empty(h, h.value("a", token))
	assert.Equal(h, 200, h.Post("/large?name=a&n=2000", h.Cookie(token)).Status)
	assert.Equal(h, 413, h.Post("/large?name=b&n=1100", h.Cookie(token)).Status, "all values together")

	other := h.begin("u")
	h.Store.Once(httpcontract.OpSwap, func() { h.Post("/large?name=a&n=2000", h.Cookie(other)) })
	resp := h.Post("/large?name=b&n=2000", h.Cookie(other))
	assert.Equal(h, answer{Status: 503, Code: "session_too_large"}, h.Answer(resp), "each fitted alone")
	assert.Empty(h, h.Events("store_error"), "the store is well")
	assert.Equal(h, 1, h.notPersisted())
	assert.Len(h, h.value("a", other), 2002)
	assert.Empty(h, h.value("b", other))
}

// notPersisted returns how many lines of the log say that changes were lost by the application's own doing.
func (h *harness) notPersisted() int {
	return strings.Count(strings.Join(h.Logs.Lines(), "\n"), "the session's changes were not persisted")
}

// A mistake of the application is a 500, because a client that tries again would meet it again.
func checkUpdateOfAnother(h *harness) {
	handlers := with(basics)
	handlers["/count"] = func(c Context) error {
		return coatcheck.Update(c.Session(), "n", func(n int) int { return n + 1 })
	}
	h.app(handlers)
	token := h.begin("u")
	h.Store.Once(httpcontract.OpSwap, func() { h.Post("/set?name=n&value=many", h.Cookie(token)) })
	resp := h.Post("/count", h.Cookie(token))
	assert.Equal(h, answer{Status: 500, Code: "internal"}, h.Answer(resp))
	assert.Empty(h, resp.Header["Set-Cookie"])
	assert.Equal(h, `"many"`, h.value("n", token))
	assert.Empty(h, h.Events("store_error"))
	assert.Equal(h, 1, h.notPersisted())
}

// A commit that gave up among conflicts does not say that the store is away: who is told so looks at a store that is well.
func checkConflictsWithoutEnd(h *harness) {
	h.RetryFor = time.Millisecond
	h.app(basics)
	token := h.begin("u")
	var others atomic.Bool
	meetOthers := func(back time.Duration) {
		h.Store.On(func(op string) error {
			if op == httpcontract.OpSwap && others.CompareAndSwap(false, true) {
				defer others.Store(false)
				h.Clock.Step(-back)
				assert.Equal(h, 200, h.Post("/set?name=other&value=1", h.Cookie(token)).Status)
				h.Clock.Step(back)
			}
			return nil
		})
	}
	meetOthers(0)
	resp := h.Post("/set?name=a&value=1", h.Cookie(token))
	h.Store.On(nil)
	assert.Equal(h, answer{Status: 503, Code: "session_busy"}, h.Answer(resp))
	assert.Equal(h, []string{"1"}, resp.Header["Retry-After"])
	assert.Empty(h, h.value("a", token))
	assert.Equal(h, `"1"`, h.value("other", token))
	assert.Empty(h, h.Events("store_error"), "the store is well")
	assert.Equal(h, 1, h.notPersisted())

	h.Clock.Step(httpcontract.RenewEvery)
	meetOthers(httpcontract.RenewEvery) // so that the renewal stays due
	assert.Equal(h, "u", h.who(token))
	h.Store.On(nil)
	assert.Empty(h, h.Events("store_error"))
	assert.Equal(h, 2, h.notPersisted(), "the renewal")
}

// DOS-07: every byte that the request came in is overwritten once the handler has returned, before the session is persisted, and again
// after the request. The second login of each user meets the values of the first, to which its changes are applied once more.
func checkPoisoned(h *harness) {
	h.serve(App{Layers: []Layer{{Poison: true}, h.sessions(nil), {Poison: true}}, Handlers: map[string]Handler{
		"/login": func(c Context) error {
			s := c.Session()
			return errors.Join(s.BeginLogin(c.Context(), c.Query("user")), s.Authenticate(c.Query("user")),
				s.Insert(c.Query("name"), json.RawMessage(c.Body())),
				coatcheck.Update(s, c.Query("count"), func(n int) int { return n + 1 }))
		},
		"/get": func(c Context) error {
			text := c.Session().UserID()
			for name, value := range c.Session().Entries() {
				text += " " + name + "=" + string(value)
			}
			c.Write(text)
			return nil
		},
	}})
	const users = 40
	tokens := make([]string, users)
	for i := range tokens { // one after the other, all on one connection, and all of one length
		n := strconv.Itoa(100 + i)
		login := request{
			Method: "POST", Path: "/login?user=user" + n + "&name=name" + n + "&count=count" + n, Head: []string{"User-Agent: agent" + n},
			Body: `"body` + n + `"`,
		}
		first := h.Send(login)
		require.Equal(h, "set", h.CookieOf(first))
		login.Head = append(login.Head, h.Cookie(h.Token(first)))
		second := h.Send(login)
		require.Equal(h, "set", h.CookieOf(second))
		tokens[i] = h.Token(second)
	}
	m, err := coatcheck.NewManager(h.Store, coatcheck.Policy{Now: h.Clock.Now})
	require.NoError(h, err)
	for i, token := range tokens {
		n := strconv.Itoa(100 + i)
		assert.Equal(h, "user"+n+" count"+n+"=2 name"+n+`="body`+n+`"`, h.Get("/get", h.Cookie(token)).Body)
		sessions, err := m.List(h.Context(), "user"+n)
		require.NoError(h, err)
		require.Len(h, sessions, 1)
		assert.Equal(h, "agent"+n, sessions[0].UserAgent)
	}
}
