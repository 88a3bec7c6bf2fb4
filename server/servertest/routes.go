package servertest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

var routeRules = []rule{
	{name: "anonymous view", check: checkAnonymousView},
	{name: "login shows the session that me shows", check: checkLogin},
	{name: "login accepts and ignores a password", check: checkPasswordIgnored},
	{name: "login ends the sessions that it carries", check: checkLoginEndsCarried},
	{name: "login is never refreshed, a refresh on its way included", check: checkLoginNotRefreshed},
	{name: "user IDs survive", check: checkUserIDs},
	{name: "refresh rotates", check: checkRefresh},
	{name: "refresh without a session", check: checkRefreshAnonymous},
	{name: "refresh of a session that ends meanwhile", check: checkRefreshEnded},
	{name: "logout", check: checkLogout},
	{name: "logout without a session", check: checkLogoutAnonymous},
	{name: "HEAD is as GET", check: checkHead},
	{name: "static answers", check: checkStatic},
	{name: "refused login", config: withMode(scripted), check: checkRefusedLogin},
	{name: "login while all sessions are ended", config: withMode(scripted), check: checkRevokedLogin},
}

// mode is a login mode that does as the user ID says.
type mode struct{ during func() }

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

// scripted is shared by the rules that use it, which run one after the other.
var scripted = new(mode)

func withMode(m login.Mode) func(*server.Config) {
	return func(cfg *server.Config) { cfg.Login = m }
}

func checkAnonymousView(h *harness) {
	for _, method := range []string{"GET /auth/me", "POST /auth/refresh"} {
		name, path, _ := strings.Cut(method, " ")
		resp := h.do(name, path)
		assert.Equal(h, answer{status: 200}, h.answer(resp), method)
		assert.Equal(h, anonymousView, resp.body, method)
		assert.Equal(h, "application/json", resp.header.Get("Content-Type"), method)
	}
	assert.Zero(h, h.store.calls(""), "a request without a cookie costs no store call")
}

func checkLogin(h *harness) {
	user := h.user()
	resp := h.tryLogin(user)
	require.Equal(h, answer{200, "", "set"}, h.answer(resp))
	token := h.token(resp)
	assert.Equal(h, userView(user, idOf(h, token), false), resp.body)
	assert.Equal(h, "application/json", resp.header.Get("Content-Type"))

	me := h.get("/auth/me", h.cookie(token))
	assert.Equal(h, answer{status: 200}, h.answer(me))
	assert.Equal(h, resp.body, me.body)

	other := h.login(user)
	assert.NotEqual(h, rawToken(h, token)[:16], rawToken(h, other)[:16], "a login has a Key of its own")
	assert.NotEqual(h, rawToken(h, token)[16:], rawToken(h, other)[16:])
	assert.Equal(h, user, h.me(token), "another login without the cookie leaves the session alone")
}

func checkPasswordIgnored(h *harness) {
	for _, password := range []string{`""`, `"secret"`, `"\ud83d\ude00"`, `null`, `17`, `true`, `["a"]`, `{"a":[{}]}`, `"` + strings.Repeat("x", 12_000) + `"`} {
		user := h.user()
		for _, body := range []string{
			`{"user_id":` + quote(user) + `,"password":` + password + `}`,
			" {\n \"password\" :\t" + password + ",\r\n\"user_id\": " + quote(user) + " }\n",
		} {
			resp := h.send(request{"POST", "/auth/login", []string{asJSON}, body})
			assert.Equal(h, answer{200, "", "set"}, h.answer(resp), "%.60s", body)
			assert.Equal(h, user, resp.view(h.T).user())
		}
	}
}

func checkLoginEndsCarried(h *harness) {
	alice, bob := h.user(), h.user()
	first := h.login(alice)
	second := h.login(alice, h.cookie(first))
	assert.NotEqual(h, rawToken(h, first)[:16], rawToken(h, second)[:16])
	assert.Equal(h, "", h.me(first), "same user")
	assert.Equal(h, alice, h.me(second))

	third := h.login(bob, h.cookie(second))
	assert.Equal(h, "", h.me(second), "another user")
	assert.Equal(h, bob, h.me(third))

	a, b, c := h.login(alice), h.login(bob), h.login(h.user())
	last := h.login(alice, h.cookie(a, b, c))
	for _, token := range []string{a, b, c} {
		assert.Equal(h, answer{status: 401, code: "unauthenticated"}, h.answer(h.get("/auth/verify", h.cookie(token))))
	}
	assert.Equal(h, alice, h.me(last))

	rotated := h.refresh(last)
	after := h.login(alice, h.cookie(last)) // the predecessor in its grace carries the session, too
	assert.Equal(h, "", h.me(rotated))
	assert.Equal(h, alice, h.me(after))
}

// A refresh of the carried session that is done between the login's load and its create must not leave its mark.
func checkLoginNotRefreshed(h *harness) {
	for _, next := range []string{"same user", "another user"} {
		user := h.user()
		token := h.login(user)
		target := user
		if next == "another user" {
			target = h.user()
		}
		h.store.once(opMark, func() { h.refresh(token) })
		resp := h.tryLogin(target, h.cookie(token))
		require.Equal(h, answer{200, "", "set"}, h.answer(resp), next)
		assert.Equal(h, userView(target, idOf(h, h.token(resp)), false), resp.body, next)
		assert.Equal(h, resp.body, h.get("/auth/me", h.cookie(h.token(resp))).body, next)
	}

	token := h.refresh(h.login(h.user()))
	user := h.user()
	again := h.tryLogin(user, h.cookie(token))
	assert.Equal(h, userView(user, idOf(h, h.token(again)), false), again.body)
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
		resp := h.tryLogin(user)
		require.Equal(h, answer{200, "", "set"}, h.answer(resp), name)
		assert.Equal(h, user, resp.view(h.T).user(), name)
		assert.Equal(h, user, h.me(h.token(resp)), name)
	}
	assert.NotEqual(h, h.me(h.login("a")), h.me(h.login("A")), "user IDs are compared byte by byte")
}

func checkRefresh(h *harness) {
	user := h.user()
	token := h.login(user)
	for range 3 {
		resp := h.post("/auth/refresh", h.cookie(token))
		require.Equal(h, answer{200, "", "set"}, h.answer(resp))
		next := h.token(resp)
		assert.Equal(h, rawToken(h, token)[:16], rawToken(h, next)[:16], "the Key stays")
		assert.NotEqual(h, rawToken(h, token)[16:], rawToken(h, next)[16:], "the secret does not")
		assert.Equal(h, userView(user, idOf(h, next), true), resp.body)
		assert.Equal(h, resp.body, h.get("/auth/me", h.cookie(next)).body)
		token = next
	}
}

func checkRefreshAnonymous(h *harness) {
	live := h.login(h.user())
	ended := h.login(h.user())
	h.post("/auth/logout", h.cookie(ended))
	for _, c := range []struct {
		name, value, cookie string
	}{
		{"unknown", madeUp(), "cleared"},
		{"malformed", "nonsense", "cleared"},
		{"empty", "", "cleared"},
		{"wrong secret", wrongSecret(h, live), ""},
		{"ended a moment ago", ended, ""},
	} {
		resp := h.post("/auth/refresh", h.cookie(c.value))
		assert.Equal(h, answer{200, "", c.cookie}, h.answer(resp), c.name)
		assert.Equal(h, anonymousView, resp.body, c.name)
	}
}

func checkRefreshEnded(h *harness) {
	for _, how := range []string{"logout", "revoke", "login"} {
		user := h.user()
		token := h.login(user)
		h.store.once(opSwap, func() {
			switch how {
			case "logout":
				h.post("/auth/logout", h.cookie(token))
			case "revoke":
				h.adminDo("DELETE", "/admin/users/"+user+"/sessions")
			case "login":
				h.login(h.user(), h.cookie(token))
			}
		})
		resp := h.post("/auth/refresh", h.cookie(token))
		assert.Equal(h, answer{status: 200}, h.answer(resp), how)
		assert.Equal(h, anonymousView, resp.body, how)
		assert.Equal(h, "", h.me(token), how)
	}
}

func checkLogout(h *harness) {
	user := h.user()
	token := h.login(user)
	other := h.login(user)
	old := token
	token = h.refresh(token)
	resp := h.post("/auth/logout", h.cookie(token))
	assert.Equal(h, answer{204, "", "cleared"}, h.answer(resp))
	assert.Empty(h, resp.body)
	for _, dead := range []string{token, old} {
		assert.Equal(h, "", h.me(dead), "me")
		assert.Equal(h, anonymousView, h.post("/auth/refresh", h.cookie(dead)).body, "refresh")
		assert.Equal(h, 401, h.get("/auth/verify", h.cookie(dead)).status, "verify")
		assert.Equal(h, 401, h.get("/auth/sessions", h.cookie(dead)).status, "sessions")
		assert.Equal(h, 401, h.do("DELETE", "/auth/sessions", h.cookie(dead)).status, "sign out elsewhere")
	}
	assert.Equal(h, user, h.me(other), "another session of the user")

	predecessor := h.login(user)
	h.refresh(predecessor)
	assert.Equal(h, answer{204, "", "cleared"}, h.answer(h.post("/auth/logout", h.cookie(predecessor))))
	assert.Equal(h, "", h.me(predecessor), "logout with a predecessor in its grace")
}

func checkLogoutAnonymous(h *harness) {
	live := h.login(h.user())
	ended := h.login(h.user())
	rotated := h.login(h.user())
	h.refresh(h.refresh(rotated))
	h.post("/auth/logout", h.cookie(ended))
	for name, line := range map[string]string{
		"no cookie":           "X-None: 1",
		"another cookie":      "Cookie: theme=dark",
		"unknown":             h.cookie(madeUp()),
		"malformed":           h.cookie("x"),
		"empty":               h.cookie(""),
		"wrong secret":        h.cookie(wrongSecret(h, live)),
		"ended a moment ago":  h.cookie(ended),
		"two generations old": h.cookie(rotated),
		"four candidates":     h.cookie(madeUp(), madeUp(), madeUp(), madeUp()),
	} {
		resp := h.post("/auth/logout", line)
		assert.Equal(h, answer{204, "", "cleared"}, h.answer(resp), name)
		assert.Empty(h, resp.body, name)
	}
	assert.NotEmpty(h, h.me(live), "a wrong secret ends nothing")
}

func checkHead(h *harness) {
	token := h.login(h.user())
	for _, path := range []string{"/auth/me", "/auth/sessions", "/auth/verify", "/auth/devices", "/auth/devices.js", "/openapi.yaml"} {
		for _, line := range []string{h.cookie(token), "X-None: 1", h.cookie("dead")} {
			get, head := h.get(path, line), h.do("HEAD", path, line)
			assert.Equal(h, get.status, head.status, path)
			assert.Empty(h, head.body, path)
			for _, r := range []response{get, head} {
				r.header.Del("Date")
				if r.header.Get("Content-Length") == "0" {
					r.header.Del("Content-Length") // which HEAD may leave out (RFC 9110, section 8.6)
				}
			}
			assert.Equal(h, get.header, head.header, path)
		}
	}
	for _, path := range []string{"/auth/login", "/auth/refresh", "/auth/logout", "/auth/sessions/" + handleOf(h, token)} {
		assert.Equal(h, 405, h.do("HEAD", path, h.cookie(token)).status, path)
	}
	assert.NotEmpty(h, h.me(token))
}

func checkStatic(h *harness) {
	calls := h.store.calls("")
	for _, route := range staticRoutes {
		_, path, _ := strings.Cut(route, " ")
		plain := h.get(path)
		assert.NotEmpty(h, plain.body, path)
		for _, line := range []string{h.cookie(madeUp()), h.cookie("dead"), h.cookie(madeUp(), madeUp()), "Sec-Fetch-Site: cross-site", "Origin: null", "Accept: image/png"} {
			resp := h.get(path, line)
			assert.Equal(h, answer{status: 200}, h.answer(resp), "%s %s", path, line)
			assert.Equal(h, plain.body, resp.body, "%s %s", path, line)
		}
	}
	assert.Equal(h, calls, h.store.calls(""), "the store is not asked")
}

func checkRefusedLogin(h *harness) {
	scripted.during = nil
	user := h.user()
	token := h.login(user)
	h.canaries = append(h.canaries, "hunter2-canary")
	refused := make(map[string]bool)
	for _, who := range []string{"refused", "unknown", "refused-again"} {
		resp := h.send(request{"POST", "/auth/login", []string{asJSON, h.cookie(token)}, `{"user_id":"` + who + `","password":"hunter2-canary"}`})
		assert.Equal(h, answer{status: 401, code: "login_refused"}, h.answer(resp), who)
		refused[resp.body] = true
	}
	assert.Len(h, refused, 1, "one body for every cause")
	for _, who := range []string{"down", "odd", "nobody"} {
		resp := h.tryLogin(who, h.cookie(token))
		assert.Equal(h, 503, resp.status, who)
		assert.Empty(h, resp.header["Set-Cookie"], who)
	}
	assert.Equal(h, user, h.me(token), "a failed login leaves the carried session alone")
	assert.Equal(h, 1, h.store.calls(opCreate))

	resp := h.tryLogin("refused", h.cookie(madeUp()))
	assert.Equal(h, answer{401, "login_refused", "cleared"}, h.answer(resp), "a dead cookie is cleared, whatever the status")
	assert.Len(h, h.events("login_failed"), 7)
}

func checkRevokedLogin(h *harness) {
	user := h.user()
	scripted.during = nil
	token := h.login(user)
	scripted.during = func() {
		scripted.during = nil
		resp := h.adminDo("DELETE", "/admin/users/"+user+"/sessions")
		assert.JSONEq(h, `{"revoked":1}`, resp.body)
	}
	resp := h.tryLogin(user, h.cookie(token))
	assert.Equal(h, answer{status: 401, code: "login_revoked"}, h.answer(resp))
	assert.Equal(h, "", h.me(token))
	var list struct{ Sessions []any }
	decode(h.T, h.adminDo("GET", "/admin/users/"+user+"/sessions").body, &list)
	assert.Empty(h, list.Sessions)

	assert.Equal(h, user, h.me(h.login(user)), "a login that begins afterwards goes through")
	h.clock.step(time.Minute + time.Second)
	assert.Equal(h, user, h.me(h.login(user)), "and one after the mark has gone")
}
