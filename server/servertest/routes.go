package servertest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

var routeRules = []rule{
	{name: "anonymous view", check: checkAnonymousView},
	{name: "login shows the session that me shows", check: checkLogin},
	{name: "login accepts and ignores a password", transport: true, check: checkPasswordIgnored},
	{name: "login ends the sessions that it carries", check: checkLoginEndsCarried},
	{name: "login is never refreshed, a refresh on its way included", check: checkLoginNotRefreshed},
	{name: "user IDs survive", check: checkUserIDs},
	{name: "refresh rotates", check: checkRefresh},
	{name: "refresh without a session", check: checkRefreshAnonymous},
	{name: "refresh of a session that ends meanwhile", check: checkRefreshEnded},
	{name: "logout", check: checkLogout},
	{name: "logout without a session", check: checkLogoutAnonymous},
	{name: "HEAD is as GET", transport: true, check: checkHead},
	{name: "static answers", transport: true, check: checkStatic},
	{name: "refused login", config: scripted, check: checkRefusedLogin},
	{name: "login while all sessions are ended", config: scripted, check: checkRevokedLogin},
}

// mode is a login mode that behaves as the user ID says.
type mode struct {
	during func() // called while a login is under way; nil: nothing is
}

func (*mode) UserOf(a *login.Attempt) string { return a.UserID }
func (*mode) Traits() login.Traits           { return login.Traits{Guesses: login.GuessesNothing} }

func (m *mode) Check(_ context.Context, a *login.Attempt) (string, error) {
	switch {
	case strings.HasPrefix(a.UserID, "refused"), strings.HasPrefix(a.UserID, "unknown"):
		return "", fmt.Errorf("%w: %s", login.ErrRefused, a.UserID)
	case strings.HasPrefix(a.UserID, "down"):
		return "", fmt.Errorf("%w: connection refused", login.ErrUnavailable)
	case strings.HasPrefix(a.UserID, "odd"):
		return "", fmt.Errorf("an error of no kind")
	case strings.HasPrefix(a.UserID, "nobody"):
		return "", nil
	}
	if m.during != nil {
		m.during()
	}
	return a.UserID, nil
}

// scripted gives a server a mode, which the check finds in h.mode.
func scripted(cfg *server.Config) { cfg.Login = new(mode) }

func withMode(m login.Mode) func(*server.Config) {
	return func(cfg *server.Config) { cfg.Login = m }
}

func checkAnonymousView(h *harness) {
	for _, method := range []string{"GET /auth/me", "POST /auth/refresh"} {
		name, path, _ := strings.Cut(method, " ")
		resp := h.Do(name, path)
		assert.Equal(h, answer{Status: 200}, h.Answer(resp), method)
		assert.Equal(h, anonymousView, resp.Body, method)
		assert.Equal(h, "application/json", resp.Header.Get("Content-Type"), method)
	}
	assert.Zero(h, h.Store.Calls(""), "a request without a cookie costs no store call")
}

func checkLogin(h *harness) {
	user := h.User()
	resp := h.TryLogin(user)
	require.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp))
	token := h.Token(resp)
	assert.Equal(h, httpcontract.UserView(user, h.IDOf(token), false), resp.Body)
	assert.Equal(h, "application/json", resp.Header.Get("Content-Type"))

	me := h.Get("/auth/me", h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(me))
	assert.Equal(h, resp.Body, me.Body)

	other := h.Login(user)
	assert.NotEqual(h, h.RawToken(token)[:16], h.RawToken(other)[:16], "a login has a Key of its own")
	assert.NotEqual(h, h.RawToken(token)[16:], h.RawToken(other)[16:])
	assert.Equal(h, user, h.Me(token), "another login without the cookie leaves the session alone")
}

func checkPasswordIgnored(h *harness) {
	for _, password := range []string{`""`, `"secret"`, `"\ud83d\ude00"`, `null`, `17`, `true`, `["a"]`, `{"a":[{}]}`, `"` + strings.Repeat("x", 12_000) + `"`} {
		user := h.User()
		for _, body := range []string{
			`{"user_id":` + quote(user) + `,"password":` + password + `}`,
			" {\n \"password\" :\t" + password + ",\r\n\"user_id\": " + quote(user) + " }\n",
		} {
			resp := h.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: body})
			assert.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), "%.60s", body)
			assert.Equal(h, user, resp.View(h.T).User())
		}
	}
}

func checkLoginEndsCarried(h *harness) {
	alice, bob := h.User(), h.User()
	first := h.Login(alice)
	second := h.Login(alice, h.Cookie(first))
	assert.NotEqual(h, h.RawToken(first)[:16], h.RawToken(second)[:16])
	assert.Equal(h, "", h.Me(first), "same user")
	assert.Equal(h, alice, h.Me(second))

	third := h.Login(bob, h.Cookie(second))
	assert.Equal(h, "", h.Me(second), "another user")
	assert.Equal(h, bob, h.Me(third))

	a, b, c := h.Login(alice), h.Login(bob), h.Login(h.User())
	last := h.Login(alice, h.Cookie(a, b, c))
	for _, token := range []string{a, b, c} {
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(h.Get("/auth/verify", h.Cookie(token))))
	}
	assert.Equal(h, alice, h.Me(last))

	rotated := h.Refresh(last)
	after := h.Login(alice, h.Cookie(last)) // the previous token carries the session, too, during its grace
	assert.Equal(h, "", h.Me(rotated))
	assert.Equal(h, alice, h.Me(after))
}

// If the carried session is refreshed between the login's load and its create, the new session must not count as refreshed.
func checkLoginNotRefreshed(h *harness) {
	for _, next := range []string{"same user", "another user"} {
		user := h.User()
		token := h.Login(user)
		target := user
		if next == "another user" {
			target = h.User()
		}
		h.Store.Once(httpcontract.OpCreate, func() { h.Refresh(token) })
		resp := h.TryLogin(target, h.Cookie(token))
		require.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), next)
		assert.Equal(h, httpcontract.UserView(target, h.IDOf(h.Token(resp)), false), resp.Body, next)
		assert.Equal(h, resp.Body, h.Get("/auth/me", h.Cookie(h.Token(resp))).Body, next)
	}

	token := h.Refresh(h.Login(h.User()))
	user := h.User()
	again := h.TryLogin(user, h.Cookie(token))
	assert.Equal(h, httpcontract.UserView(user, h.IDOf(h.Token(again)), false), again.Body)
}

func checkUserIDs(h *harness) {
	for name, user := range map[string]string{
		"quotes":      `a"b\c/d`,
		"markup":      `<script>&amp;`,
		"umlaut":      "Jürgen",
		"emoji":       "🧥",
		"separators":  "a\u2028b\u2029c",
		"blanks":      "  spaced out  ",
		"nbsp":        "\u00a0x\u00a0",
		"percent":     "100%41",
		"path":        "../../etc/passwd",
		"one byte":    "x",
		"256 bytes":   strings.Repeat("x", 256),
		"256 bytes 2": strings.Repeat("ü", 128),
		"format":      "%s%n%d",
		"bidi":        "\u202eabc",
		"zero width":  "a\u200bb\ufeffc",
	} {
		resp := h.TryLogin(user)
		require.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), name)
		assert.Equal(h, user, resp.View(h.T).User(), name)
		assert.Equal(h, user, h.Me(h.Token(resp)), name)
	}
	assert.NotEqual(h, h.Me(h.Login("a")), h.Me(h.Login("A")), "user IDs are compared byte by byte")
}

func checkRefresh(h *harness) {
	user := h.User()
	token := h.Login(user)
	for range 3 {
		resp := h.Post("/auth/refresh", h.Cookie(token))
		require.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp))
		next := h.Token(resp)
		assert.Equal(h, h.RawToken(token)[:16], h.RawToken(next)[:16], "the Key stays")
		assert.NotEqual(h, h.RawToken(token)[16:], h.RawToken(next)[16:], "the secret does not")
		assert.Equal(h, httpcontract.UserView(user, h.IDOf(next), true), resp.Body)
		assert.Equal(h, resp.Body, h.Get("/auth/me", h.Cookie(next)).Body)
		token = next
	}
}

func checkRefreshAnonymous(h *harness) {
	live := h.Login(h.User())
	ended := h.Login(h.User())
	h.Post("/auth/logout", h.Cookie(ended))
	for _, c := range []struct {
		name, value, cookie string
	}{
		{"unknown", madeUp(), "cleared"},
		{"malformed", "nonsense", "cleared"},
		{"empty", "", "cleared"},
		{"wrong secret", h.WrongSecret(live), ""},
		{"ended a moment ago", ended, ""},
	} {
		resp := h.Post("/auth/refresh", h.Cookie(c.value))
		assert.Equal(h, answer{Status: 200, Code: "", Cookie: c.cookie}, h.Answer(resp), c.name)
		assert.Equal(h, anonymousView, resp.Body, c.name)
	}
}

func checkRefreshEnded(h *harness) {
	for _, how := range []string{"logout", "revoke", "login"} {
		user := h.User()
		token := h.Login(user)
		h.Store.Once(httpcontract.OpSwap, func() {
			switch how {
			case "logout":
				h.Post("/auth/logout", h.Cookie(token))
			case "revoke":
				h.adminDo("DELETE", "/admin/users/"+user+"/sessions")
			case "login":
				h.Login(h.User(), h.Cookie(token))
			}
		})
		resp := h.Post("/auth/refresh", h.Cookie(token))
		assert.Equal(h, answer{Status: 200}, h.Answer(resp), how)
		assert.Equal(h, anonymousView, resp.Body, how)
		assert.Equal(h, "", h.Me(token), how)
	}
}

func checkLogout(h *harness) {
	user := h.User()
	token := h.Login(user)
	other := h.Login(user)
	old := token
	token = h.Refresh(token)
	resp := h.Post("/auth/logout", h.Cookie(token))
	assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(resp))
	assert.Empty(h, resp.Body)
	for _, dead := range []string{token, old} {
		assert.Equal(h, "", h.Me(dead), "me")
		assert.Equal(h, anonymousView, h.Post("/auth/refresh", h.Cookie(dead)).Body, "refresh")
		assert.Equal(h, 401, h.Get("/auth/verify", h.Cookie(dead)).Status, "verify")
		assert.Equal(h, 401, h.Get("/auth/sessions", h.Cookie(dead)).Status, "sessions")
		assert.Equal(h, 401, h.Do("DELETE", "/auth/sessions", h.Cookie(dead)).Status, "sign out elsewhere")
	}
	assert.Equal(h, user, h.Me(other), "another session of the user")

	predecessor := h.Login(user)
	h.Refresh(predecessor)
	assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(h.Post("/auth/logout", h.Cookie(predecessor))))
	assert.Equal(h, "", h.Me(predecessor), "logout with a predecessor in its grace")
}

func checkLogoutAnonymous(h *harness) {
	live := h.Login(h.User())
	ended := h.Login(h.User())
	rotated := h.Login(h.User())
	h.Refresh(h.Refresh(rotated))
	h.Post("/auth/logout", h.Cookie(ended))
	for name, line := range map[string]string{
		"no cookie":           "X-None: 1",
		"another cookie":      "Cookie: theme=dark",
		"unknown":             h.Cookie(madeUp()),
		"malformed":           h.Cookie("x"),
		"empty":               h.Cookie(""),
		"wrong secret":        h.Cookie(h.WrongSecret(live)),
		"ended a moment ago":  h.Cookie(ended),
		"two generations old": h.Cookie(rotated),
		"four candidates":     h.Cookie(madeUp(), madeUp(), madeUp(), madeUp()),
	} {
		resp := h.Post("/auth/logout", line)
		assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(resp), name)
		assert.Empty(h, resp.Body, name)
	}
	assert.NotEmpty(h, h.Me(live), "a wrong secret ends nothing")
}

func checkHead(h *harness) {
	token := h.Login(h.User())
	for _, path := range []string{
		"/auth/me", "/auth/sessions", "/auth/verify", "/auth/devices", "/auth/devices.js", "/auth/login",
		"/auth/login?rd=/x", "/auth/login.js", "/auth/userinfo", "/openapi.yaml",
	} {
		for _, line := range []string{h.Cookie(token), "X-None: 1", h.Cookie("dead")} {
			get, head := h.Get(path, line), h.Do("HEAD", path, line)
			assert.Equal(h, get.Status, head.Status, path)
			assert.Empty(h, head.Body, path)
			get.Header.Del("Date")
			head.Header.Del("Date")
			assert.Equal(h, get.Header, head.Header, path)
		}
	}
	for _, path := range []string{"/auth/refresh", "/auth/logout", "/auth/sessions/" + h.HandleOf(token)} {
		assert.Equal(h, 405, h.Do("HEAD", path, h.Cookie(token)).Status, path)
	}
	assert.NotEmpty(h, h.Me(token))
}

func checkStatic(h *harness) {
	calls := h.Store.Calls("")
	for _, route := range staticRoutes {
		_, path, _ := strings.Cut(route, " ")
		plain := h.Get(path)
		assert.NotEmpty(h, plain.Body, path)
		for _, line := range []string{h.Cookie(madeUp()), h.Cookie("dead"), h.Cookie(madeUp(), madeUp()), "Sec-Fetch-Site: cross-site", "Origin: null", "Accept: image/png"} {
			resp := h.Get(path, line)
			assert.Equal(h, answer{Status: 200}, h.Answer(resp), "%s %s", path, line)
			assert.Equal(h, plain.Body, resp.Body, "%s %s", path, line)
		}
	}
	assert.Equal(h, calls, h.Store.Calls(""), "the store is not asked")
}

func checkRefusedLogin(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.Canaries = append(h.Canaries, "hunter2-canary")
	refused := make(map[string]bool)
	for _, who := range []string{"refused", "unknown", "refused-again"} {
		resp := h.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":"` + who + `","password":"hunter2-canary"}`})
		assert.Equal(h, answer{Status: 401, Code: "login_refused"}, h.Answer(resp), who)
		refused[resp.Body] = true
	}
	assert.Len(h, refused, 1, "one body for every cause")
	for _, who := range []string{"down", "odd", "nobody"} {
		resp := h.TryLogin(who, h.Cookie(token))
		assert.Equal(h, 503, resp.Status, who)
		assert.Empty(h, resp.Header["Set-Cookie"], who)
	}
	assert.Equal(h, user, h.Me(token), "a failed login leaves the carried session alone")
	assert.Equal(h, 1, h.Store.Calls(httpcontract.OpCreate))

	resp := h.TryLogin("refused", h.Cookie(madeUp()))
	assert.Equal(h, answer{Status: 401, Code: "login_refused", Cookie: "cleared"}, h.Answer(resp), "a dead cookie is cleared, whatever the status")
	assert.Len(h, h.Events("login_failed"), 7)
}

func checkRevokedLogin(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.mode.during = func() {
		h.mode.during = nil
		resp := h.adminDo("DELETE", "/admin/users/"+user+"/sessions")
		assert.JSONEq(h, `{"revoked":1}`, resp.Body)
	}
	resp := h.TryLogin(user, h.Cookie(token))
	assert.Equal(h, answer{Status: 401, Code: "login_revoked"}, h.Answer(resp))
	assert.Equal(h, "", h.Me(token))
	var list struct{ Sessions []any }
	decode(h.T, h.adminDo("GET", "/admin/users/"+user+"/sessions").Body, &list)
	assert.Empty(h, list.Sessions)

	assert.Equal(h, user, h.Me(h.Login(user)), "a login that begins afterwards goes through")
	h.Clock.Step(time.Minute + time.Second)
	assert.Equal(h, user, h.Me(h.Login(user)), "and one after the mark has gone")
}
