package servertest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

var verifyRules = []rule{
	{name: "live session", check: checkVerifyLive},
	{name: "no live session", check: checkVerifyDead},
	{name: "user names in the header", check: checkVerifyNames},
	{name: "any method", check: checkVerifyMethods},
	{name: "nothing but the cookie counts", check: checkVerifyIgnores},
	{name: "malformed requests", check: checkVerifyMalformed},
	{name: "header names in other spellings", check: checkVerifyAliases},
	{name: "small, and no business of the login", config: withMode(noLogin), check: checkVerifySmall},
	{name: "renews", check: checkVerifyRenews},
	{name: "notes the first use of a token", check: checkVerifyFirstUse},
	{name: "store failure", check: checkVerifyStoreFailure},
}

func checkVerifyLive(h *harness) {
	user := h.User()
	token := h.Login(user)
	resp := h.Get("/auth/verify", h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Empty(h, resp.Body)
	assert.Equal(h, []string{user}, resp.Header["Remote-User"])
	assert.Equal(h, []string{h.IDOf(token)}, resp.Header["Remote-Session-Id"])
	next := h.Refresh(token)
	assert.Equal(h, []string{h.IDOf(next)}, h.Get("/auth/verify", h.Cookie(token)).Header["Remote-Session-Id"], "the ID that me shows")
	assert.Equal(h, []string{h.IDOf(next)}, h.Get("/auth/verify?", h.Cookie(next)).Header["Remote-Session-Id"])
	for _, name := range []string{"Remote-Name", "Remote-Email", "Remote-Groups"} {
		assert.Equal(h, []string{""}, resp.Header[name], "always there, so that no client's own line stays")
	}
}

func checkVerifyDead(h *harness) {
	live := h.Login(h.User())
	for name, line := range map[string]string{
		"none":         "X-None: 1",
		"malformed":    h.Cookie("x"),
		"unknown":      h.Cookie(madeUp()),
		"wrong secret": h.Cookie(h.WrongSecret(live)),
		"two live":     h.Cookie(live, h.Login(h.User())),
	} {
		resp := h.Get("/auth/verify", line)
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(resp), name)
		assert.Empty(h, resp.Header["Remote-User"], name)
		assert.Empty(h, resp.Header["Remote-Session-Id"], name)
		assert.Less(h, len(resp.Body), 1024)
	}
}

func checkVerifyNames(h *harness) {
	seen := make(map[string]string)
	for _, user := range []string{
		"user-42", "a b", "100%", "%", "%25", "%2525", "a\u00a0b", "Jürgen", "🧥", `"quoted"`, "semi;colon,comma", "a:b", "~!@#$^&*()_+",
		" ", "  ", "a ", " a", "\u0100", "'; DROP TABLE", "<x>", strings.Repeat("ü", 128), strings.Repeat("%", 256), "Set-Cookie: a=b", "\u2028",
	} {
		resp := h.Get("/auth/verify", h.Cookie(h.Login(user)))
		require.Equal(h, 200, resp.Status, user)
		got := resp.Header.Get("Remote-User")
		assert.Equal(h, []string{escaped(user)}, resp.Header["Remote-User"], user)
		assert.Empty(h, resp.Body, user)
		assert.NotContains(h, seen, got, "two users share a value")
		seen[got] = user
	}
}

// escaped encodes a user ID as the contract says: every byte outside 0x21 to 0x7E, and % itself, is percent-encoded.
func escaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 0x21 && c <= 0x7E && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "M-SEARCH", "QUERY", "get"}

func checkVerifyMethods(h *harness) {
	user := h.User()
	token := h.Login(user)
	for _, method := range methods {
		for _, body := range []string{"", "ignored", `{"user_id":"x"}`} {
			head := []string{h.Cookie(token), "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}
			resp := h.Send(request{Method: method, Path: "/auth/verify", Head: append(head, "Content-Type: text/plain", "Content-Encoding: gzip"), Body: body})
			assert.Equal(h, answer{Status: 200}, h.Answer(resp), method)
			assert.Equal(h, user, resp.Header.Get("Remote-User"), method)
			assert.Empty(h, resp.Body, method)
			resp = h.Send(request{Method: method, Path: "/auth/verify", Head: head[1:], Body: body})
			assert.Equal(h, 401, resp.Status, method)
		}
	}
	resp := h.Send(request{Method: "POST", Path: "/auth/verify", Head: []string{h.Cookie(token)}, Body: strings.Repeat("x", 17<<10)})
	assert.Equal(h, answer{Status: 413, Code: "body_too_large"}, h.Answer(resp))
}

func checkVerifyIgnores(h *harness) {
	token := h.Login(h.User())
	for _, line := range []string{
		"Authorization: Bearer " + token, "Authorization: Basic YTpi", "X-Session-Id: " + token, "Remote-User: admin",
		"Remote_User: admin", "X-Forwarded-User: admin", "X-Forwarded-Uri: /public", "X-Original-Url: /healthz", "X-Forwarded-For: 127.0.0.1",
		"X-Forwarded-Method: OPTIONS", "User-Agent: kube-probe/1.0", "Set-Cookie: " + h.CookieName + "=" + token, "Cookie2: " + h.CookieName + "=" + token,
		"X-Http-Method-Override: GET", "X_Cookie: " + h.CookieName + "=" + token,
	} {
		resp := h.Get("/auth/verify", line)
		assert.Equal(h, 401, resp.Status, line)
		assert.Empty(h, resp.Header["Remote-User"], line)
	}
	for _, path := range []string{"/auth/verify?" + h.CookieName + "=" + token, "/auth/verify?session_id=" + token} {
		assert.Equal(h, 400, h.Get(path).Status, path)
	}
	for _, path := range []string{
		"/auth/verify/", "/auth/verify/x", "/auth//verify", "//auth/verify", "/auth/./verify", "/x/../auth/verify",
		"/auth/verify;x", "/auth/%76erify", "/Auth/verify", "/auth/verify%00", "/auth/verify%2F",
	} {
		assert.Equal(h, 404, h.Get(path, h.Cookie(token)).Status, path)
	}
}

// FWD-02: every path that is not exactly that of verify is refused, even with a live session.
func checkVerifyMalformed(h *harness) {
	token := h.Login(h.User())
	for _, path := range []string{
		"/auth/verify/", "/auth/verify/admin", "/auth/verify/../me", "/auth/verify/..", "/auth/verify/../verify/", "/auth/verify%2fadmin", "/auth/verify%2Fadmin",
		"/auth/verify%5cadmin", `/auth/verify\admin`, "/auth/verify/%2e%2e/me", "/auth/verify/%2e%2e%2fme", "/auth/verify;a=b", "/auth/verify;/admin", "/auth/verify%3badmin",
		"/auth/verify%23", "/auth/verify%3f", "/auth/verify%00", "/auth/verify%20", "/auth/verify.html", "/auth/verify//", "/auth/verify/.", "/AUTH/VERIFY", "/auth/verifyx",
		"/auth/verify#", "/auth/verify#/admin", "/auth/verify?x#y", "/auth/verify/#", "/auth/verify/?x", "/auth/%2e/verify", "/%61uth/verify", "auth/verify", "*", "?",
		"/x/%2e%2e/auth/verify", "/auth/x/..;/verify", "/auth/verify\x7f", "/auth/verify\u00e4",
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			c := h.Wire.Open(h)
			resp, err := c.RoundTrip(method, request{Method: method, Path: path, Head: []string{h.Cookie(token)}, Body: ""}.Text("x"))
			require.NoError(h, err, path)
			assert.GreaterOrEqual(h, resp.Status, 400, path)
			assert.Less(h, resp.Status, 500, path)
			assert.NotContains(h, resp.Header, "Remote-User", path)
			require.NoError(h, c.Close())
		}
	}
	for _, line := range []string{
		"X-Forwarded-Uri: /public", "X-Forwarded-Uri: //x\r\nX-Forwarded-Uri: /y",
		"X-Forwarded-Host: a\r\nX-Forwarded-Host: b", "X-Forwarded-Method: OPTIONS", "X-Original-Url: /healthz", "X-Forwarded-Proto:",
	} {
		assert.Equal(h, 401, h.Get("/auth/verify", line).Status, line)
		assert.Equal(h, 200, h.Get("/auth/verify", line, h.Cookie(token)).Status, "metadata does not make a live session invalid, either: %s", line)
	}
}

// FWD-06: a header counts under its own name only.
func checkVerifyAliases(h *harness) {
	token := h.Login(h.User())
	pair := h.CookieName + "=" + token
	for _, name := range []string{
		"Cookie_", "_Cookie", "Cookie-", "Cookies", "Coo-kie", "X-Cookie", "Set-Cookie", "Cookie2", "HTTP_COOKIE",
		"Http-Cookie", "Proxy-Cookie", "Cook\u0131e",
	} {
		resp, err := h.Wire.Send(request{Method: "GET", Path: "/auth/verify", Head: []string{name + ": " + pair}, Body: ""})
		if assert.NoError(h, err, name) {
			assert.Contains(h, []int{400, 401}, resp.Status, name)
		}
	}
	assert.Equal(h, 200, h.Get("/auth/verify", "cOOKIE: "+pair).Status, "but in any case")
}

// noLogin is a login mode that must not be asked.
var noLogin = modeFunc(func(*login.Attempt) (string, error) { panic("verify asked who may log in") })

// FWD-09.
func checkVerifySmall(h *harness) {
	body := `{"user_id":"u","password":"p"}`
	head := []string{asJSON, "Authorization: Bearer 0123456789-0123456789-0123456789-01", "Authorization: Basic dTpw"}
	calls := h.Store.Calls("")
	for _, method := range methods {
		resp := h.Send(request{Method: method, Path: "/auth/verify", Head: head, Body: body})
		assert.Equal(h, 401, resp.Status, method)
		assert.LessOrEqual(h, len(resp.Body), 1024, method)
		assert.Empty(h, resp.Header["Set-Cookie"], method)
	}
	assert.Equal(h, calls, h.Store.Calls(""), "without a cookie nothing is looked up")
	assert.Empty(h, h.Events("login_failed"))
}

func checkVerifyRenews(h *harness) {
	user := h.User()
	token := h.Login(user)
	for range 10 {
		h.Clock.Step(ttl - time.Minute)
		resp := h.Get("/auth/verify", h.Cookie(token))
		require.Equal(h, answer{Status: 200}, h.Answer(resp))
	}
	assert.Equal(h, user, h.Me(token))
}

func checkVerifyFirstUse(h *harness) {
	old := h.Login(h.User())
	token := h.Refresh(old)
	h.Clock.Step(2 * grace)
	require.Equal(h, 200, h.Get("/auth/verify", h.Cookie(old)).Status, "the successor was not presented yet")
	require.Equal(h, 200, h.Get("/auth/verify", h.Cookie(token)).Status)
	h.Clock.Step(grace - time.Millisecond)
	assert.Equal(h, 200, h.Get("/auth/verify", h.Cookie(old)).Status)
	h.Clock.Step(time.Millisecond)
	assert.Equal(h, 401, h.Get("/auth/verify", h.Cookie(old)).Status)
	assert.Equal(h, 200, h.Get("/auth/verify", h.Cookie(token)).Status)
	assert.Len(h, h.Events("reuse"), 1, "verify reports a reuse, too")
}

func checkVerifyStoreFailure(h *harness) {
	token := h.Login(h.User())
	h.Store.Failing(coatcheck.ErrUnavailable)
	resp := h.Get("/auth/verify", h.Cookie(token))
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp))
	assert.Empty(h, resp.Header["Remote-User"])
	h.Store.On(nil)
	assert.Equal(h, 200, h.Get("/auth/verify", h.Cookie(token)).Status)
}
