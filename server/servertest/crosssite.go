package servertest

import (
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server"
)

var crossSiteRules = []rule{
	{name: "matrix", config: trusting, transport: true, check: checkCrossSite},
	{name: "safe methods and verify are exempt", transport: true, check: checkCrossSiteExempt},
	{name: "a refused request has no effect", transport: true, check: checkCrossSiteNoEffect},
}

func trusting(cfg *server.Config) {
	cfg.TrustedOrigins = []string{"https://app.trusted.example", "http://localhost:5173"}
}

// unsafeRoutes are the routes that a web page of another site must not reach.
var unsafeRoutes = []string{"POST /auth/login", "POST /auth/refresh", "POST /auth/logout", "DELETE /auth/sessions", "DELETE /auth/sessions?current=true", "DELETE /auth/sessions/x"}

// crossSiteCases: "own" in an Origin stands for the request's Host, which is example.com:8443 unless a case names another.
var crossSiteCases = []struct {
	name, host string
	head       []string
	passes     bool
}{
	{"neither header", "", nil, true},
	{"same-origin", "", []string{"Sec-Fetch-Site: same-origin"}, true},
	{"none", "", []string{"Sec-Fetch-Site: none"}, true},
	{"cross-site", "", []string{"Sec-Fetch-Site: cross-site"}, false},
	{"same-site", "", []string{"Sec-Fetch-Site: same-site"}, false},
	{"lower-case header name", "", []string{"sec-fetch-site: cross-site"}, false},
	{"not a value", "", []string{"Sec-Fetch-Site: same-origins"}, false},
	{"other case", "", []string{"Sec-Fetch-Site: Same-Origin"}, false},
	{"list", "", []string{"Sec-Fetch-Site: same-origin, cross-site"}, false},
	{"good then bad line", "", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, false},
	{"bad then good line", "", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"}, false},
	{"good line, twice", "", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"}, false},
	{"same-origin with two own", "", []string{"Sec-Fetch-Site: same-origin", "Origin: https://own", "Origin: https://own"}, false},
	{"two lines with trusted", "", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "Origin: https://app.trusted.example"}, false},
	{"name with underscores", "", []string{"Sec_Fetch_Site: same-origin", "Origin: https://evil.example"}, false},
	{"same-origin with own", "", []string{"Sec-Fetch-Site: same-origin", "Origin: https://own"}, true},
	{"cross-site with own", "", []string{"Sec-Fetch-Site: cross-site", "Origin: https://own"}, false},
	{"cross-site with trusted", "", []string{"Sec-Fetch-Site: cross-site", "Origin: https://app.trusted.example"}, true},
	{"same-site with trusted", "", []string{"Origin: http://localhost:5173", "Sec-Fetch-Site: same-site"}, true},
	{"cross-site with an evil Referer", "", []string{"Sec-Fetch-Site: cross-site", "Referer: https://own/"}, false},

	{"own", "", []string{"Origin: https://own"}, true},
	{"own over http", "", []string{"Origin: http://own"}, true},
	{"own name, other port", "", []string{"Origin: https://example.com:8444"}, false},
	{"own name, no port", "", []string{"Origin: https://example.com"}, false},
	{"own name, longer port", "", []string{"Origin: https://example.com:84433"}, false},
	{"null", "", []string{"Origin: null"}, false},
	{"empty", "", []string{"Origin:"}, false},
	{"evil", "", []string{"Origin: https://evil.example"}, false},
	{"evil port", "", []string{"Origin: https://evil.example:8443"}, false},
	{"prefix", "", []string{"Origin: https://own.evil.example"}, false},
	{"own as a prefix", "", []string{"Origin: https://example.com.evil.example:8443"}, false},
	{"own as a suffix", "", []string{"Origin: https://evilexample.com:8443"}, false},
	{"subdomain", "", []string{"Origin: https://sub.example.com:8443"}, false},
	{"userinfo", "", []string{"Origin: https://evil@own"}, false},
	{"own as userinfo", "", []string{"Origin: https://own@evil.example"}, false},
	{"path", "", []string{"Origin: https://own/"}, false},
	{"query", "", []string{"Origin: https://evil.example?own"}, false},
	{"fragment", "", []string{"Origin: https://evil.example#https://own"}, false},
	{"other scheme", "", []string{"Origin: ftp://own"}, false},
	{"extension", "", []string{"Origin: chrome-extension://own"}, false},
	{"no scheme", "", []string{"Origin: own"}, false},
	{"scheme-relative", "", []string{"Origin: //own"}, false},
	{"trailing dot", "", []string{"Origin: https://example.com.:8443"}, false},
	{"two lines", "", []string{"Origin: https://own", "Origin: https://evil.example"}, false},
	{"two lines, turned round", "", []string{"Origin: https://evil.example", "Origin: https://own"}, false},
	{"list of origins", "", []string{"Origin: https://own, https://evil.example"}, false},
	{"list of origins, RFC 6454", "", []string{"Origin: https://own https://evil.example"}, false},
	{"X-Forwarded-Host does not count", "", []string{"Origin: https://evil.example", "X-Forwarded-Host: evil.example"}, false},

	{"default port, https", "example.com", []string{"Origin: https://example.com"}, true},
	{"default port, http", "example.com", []string{"Origin: http://example.com"}, true},
	{"default port, only in Host", "example.com:443", []string{"Origin: https://example.com"}, true},
	{"the other scheme's port", "example.com:443", []string{"Origin: http://example.com"}, false},
	{"the other scheme's port, http", "example.com:80", []string{"Origin: https://example.com"}, false},
	{"a port where Host has none", "example.com", []string{"Origin: https://example.com:8443"}, false},
	{"case of the host", "EXAMPLE.com:8443", []string{"Origin: https://example.com:8443"}, true},
	{"IPv6", "[::1]:3000", []string{"Origin: http://[::1]:3000"}, true},
	{"IPv6, other port", "[::1]:3000", []string{"Origin: http://[::1]:3001"}, false},
	{"part of an IPv6 address", "[::1]", []string{"Origin: http://[::1]:3001"}, false},

	{"trusted", "", []string{"Origin: https://app.trusted.example"}, true},
	{"trusted, http twin", "", []string{"Origin: http://app.trusted.example"}, false},
	{"trusted, other port", "", []string{"Origin: https://app.trusted.example:8443"}, false},
	{"trusted, path", "", []string{"Origin: https://app.trusted.example/"}, false},
	{"trusted, upper case", "", []string{"Origin: https://APP.trusted.example"}, false},
	{"trusted as a prefix", "", []string{"Origin: https://app.trusted.example.evil.example"}, false},
	{"trusted as a suffix", "", []string{"Origin: https://evil-app.trusted.example"}, false},
	{"trusted's parent", "", []string{"Origin: https://trusted.example"}, false},
	{"trusted's child", "", []string{"Origin: https://x.app.trusted.example"}, false},
	{"trusted with a port", "", []string{"Origin: http://localhost:5173"}, true},
	{"trusted with a port, https twin", "", []string{"Origin: https://localhost:5173"}, false},
	{"trusted without its port", "", []string{"Origin: http://localhost"}, false},
	{"trusted and evil", "", []string{"Origin: https://app.trusted.example", "Origin: https://evil.example"}, false},
}

func checkCrossSite(h *harness) {
	token := h.Login(h.User())
	for _, c := range crossSiteCases {
		host := c.host
		if host == "" {
			host = "example.com:8443"
		}
		head := []string{"Host: " + host, asJSON}
		for _, line := range c.head {
			head = append(head, strings.ReplaceAll(line, "own", host))
		}
		for _, route := range unsafeRoutes {
			method, path, _ := strings.Cut(route, " ")
			resp := h.Do(method, path, head...)
			if c.passes {
				assert.NotEqual(h, 403, resp.Status, "%s: %s", c.name, route)
			} else {
				assert.Equal(h, answer{Status: 403, Code: "cross_site"}, h.Answer(resp), "%s: %s", c.name, route)
			}
		}
		assert.Equal(h, 200, h.Get("/auth/verify", append(head, h.Cookie(token))...).Status, c.name)
	}
}

func checkCrossSiteExempt(h *harness) {
	token := h.Login(h.User())
	for _, head := range [][]string{{"Sec-Fetch-Site: cross-site"}, {"Origin: https://evil.example"}, {"Origin: null"}} {
		head = append(head, h.Cookie(token))
		for _, path := range []string{"/auth/me", "/auth/sessions", "/auth/verify"} {
			assert.Equal(h, 200, h.Get(path, head...).Status, path)
			assert.Equal(h, 200, h.Do("HEAD", path, head...).Status, path)
		}
		assert.Equal(h, 200, h.Post("/auth/verify", head...).Status)
		assert.Equal(h, 200, h.Do("DELETE", "/auth/verify", head...).Status)
	}
}

func checkCrossSiteNoEffect(h *harness) {
	user := h.User()
	token, other := h.Login(user), h.Login(user)
	calls := h.Store.Calls("")
	for _, route := range slices.Concat(unsafeRoutes, []string{"DELETE /auth/sessions/" + h.HandleOf(other), "DELETE /auth/sessions/" + h.HandleOf(token)}) {
		method, path, _ := strings.Cut(route, " ")
		for _, line := range []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example", "Origin: " + strings.Repeat("x", 4000)} {
			resp := h.Send(request{Method: method, Path: path, Head: []string{h.Cookie(token), asJSON, line}, Body: `{"user_id":"evil"}`})
			assert.Equal(h, answer{Status: 403, Code: "cross_site"}, h.Answer(resp), route)
		}
		assert.Equal(h, 403, h.Do(method, path, h.Cookie("dead"), "Origin: null").Status)
	}
	assert.Equal(h, calls, h.Store.Calls(""), "it does not reach the store")
	assert.Equal(h, user, h.Me(token))
	assert.Equal(h, user, h.Me(other))
	assert.Len(h, h.Events("cross_site_refused"), 8*4)
}
