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
	user := h.user()
	token := h.login(user)
	resp := h.get("/auth/verify", h.cookie(token))
	assert.Equal(h, answer{status: 200}, h.answer(resp))
	assert.Empty(h, resp.body)
	assert.Equal(h, []string{user}, resp.header["Remote-User"])
	assert.Equal(h, []string{idOf(h, token)}, resp.header["Remote-Session-Id"])
	next := h.refresh(token)
	assert.Equal(h, []string{idOf(h, next)}, h.get("/auth/verify", h.cookie(token)).header["Remote-Session-Id"], "the ID that me shows")
	assert.Equal(h, 200, h.get("/auth/verify?for=/admin/../x?a=b;c", h.cookie(next)).status, "as Envoy asks")
	assert.Equal(h, 401, h.get("/auth/verify?for=/admin/../x?a=b;c").status)
	assert.Equal(h, []string{idOf(h, next)}, h.get("/auth/verify?rd=%2F&x", h.cookie(next)).header["Remote-Session-Id"])
}

func checkVerifyDead(h *harness) {
	live := h.login(h.user())
	for name, line := range map[string]string{
		"none":         "X-None: 1",
		"malformed":    h.cookie("x"),
		"unknown":      h.cookie(madeUp()),
		"wrong secret": h.cookie(wrongSecret(h, live)),
		"two live":     h.cookie(live, h.login(h.user())),
	} {
		resp := h.get("/auth/verify", line)
		assert.Equal(h, answer{status: 401, code: "unauthenticated"}, h.answer(resp), name)
		assert.Empty(h, resp.header["Remote-User"], name)
		assert.Empty(h, resp.header["Remote-Session-Id"], name)
		assert.Less(h, len(resp.body), 1024)
	}
}

func checkVerifyNames(h *harness) {
	seen := make(map[string]string)
	for _, user := range []string{
		"user-42", "a b", "100%", "%", "%25", "%2525", "a\u00a0b", "Jürgen", "🧥", `"quoted"`, "semi;colon,comma", "a:b", "~!@#$^&*()_+",
		" ", "  ", "a ", " a", "\u0100", "'; DROP TABLE", "<x>", strings.Repeat("ü", 128), strings.Repeat("%", 256), "Set-Cookie: a=b", "\u2028",
	} {
		resp := h.get("/auth/verify", h.cookie(h.login(user)))
		require.Equal(h, 200, resp.status, user)
		got := resp.header.Get("Remote-User")
		assert.Equal(h, []string{escaped(user)}, resp.header["Remote-User"], user)
		assert.Empty(h, resp.body, user)
		assert.NotContains(h, seen, got, "two users share a value")
		seen[got] = user
	}
}

// escaped is the contract's sentence: every byte outside 0x21 to 0x7E, and % itself, percent-encoded.
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
	user := h.user()
	token := h.login(user)
	for _, method := range methods {
		for _, body := range []string{"", "ignored", `{"user_id":"x"}`} {
			head := []string{h.cookie(token), "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}
			resp := h.send(request{method, "/auth/verify", append(head, "Content-Type: text/plain", "Content-Encoding: gzip"), body})
			assert.Equal(h, answer{status: 200}, h.answer(resp), method)
			assert.Equal(h, user, resp.header.Get("Remote-User"), method)
			assert.Empty(h, resp.body, method)
			resp = h.send(request{method, "/auth/verify", head[1:], body})
			assert.Equal(h, 401, resp.status, method)
		}
	}
	resp := h.send(request{"POST", "/auth/verify", []string{h.cookie(token)}, strings.Repeat("x", 17<<10)})
	assert.Equal(h, answer{status: 413, code: "body_too_large"}, h.answer(resp))
}

func checkVerifyIgnores(h *harness) {
	token := h.login(h.user())
	for _, line := range []string{
		"Authorization: Bearer " + token, "Authorization: Basic YTpi", "X-Session-Id: " + token, "Remote-User: admin",
		"Remote_User: admin", "X-Forwarded-User: admin", "X-Forwarded-Uri: /public", "X-Original-Url: /healthz", "X-Forwarded-For: 127.0.0.1",
		"X-Forwarded-Method: OPTIONS", "User-Agent: kube-probe/1.0", "Set-Cookie: " + h.name + "=" + token, "Cookie2: " + h.name + "=" + token,
		"X-Http-Method-Override: GET", "X_Cookie: " + h.name + "=" + token,
	} {
		resp := h.get("/auth/verify", line)
		assert.Equal(h, 401, resp.status, line)
		assert.Empty(h, resp.header["Remote-User"], line)
	}
	for _, path := range []string{"/auth/verify?" + h.name + "=" + token, "/auth/verify?session_id=" + token} {
		assert.Equal(h, 401, h.get(path).status, path)
	}
	for _, path := range []string{"/auth/verify/", "/auth/verify/x", "/auth//verify", "//auth/verify", "/auth/./verify", "/x/../auth/verify", "/auth/verify;x", "/auth/%76erify", "/Auth/verify", "/auth/verify%00", "/auth/verify%2F"} {
		assert.Equal(h, 404, h.get(path, h.cookie(token)).status, path)
	}
}

// FWD-02: with a live session, too, whatever is not exactly the path of verify is refused.
func checkVerifyMalformed(h *harness) {
	token := h.login(h.user())
	for _, path := range []string{
		"/auth/verify/", "/auth/verify/admin", "/auth/verify/../me", "/auth/verify/..", "/auth/verify/../verify/", "/auth/verify%2fadmin", "/auth/verify%2Fadmin",
		"/auth/verify%5cadmin", `/auth/verify\admin`, "/auth/verify/%2e%2e/me", "/auth/verify/%2e%2e%2fme", "/auth/verify;a=b", "/auth/verify;/admin", "/auth/verify%3badmin",
		"/auth/verify%23", "/auth/verify%3f", "/auth/verify%00", "/auth/verify%20", "/auth/verify.html", "/auth/verify//", "/auth/verify/.", "/AUTH/VERIFY", "/auth/verifyx",
		"/auth/verify#", "/auth/verify#/admin", "/auth/verify?x#y", "/auth/verify/#", "/auth/verify/?x", "/auth/%2e/verify", "/%61uth/verify", "auth/verify", "*", "?",
		"/x/%2e%2e/auth/verify", "/auth/x/..;/verify", "/auth/verify\x7f", "/auth/verify\u00e4",
	} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			c := h.wire.open(h)
			resp, err := c.roundTrip(method, request{method, path, []string{h.cookie(token)}, ""}.text("x"))
			require.NoError(h, err, path)
			assert.GreaterOrEqual(h, resp.status, 400, path)
			assert.Less(h, resp.status, 500, path)
			assert.NotContains(h, resp.header, "Remote-User", path)
			require.NoError(h, c.Close())
		}
	}
	for _, line := range []string{"X-Forwarded-Uri: /public", "X-Forwarded-Uri: //x\r\nX-Forwarded-Uri: /y", "X-Forwarded-Host: a\r\nX-Forwarded-Host: b", "X-Forwarded-Method: OPTIONS", "X-Original-Url: /healthz", "X-Forwarded-Proto:"} {
		assert.Equal(h, 401, h.get("/auth/verify", line).status, line)
		assert.Equal(h, 200, h.get("/auth/verify", line, h.cookie(token)).status, "metadata takes nobody's session away, either: %s", line)
	}
}

// FWD-06: a header counts under its own name only.
func checkVerifyAliases(h *harness) {
	token := h.login(h.user())
	pair := h.name + "=" + token
	for _, name := range []string{"Cookie_", "_Cookie", "Cookie-", "Cookies", "Coo-kie", "X-Cookie", "Set-Cookie", "Cookie2", "HTTP_COOKIE", "Http-Cookie", "Proxy-Cookie", "Cook\u0131e"} {
		resp, err := h.wire.send(request{"GET", "/auth/verify", []string{name + ": " + pair}, ""})
		if assert.NoError(h, err, name) {
			assert.Contains(h, []int{400, 401}, resp.status, name)
		}
	}
	assert.Equal(h, 200, h.get("/auth/verify", "cOOKIE: "+pair).status, "but in any case")
}

// noLogin is a login mode that nothing may ask.
var noLogin = modeFunc(func(*login.Attempt) (string, error) { panic("verify asked who may log in") })

// FWD-09.
func checkVerifySmall(h *harness) {
	body := `{"user_id":"u","password":"p"}`
	head := []string{asJSON, "Authorization: Bearer 0123456789-0123456789-0123456789-01", "Authorization: Basic dTpw"}
	calls := h.store.calls("")
	for _, method := range methods {
		resp := h.send(request{method, "/auth/verify", head, body})
		assert.Equal(h, 401, resp.status, method)
		assert.LessOrEqual(h, len(resp.body), 1024, method)
		assert.Empty(h, resp.header["Set-Cookie"], method)
	}
	assert.Equal(h, calls, h.store.calls(""), "without a cookie nothing is looked up")
	assert.Empty(h, h.events("login_failed"))
}

func checkVerifyRenews(h *harness) {
	user := h.user()
	token := h.login(user)
	for range 10 {
		h.clock.step(ttl - time.Minute)
		resp := h.get("/auth/verify", h.cookie(token))
		require.Equal(h, answer{status: 200}, h.answer(resp))
	}
	assert.Equal(h, user, h.me(token))
}

func checkVerifyFirstUse(h *harness) {
	old := h.login(h.user())
	token := h.refresh(old)
	h.clock.step(2 * grace)
	require.Equal(h, 200, h.get("/auth/verify", h.cookie(old)).status, "the successor was not presented yet")
	require.Equal(h, 200, h.get("/auth/verify", h.cookie(token)).status)
	h.clock.step(grace - time.Millisecond)
	assert.Equal(h, 200, h.get("/auth/verify", h.cookie(old)).status)
	h.clock.step(time.Millisecond)
	assert.Equal(h, 401, h.get("/auth/verify", h.cookie(old)).status)
	assert.Equal(h, 200, h.get("/auth/verify", h.cookie(token)).status)
	assert.Len(h, h.events("reuse"), 1, "verify reports a reuse, too")
}

func checkVerifyStoreFailure(h *harness) {
	token := h.login(h.user())
	h.store.failing(coatcheck.ErrUnavailable)
	resp := h.get("/auth/verify", h.cookie(token))
	assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp))
	assert.Empty(h, resp.header["Remote-User"])
	h.store.on(nil)
	assert.Equal(h, 200, h.get("/auth/verify", h.cookie(token)).status)
}
