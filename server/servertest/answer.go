package servertest

import (
	"net/http"
	"strings"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// contentTypes are the content types of answers that are neither JSON nor a problem.
var contentTypes = map[string]string{
	"/auth/devices":                   "text/html; charset=utf-8",
	"/auth/login":                     "text/html; charset=utf-8", // but that of POST
	"/auth/login.js":                  "text/javascript; charset=utf-8",
	"/auth/devices.js":                "text/javascript; charset=utf-8",
	"/auth/devices.css":               "text/css; charset=utf-8",
	"/openapi.yaml":                   "application/yaml",
	"/metrics":                        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
	"/debug/pprof/":                   "text/plain; charset=utf-8",
	"/debug/pprof/goroutine?debug=2":  "text/plain; charset=utf-8",
	"/debug/pprof/heap":               "application/octet-stream",
	"/debug/pprof/trace?seconds=0.01": "application/octet-stream",
}

// These are the page's policy, to the letter, and the policy of every other answer.
const (
	pageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	noCSP = "default-src 'none'; frame-ancestors 'none'"
)

// checkAnswer checks what must hold for every answer of the server's listeners, whatever the request.
func (h *harness) checkAnswer(listener *wire, req request, r response) {
	h.Helper()
	h.checkHeaders(req, r)
	h.checkChallenge(listener, r)
	h.checkContract(listener, req, r)
	if r.Status == 503 {
		assert.Empty(h, h.CookieOf(r), "a 503 touches the cookie: %s %s %s", req.Method, req.Path, r.Body)
	}
	if r.Status >= 400 && req.Method != "HEAD" && !ofProvider(req, r) {
		httpcontract.CheckProblem(h.T, r)
	}
}

// ofProvider reports whether an error of mode oidc has a form other than a problem: a page for people, or an answer to the provider.
func ofProvider(req request, r response) bool {
	return strings.HasPrefix(req.Path, "/auth/oidc/") && r.Header.Get("Content-Type") != "application/problem+json"
}

// checkChallenge checks that each 401 has WWW-Authenticate, and no other answer has it: strict clients refuse a 401 without
// one (RFC 9110, section 15.5.2).
func (h *harness) checkChallenge(listener *wire, r response) {
	h.Helper()
	var want []string
	switch {
	case r.Status != 401:
	case listener == h.admin || h.trusted:
		want = []string{`Bearer realm="coatcheck"`}
	default:
		want = []string{`Cookie realm="coatcheck"`}
	}
	assert.Equal(h, want, r.Header["Www-Authenticate"])
}

func (h *harness) checkHeaders(req request, r response) {
	h.Helper()
	h.CheckPrivate(r)
	csp := noCSP
	path, _, _ := strings.Cut(req.Path, "?")
	page := path == "/auth/devices" || path == "/auth/login" && req.Method != "POST"
	if page && r.Status == 200 || ofProvider(req, r) && strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		csp = pageCSP
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"Content-Security-Policy":      csp,
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		assert.Equal(h, []string{want}, r.Header[http.CanonicalHeaderKey(name)])
	}
	assert.Empty(h, r.Header["Server"])
	if len(r.Body) > 0 {
		want, other := contentTypes[req.Path]
		switch {
		case page:
			want, other = contentTypes[path], true
		case path == "/auth/login":
			other = false
		}
		switch {
		case ofProvider(req, r):
			want = r.Header.Get("Content-Type")
		case r.Status >= 400:
			want = "application/problem+json"
		case !other:
			want = "application/json"
		}
		assert.Equal(h, want, r.Header.Get("Content-Type"))
	}
}
