package servertest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// view is the body of login, me and refresh.
type view struct {
	Authenticated *bool   `json:"authenticated"`
	UserID        *string `json:"user_id"`
	Refreshed     *bool   `json:"refreshed"`
	SessionID     *string `json:"session_id"`
}

func (v view) user() string {
	if v.UserID == nil {
		return ""
	}
	return *v.UserID
}

const anonymousView = `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`

func userView(user, id string, refreshed bool) string {
	name, _ := json.Marshal(user)
	return `{"authenticated":true,"user_id":` + string(name) + `,"refreshed":` + strconv.FormatBool(refreshed) + `,"session_id":"` + id + `"}`
}

func (r response) view(t testing.TB) (v view) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.body), &v), r.body)
	return v
}

func (r response) decode(t testing.TB, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.body), into), r.body)
}

// code is the code member of a problem, "" for another answer.
func (r response) code() string {
	var p struct{ Code string }
	if json.Unmarshal([]byte(r.body), &p) != nil {
		return ""
	}
	return p.Code
}

// Answer is how most answers are compared: the status, the problem's code, and what becomes of the cookie.
type answer struct {
	status int
	code   string
	cookie string // "", "set" or "cleared"
}

func (h *harness) answer(r response) answer {
	h.Helper()
	return answer{r.status, r.code(), h.cookieOf(r)}
}

func (h *harness) cookieOf(r response) string {
	h.Helper()
	switch {
	case len(r.header["Set-Cookie"]) == 0:
		return ""
	case h.token(r) != "":
		return "set"
	default:
		return "cleared"
	}
}

// token is what the response's Set-Cookie carries, "" for none or a clear.
func (h *harness) token(r response) string {
	h.Helper()
	lines := r.header["Set-Cookie"]
	if len(lines) == 0 {
		return ""
	}
	require.Len(h, lines, 1)
	c := parseSetCookie(lines[0])
	require.Equal(h, h.name, c.name)
	return c.value
}

// checkAnswer checks what holds for every answer of the server's listeners, whatever the request.
func (h *harness) checkAnswer(listener *wire, req request, r response) {
	h.Helper()
	h.checkHeaders(req, r)
	if h.srv != nil {
		h.checkContract(listener, req, r)
		if r.status >= 400 && req.method != "HEAD" {
			checkProblem(h.T, r)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range r.header["Set-Cookie"] {
		h.checkSetCookie(line)
	}
	for name, lines := range r.header {
		for _, line := range lines {
			assert.False(h, name != "Set-Cookie" && h.holdsToken(line), "a token is in header %s: %s", name, line)
		}
	}
	assert.False(h, h.holdsToken(r.body), "a token is in the body: %s", r.body)
	for _, line := range req.head {
		if value, ok := strings.CutPrefix(line, "Cookie: "); ok && len(value) > 20 {
			assert.NotContains(h, r.body, value, "the request's cookie is in the body")
		}
	}
}

// holdsToken wants mu held.
func (h *harness) holdsToken(text string) bool {
	for _, run := range tokenShaped.FindAllString(text, -1) {
		for i := 0; i+43 <= len(run); i++ {
			if h.issued[run[i:i+43]] {
				return true
			}
		}
	}
	return false
}

// contentTypes are those of the answers that are neither JSON nor a problem.
var contentTypes = map[string]string{
	"/auth/devices":                   "text/html; charset=utf-8",
	"/auth/devices.js":                "text/javascript; charset=utf-8",
	"/auth/devices.css":               "text/css; charset=utf-8",
	"/openapi.yaml":                   "application/yaml",
	"/metrics":                        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
	"/debug/pprof/":                   "text/plain; charset=utf-8",
	"/debug/pprof/goroutine?debug=2":  "text/plain; charset=utf-8",
	"/debug/pprof/heap":               "application/octet-stream",
	"/debug/pprof/trace?seconds=0.01": "application/octet-stream",
}

// The page's policy, to the letter; that of every other answer.
const (
	pageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	noCSP = "default-src 'none'; frame-ancestors 'none'"
)

func (h *harness) checkHeaders(req request, r response) {
	h.Helper()
	assert.LessOrEqual(h, len(r.header["Set-Cookie"]), 1, "Set-Cookie: %q", r.header["Set-Cookie"])
	if h.srv == nil && len(r.header["Set-Cookie"]) == 0 {
		return // another application's answer
	}
	assert.Equal(h, []string{"no-store"}, r.header["Cache-Control"])
	assert.Contains(h, strings.Split(strings.Join(r.header["Vary"], ", "), ", "), "Cookie")
	if h.srv == nil {
		return
	}
	csp := noCSP
	if req.path == "/auth/devices" && r.status == 200 {
		csp = pageCSP
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"Content-Security-Policy":      csp,
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		assert.Equal(h, []string{want}, r.header[http.CanonicalHeaderKey(name)])
	}
	assert.Empty(h, r.header["Server"])
	if len(r.body) > 0 {
		want, other := contentTypes[req.path]
		if r.status >= 400 {
			want = "application/problem+json"
		} else if !other {
			want = "application/json"
		}
		assert.Equal(h, want, r.header.Get("Content-Type"))
	}
}

// checkSetCookie wants mu held.
func (h *harness) checkSetCookie(line string) {
	h.Helper()
	c := parseSetCookie(line)
	assert.Equal(h, h.name, c.name, line)
	var attrs []string
	for _, a := range c.attrs {
		switch name, value, _ := strings.Cut(a, "="); strings.ToLower(name) {
		case "max-age":
			age, err := strconv.Atoi(value)
			assert.NoError(h, err, line)
			assert.Equal(h, c.value == "", age == 0, "a clear, and only a clear, has Max-Age=0: %s", line)
			assert.LessOrEqual(h, age, 400*24*3600, line)
		case "expires":
			assert.Fail(h, "no Set-Cookie has Expires", line)
		default:
			attrs = append(attrs, strings.ToLower(name)+strings.TrimPrefix(a, name))
		}
	}
	slices.Sort(attrs)
	assert.Equal(h, h.attrs, strings.Join(attrs, "; "), line)
	if c.value == "" {
		return
	}
	assert.Regexp(h, `^[A-Za-z0-9_-]{43}$`, c.value)
	// The middleware sends the same token once more where a handler changed a value; the server has no such handler.
	assert.False(h, h.srv != nil && h.issued[c.value], "the token was issued before")
	h.issued[c.value] = true
}

// checkProblem checks the form of an error answer: RFC 9457 with a code.
func checkProblem(t testing.TB, r response) {
	t.Helper()
	assert.Equal(t, "application/problem+json", r.header.Get("Content-Type"), r.body)
	var p struct {
		Type, Title, Code, Detail string
		Status                    int
	}
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if !assert.NoError(t, d.Decode(&p), "%d %s", r.status, r.body) {
		return
	}
	assert.Equal(t, r.status, p.Status)
	assert.NotEmpty(t, p.Type)
	assert.Equal(t, http.StatusText(r.status), p.Title)
	assert.Regexp(t, `^[a-z_]+$`, p.Code)
	assert.NotEmpty(t, p.Detail)
	if r.status == 503 {
		assert.Regexp(t, `^[0-9]+$`, r.header.Get("Retry-After"))
	}
}
