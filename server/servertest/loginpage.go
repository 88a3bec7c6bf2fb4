package servertest

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// loginPageRules are the rules about --verify-login-url: which refusals become a redirect, and with which return address.
var loginPageRules = []rule{
	{name: "browsers are sent to it", config: redirecting, transport: true, check: checkLoginPage},
	{name: "everybody else gets 401", config: redirecting, transport: true, check: checkLoginPagePrograms},
	{name: "return addresses", config: redirecting, transport: true, check: checkReturnAddress},
	{name: "return addresses by X-Original-Url", config: redirecting, transport: true, check: checkOriginalURL},
	{name: "no return address from strangers", config: redirectingStrangers, transport: true, check: checkReturnStrangers},
	{name: "a URL with a query", config: redirectingToQuery, transport: true, check: checkLoginPageQuery},
	{name: "a URL that browsers write in another way", config: redirectingToCapitals, transport: true, check: checkLoginPageCapitals},
	{name: "store failure", config: redirecting, transport: true, check: checkLoginPageStoreFailure},
}

const loginURL = "https://login.example/in"

func redirecting(cfg *server.Config) {
	cfg.VerifyLoginURL = loginURL
	cfg.TrustedOrigins = []string{"https://app.example", "https://app.example:8443", "http://plain.example", "http://localhost:5173", "http://localhost"}
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func redirectingStrangers(cfg *server.Config) {
	redirecting(cfg)
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
}

func redirectingToQuery(cfg *server.Config) {
	redirecting(cfg)
	cfg.VerifyLoginURL = loginURL + "?tenant=a%26b"
}

func redirectingToCapitals(cfg *server.Config) {
	redirecting(cfg)
	cfg.VerifyLoginURL = "https://Login.example:0443/in"
}

// asBrowser is the Accept header of a browser that follows a link.
const asBrowser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// forwarded returns the header lines in which Caddy and Traefik describe the original request.
func forwarded(proto, host, uri string) []string {
	return []string{"X-Forwarded-Proto: " + proto, "X-Forwarded-Host: " + host, "X-Forwarded-Uri: " + uri}
}

func (h *harness) location(head ...string) string {
	h.Helper()
	resp := h.Get("/auth/verify", append(head, asBrowser)...)
	require.Equal(h, answer{Status: 302}, h.Answer(resp), "%q", head)
	require.Len(h, resp.Header["Location"], 1)
	assert.Empty(h, resp.Body)
	for _, name := range []string{"Remote-User", "Remote-Session-Id"} {
		assert.NotContains(h, resp.Header, name)
	}
	return resp.Header.Get("Location")
}

// returned returns the return address that the login page gets. Apart from it the Location must be the configured URL.
func (h *harness) returned(head ...string) string {
	h.Helper()
	location := h.location(head...)
	require.LessOrEqual(h, len(location), 2048)
	if location == loginURL {
		return ""
	}
	rest, ok := strings.CutPrefix(location, loginURL+"?rd=")
	require.True(h, ok, location)
	require.NotContains(h, rest, "&")
	address, err := url.QueryUnescape(rest)
	require.NoError(h, err)
	return address
}

func checkLoginPage(h *harness) {
	for name, line := range map[string]string{
		"no cookie": "X-None: 1", "malformed": h.Cookie("x"), "unknown": h.Cookie(madeUp()), "wrong secret": h.Cookie(h.WrongSecret(h.Login(h.User()))),
	} {
		assert.Equal(h, loginURL, h.location(line), name)
		assert.Equal(h, loginURL, h.location(line, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site"), name)
	}
	resp := h.Do("HEAD", "/auth/verify", asBrowser)
	assert.Equal(h, answer{Status: 302}, h.Answer(resp))
	assert.Equal(h, "0", resp.Header.Get("Content-Length"), "as the GET's")
	for _, accept := range []string{"text/html", "TEXT/HTML;q=0.5", "application/json , text/html ; level=1", "text/html;q=0.001", "text/html;q=1", "*/*\r\nAccept: text/html"} {
		assert.Equal(h, 302, h.Get("/auth/verify", "Accept: "+accept).Status, accept)
	}
	user := h.User()
	resp = h.Get("/auth/verify", h.Cookie(h.Login(user)), asBrowser)
	assert.Equal(h, answer{Status: 200}, h.Answer(resp), "a live session is let in")
	assert.Equal(h, user, resp.Header.Get("Remote-User"))
	assert.NotContains(h, resp.Header, "Location")
}

func checkLoginPagePrograms(h *harness) {
	for _, head := range [][]string{
		nil,
		{"Accept: */*"},
		{"Accept: application/json"},
		{"Accept: application/xhtml+xml"},
		{"Accept: text/htmlx"},
		{"Accept: text/html;q=0"},
		{"Accept: application/json, text/html; level=1; q=0.0"},
		{asBrowser, "X-Requested-With: XMLHttpRequest"},
		{asBrowser, "HX-Request: true"},
		{"Accept: xtext/html"},
		{"Accept:"},
		{"X-Accept: text/html"},
		{"Accept_: text/html"},
		{asBrowser, "Sec-Fetch-Mode: cors"},
		{asBrowser, "Sec-Fetch-Mode: no-cors"},
		{asBrowser, "Sec-Fetch-Mode:"},
		{asBrowser, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Mode: cors"},
		{asBrowser, "X-Forwarded-Method: POST"},
		{asBrowser, "X-Forwarded-Method: GET", "X-Forwarded-Method: POST"},
		{asBrowser, "X-Forwarded-Method: get"},
	} {
		resp := h.Get("/auth/verify", head...)
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(resp), "%q", head)
		assert.NotContains(h, resp.Header, "Location")
	}
	for _, method := range methods {
		if method != "GET" && method != "HEAD" {
			assert.Equal(h, 401, h.Do(method, "/auth/verify", asBrowser).Status, method)
		}
	}
	for _, path := range []string{"/auth/me", "/auth/sessions", "/auth/verify/"} {
		assert.NotEqual(h, 302, h.Get(path, asBrowser).Status, path)
	}
}

// FWD-08: only a plain path on a listed origin becomes a return address, however the others are spelled.
func checkReturnAddress(h *harness) {
	for _, tt := range []struct{ proto, host, uri, want string }{
		{"https", "app.example", "/", "https://app.example/"},
		{"https", "app.example", "/a/b?c=d&e=%20f;g#", ""},
		{"https", "app.example", "/a/b?c=d&e=%20f;g", "https://app.example/a/b?c=d&e=%20f;g"},
		{"https", "app.example:8443", "/x", "https://app.example:8443/x"},
		{"https", "app.example", "/?next=//evil.example", "https://app.example/?next=//evil.example"},
		{"https", "login.example", "/account?x=1", "/account?x=1"},
		{"http", "localhost:5173", "/x", "http://localhost:5173/x"},
		{"https", "app.example:443", "/x", "https://app.example/x"}, // as a proxy reports it that adds the port
		{"https", "login.example:443", "/account?x=1", "/account?x=1"},
		{"http", "localhost:80", "/x", "http://localhost/x"},

		{"http", "plain.example", "/x", ""}, // listed for CORS, but anyone on the network path could take over
		{"http", "app.example", "/x", ""},
		{"https", "evil.example", "/x", ""},
		{"https", "app.example.evil.example", "/x", ""},
		{"https", "evil-app.example", "/x", ""},
		{"https", "sub.app.example", "/x", ""},
		{"https", "APP.example", "/x", ""},
		{"https", "app.example.", "/x", ""},
		{"https", "app.example:8444", "/x", ""},
		{"https", "app.example:80", "/x", ""},
		{"https", "app.example:0443", "/x", ""},
		{"http", "app.example:443", "/x", ""},
		{"http", "localhost:443", "/x", ""},
		{"https", "localhost:443", "/x", ""},
		{"https", "app.example@evil.example", "/x", ""},
		{"https", "evil.example@app.example", "/x", ""},
		{"https", "evil.example#app.example", "/x", ""},
		{"https", `evil.example\app.example`, "/x", ""},
		{"https", "evil.example/app.example", "/x", ""},
		{"https", "app.example, evil.example", "/x", ""},
		{"https", "", "/x", ""},
		{"", "app.example", "/x", ""},
		{"HTTPS", "app.example", "/x", ""},
		{"https, http", "app.example", "/x", ""},
		{"javascript", "app.example", "/x", ""},
		{"https://app.example/x?", "evil.example", "/x", "https://app.example/x?://evil.example/x"},

		{"https", "app.example", "", ""}, // a proxy's request has a path
		{"https", "app.example", "x", ""},
		{"https", "app.example", "*", ""},
		{"https", "app.example", ".evil.example/", ""},
		{"https", "app.example", "@evil.example/", ""},
		{"https", "app.example", ":80/", ""},
		{"https", "app.example", `\evil.example`, ""},
		{"https", "app.example", "https://evil.example/", ""},
		{"https", "app.example", "https:evil.example", ""},
		{"https", "app.example", "/a b", ""},
		{"https", "app.example", "/ü", ""},
		{"https", "app.example", "/a%0d%0aSet-Cookie:x=y", ""},
		{"https", "app.example", "/a%250d%250a", ""},
		{"https", "app.example", "/a?b=%00", ""},
		{"https", "app.example", "/%" + strings.Repeat("25", 20) + "2f", ""},
		{"https", "app.example", "/" + strings.Repeat("x", 3000), ""},
		{"https", "app.example", "/%zz%", "https://app.example/%zz%"},
	} {
		assert.Equal(h, tt.want, h.returned(forwarded(tt.proto, tt.host, tt.uri)...), "%v", tt)
	}
	// The server reads each of these as a path, but some browser, or a login page that decodes it, as a host.
	for _, uri := range []string{
		"//evil.example", `/\evil.example`, `/\/evil.example`, "/%2fevil.example", "/%2Fevil.example", "/%5cevil.example", "/%5Cevil.example", "/%252fevil.example",
		"/%25252fevil.example", "/%2525252fevil.example", "/%09/evil.example", "/%0a/evil.example", "/%0d/evil.example", "/%00/evil.example", "/%7f/evil.example", "/.//evil.example",
		"/..//evil.example", "/x/..//evil.example", "/%2e//evil.example", "/%2f%2fevil.example", "///evil.example", "/%2f%5cevil.example", "/x//evil.example", `/x\evil.example`,
	} {
		for _, host := range []string{"login.example", "app.example"} {
			assert.Empty(h, h.returned(forwarded("https", host, uri)...), uri)
		}
	}
	twice := forwarded("https", "app.example", "/x")
	for _, line := range twice {
		assert.Empty(h, h.returned(append([]string{line}, twice...)...), "twice: %s", line)
	}
	other := []string{
		"X_Forwarded_Proto: https", "X_Forwarded_Host: app.example", "X_Forwarded_Uri: /x",
		"Forwarded: proto=https;host=app.example", "X-Rewrite-Url: https://app.example/x",
	}
	assert.Empty(h, h.returned(other...), "other headers are not read")
	alias := []string{"X_Forwarded_Host: evil.example", "X-Forwarded_Host: evil.example", "X-Forwarded-Port: 8443", "X-Forwarded-Prefix: /evil", "X-Forwarded-Ssl: off"}
	assert.Equal(h, "https://app.example/x", h.returned(append(alias, twice...)...), "nor do they add to one")
}

func checkOriginalURL(h *harness) {
	for text, want := range map[string]string{
		"https://app.example/x?y=z": "https://app.example/x?y=z", "https://login.example/x": "/x", "https://evil.example/x": "", "https://app.example": "https://app.example/",
		"https://login.example": "/", "https://app.example?x": "", "https://app.example#": "", "https://app.example:443": "https://app.example/", `https://app.example\`: "",
		"//app.example/x": "", "/x": "", "https:app.example/x": "", `https:\\app.example/x`: "", "https:/app.example/x": "", "https:///app.example/x": "", "https://u@app.example/x": "",
		"https://app.example//x": "", "data:text/html,x": "", "javascript:alert(1)//app.example/": "",
	} {
		assert.Equal(h, want, h.returned("X-Original-Url: "+text), text)
	}
	const line = "X-Original-URL: https://app.example/x"
	assert.Equal(h, "https://app.example/x", h.returned(append(forwarded("https", "app.example", "/x"), line)...), "both, and they agree")
	assert.Empty(h, h.returned(append(forwarded("https", "app.example", "/y"), line)...), "both, and they differ")
	assert.Empty(h, h.returned(line, line), "twice")
	assert.Equal(h, "https://app.example/x", h.returned(line, "X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example"), "most proxies send those two with every request")
}

func checkReturnStrangers(h *harness) {
	assert.Empty(h, h.returned(forwarded("https", "app.example", "/x")...))
	assert.Empty(h, h.returned("X-Original-Url: https://app.example/x"))
	assert.Empty(h, h.returned(append(forwarded("https", "app.example", "/x"), "X-Forwarded-For: 10.1.1.1")...))
}

func checkLoginPageCapitals(h *harness) {
	assert.Equal(h, "https://Login.example:0443/in?rd=%2Faccount%3Fx%3D1", h.location(forwarded("https", "login.example", "/account?x=1")...))
	assert.Equal(h, "https://Login.example:0443/in?rd=%2Faccount", h.location(forwarded("https", "login.example:443", "/account")...), "as some proxies say")
	assert.Equal(h, "https://Login.example:0443/in", h.location(forwarded("https", "Login.example:0443", "/account")...), "no browser says so")
}

func checkLoginPageQuery(h *harness) {
	assert.Equal(h, loginURL+"?tenant=a%26b", h.location())
	assert.Equal(h, loginURL+"?tenant=a%26b&rd=https%3A%2F%2Fapp.example%2F%3Fa%3Db%26rd%3Dc", h.location(forwarded("https", "app.example", "/?a=b&rd=c")...))
}

func checkLoginPageStoreFailure(h *harness) {
	token := h.Login(h.User())
	h.Store.Failing(coatcheck.ErrUnavailable)
	resp := h.Get("/auth/verify", h.Cookie(token), asBrowser)
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "no client is sent to the login page in an outage")
	assert.NotContains(h, resp.Header, "Location")
}
