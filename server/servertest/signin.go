package servertest

import (
	"net/url"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// signInRules are the rules about the server's own page to log in on. Package browsertest uses it.
var signInRules = []rule{
	{name: "page of mode open", transport: true, check: checkSignInOpen},
	{name: "page of mode users", unserved: true, transport: true, check: checkSignInUsers},
	{name: "no page in other modes", config: withMode(modeFunc(func(a *login.Attempt) (string, error) { return a.UserID, nil })), transport: true, check: checkNoSignIn},
	{name: "signed in already", config: redirecting, check: checkSignedIn},
	{name: "return addresses", config: redirecting, transport: true, check: checkSignInReturn},
	{name: "store failure", check: checkSignInStoreFailure},
}

// formed is a mode with a form of its own.
type formed struct {
	modeFunc
	form login.Form
}

func (f formed) Traits() login.Traits {
	return login.Traits{Guesses: login.GuessesNothing, Form: f.form}
}

func checkSignInOpen(h *harness) {
	page := h.Get("/auth/login")
	assert.Equal(h, answer{Status: 200}, h.Answer(page))
	assert.Contains(h, page.Body, `autocomplete="username"`)
	assert.NotContains(h, page.Body, `type="password"`)
	assert.NotContains(h, page.Body, `id="remember"`, "where it is not offered")
	assert.Contains(h, page.Body, `data-return="devices"`)
	assert.Zero(h, h.Store.Calls("create"), "a page begins no session")
}

func checkSignInUsers(h *harness) {
	h.serveMode(formed{func(*login.Attempt) (string, error) { return "", login.ErrRefused }, login.PasswordForm}, func(cfg *server.Config) { cfg.RememberTTL = maxLifetime })
	page := h.Get("/auth/login")
	for _, part := range []string{`autocomplete="username"`, `autocomplete="current-password"`, `type="password"`, `id="remember"`} {
		assert.Contains(h, page.Body, part)
	}
	assert.NotContains(h, page.Body, "believes any user ID")
}

func checkNoSignIn(h *harness) {
	resp := h.Get("/auth/login")
	assert.Equal(h, answer{Status: 405, Code: "method_not_allowed"}, h.Answer(resp))
	assert.Equal(h, []string{"POST"}, resp.Header["Allow"])
}

func checkSignedIn(h *harness) {
	token := h.Login(h.User())
	for query, want := range map[string]string{
		"": "devices", "?rd=" + url.QueryEscape("/a?b=c&d=%2F"): "/a?b=c&d=%2F", "?rd=https%3A%2F%2Fapp.example%2Fx": "https://app.example/x",
		"?rd=//evil.example": "devices",
	} {
		resp := h.Get("/auth/login"+query, h.Cookie(token))
		assert.Equal(h, answer{Status: 303}, h.Answer(resp), query)
		assert.Equal(h, []string{want}, resp.Header["Location"], query)
	}
	for name, line := range map[string]string{"malformed": h.Cookie("x"), "unknown": h.Cookie(madeUp()), "wrong secret": h.Cookie(h.WrongSecret(token))} {
		assert.Equal(h, 200, h.Get("/auth/login?rd=/x", line).Status, name)
	}
}

// FWD-08, for our own page: it returns to a plain path of its own origin or to a listed origin, and to nothing else.
func checkSignInReturn(h *harness) {
	returned := func(query string) string {
		page := h.Get("/auth/login?" + query).Body
		_, rest, ok := strings.Cut(page, `data-return="`)
		require.True(h, ok)
		target, _, _ := strings.Cut(rest, `"`)
		return strings.NewReplacer("&amp;", "&", "&#43;", "+", "&lt;", "<", "&gt;", ">", "&#34;", `"`, "&#39;", "'").Replace(target)
	}
	longest := "/" + strings.Repeat("x", 2047) // no Location of /auth/verify hands out a longer one
	for rd, want := range map[string]string{
		"/x?y=z&a=%20;b": "/x?y=z&a=%20;b", "/": "/", "/<\"'>": "/<\"'>", "https://app.example/x?y": "https://app.example/x?y", "https://app.example:8443/": "https://app.example:8443/",
		"https://app.example": "https://app.example/", "https://app.example:8443": "https://app.example:8443/", "http://localhost:5173": "http://localhost:5173/",
		"http://localhost:5173/x": "http://localhost:5173/x", "/?next=//evil.example": "/?next=//evil.example", longest: longest,
	} {
		assert.Equal(h, want, returned("rd="+url.QueryEscape(rd)), rd)
	}
	for _, rd := range []string{
		"", "x", "//evil.example", `/\evil.example`, "/%2fevil.example", "/%5cevil.example", "/%252fevil.example", "/%09/evil.example", "/x//y",
		`\evil.example`, "/x#y", "/a b", "/ü", "/\x00",
		"/%0d%0ax", "https://evil.example/x", "https://app.example.evil.example/", "https://app.example@evil.example/",
		"https://APP.example/x", "https://app.example//x",
		"http://app.example/x", "http://plain.example/x", "javascript:alert(1)", "javascript://app.example/%0aalert(1)", "data:text/html,x",
		"https:app.example/x", " https://app.example/x",
		// Neighbours of a listed origin without a path.
		"https://app.example?", "https://app.example?x=/y", "https://app.example#", "https://app.example#/x", `https://app.example\`,
		`https://app.example\@evil.example`, `https://app.example\.evil.example/`, "https://app.example:443", "https://app.example:8444", "https://app.example:",
		"https://app.example:80@evil.example", "https://app.example@evil.example", "https://app.example:8443@evil.example", "https://u@app.example",
		"https://u:p@app.example", "https://@app.example", "https://app.example.", "https://app.example.evil.example", "https://app.exampl", "https://app.examplee",
		"https://app.example%2f", "https://app.example%00", "https://app.example%20", "https://app.example\n", "https://app.example\t", "https://app.example ",
		"https://app.example;x", "https://app.example,https://evil.example", "https://evil.example", "https://evil.example#app.example", "https://evil.example?https://app.example",
		"http://app.example", "http://plain.example", "HTTPS://app.example", "https:app.example", "https:/app.example", "https:///app.example", "https://",
		"://app.example", "//app.example", "app.example", "javascript://app.example",
		"?rd=/x", "/" + strings.Repeat("x", 2048),
	} {
		assert.Equal(h, "devices", returned("rd="+url.QueryEscape(rd)), rd)
	}
	assert.Equal(h, "devices", returned("rd=/x&rd=/y"), "twice")
	assert.Equal(h, "devices", returned("RD=/x"))
}

func checkSignInStoreFailure(h *harness) {
	token := h.Login(h.User())
	h.Store.Failing(coatcheck.ErrUnavailable)
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.Get("/auth/login", h.Cookie(token))))
}
