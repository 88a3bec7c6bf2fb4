package httpcontract

import (
	"cmp"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// View is the body of login, me and refresh.
type View struct {
	Authenticated *bool   `json:"authenticated"`
	UserID        *string `json:"user_id"`
	Refreshed     *bool   `json:"refreshed"`
	SessionID     *string `json:"session_id"`
}

// User returns the view's user, "" for an anonymous view.
func (v View) User() string {
	if v.UserID == nil {
		return ""
	}
	return *v.UserID
}

// AnonymousView is the view of a request without a session.
const AnonymousView = `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`

// UserView returns the view of a user's session.
func UserView(user, id string, refreshed bool) string {
	name, _ := json.Marshal(user)
	return `{"authenticated":true,"user_id":` + string(name) + `,"refreshed":` + strconv.FormatBool(refreshed) + `,"session_id":"` + id + `"}`
}

// View returns the body as a view.
func (r Response) View(t testing.TB) (v View) {
	t.Helper()
	r.Decode(t, &v)
	return v
}

// Decode decodes the body, which must be JSON.
func (r Response) Decode(t testing.TB, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.Body), into), r.Body)
}

// Code returns the code member of a problem, "" for another answer.
func (r Response) Code() string {
	var p struct{ Code string }
	if json.Unmarshal([]byte(r.Body), &p) != nil {
		return ""
	}
	return p.Code
}

// Answer is the part of a response that most rules compare: the status, the problem's code, and what happens to the cookie.
type Answer struct {
	Status int
	Code   string
	Cookie string // "", "set" or "cleared"
}

// Answer returns what most rules compare of a response.
func (h *Harness) Answer(r Response) Answer {
	h.Helper()
	return Answer{Status: r.Status, Code: r.Code(), Cookie: h.CookieOf(r)}
}

// CookieOf returns what happens to the session cookie: "", "set" or "cleared".
func (h *Harness) CookieOf(r Response) string {
	h.Helper()
	switch {
	case len(h.sessionLines(r)) == 0:
		return ""
	case h.Token(r) != "":
		return "set"
	default:
		return "cleared"
	}
}

// Token returns the token that the response's Set-Cookie carries, "" if there is none or it clears the cookie.
func (h *Harness) Token(r Response) string {
	h.Helper()
	lines := h.sessionLines(r)
	if len(lines) == 0 {
		return ""
	}
	require.Len(h, lines, 1)
	c := ParseSetCookie(lines[0])
	require.Equal(h, h.CookieName, c.Name)
	return c.Value
}

// sessionLines returns the response's Set-Cookie lines of the session cookie: all but those of the name cookie.
func (h *Harness) sessionLines(r Response) (lines []string) {
	for _, line := range r.Header["Set-Cookie"] {
		name, _, _ := strings.Cut(line, "=")
		if name != h.CookieName+"-name" && (h.Beside == nil || !h.Beside(name)) {
			lines = append(lines, line)
		}
	}
	return lines
}

var maxAgeIn = regexp.MustCompile(`Max-Age=(\d+)`)

// MaxAge returns the Max-Age of the response's only cookie.
func (h *Harness) MaxAge(r Response) time.Duration {
	h.Helper()
	lines := h.sessionLines(r)
	require.Len(h, lines, 1)
	m := maxAgeIn.FindStringSubmatch(lines[0])
	require.NotNil(h, m)
	seconds, err := strconv.Atoi(m[1])
	require.NoError(h, err)
	return time.Duration(seconds) * time.Second
}

// CheckAnswer checks what must hold for every answer of an application with a session middleware: the form of its cookie,
// that no cache keeps a response with one, and that no token stands anywhere else.
func (h *Harness) CheckAnswer(req Request, r Response) {
	h.Helper()
	assert.LessOrEqual(h, len(h.sessionLines(r)), 1, "Set-Cookie: %q", r.Header["Set-Cookie"])
	h.checkNameLines(r)
	if len(r.Header["Set-Cookie"]) > 0 {
		h.CheckPrivate(r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.sessionLines(r) {
		h.checkSetCookie(line)
	}
	for name, lines := range r.Header {
		for _, line := range lines {
			assert.False(h, name != "Set-Cookie" && h.holdsToken(line), "a token is in header %s: %s", name, line)
		}
	}
	assert.False(h, h.holdsToken(r.Body), "a token is in the body: %s", r.Body)
	for _, line := range req.Head {
		if value, ok := strings.CutPrefix(line, "Cookie: "); ok && len(value) > 20 {
			assert.NotContains(h, r.Body, value, "the request's cookie is in the body")
		}
	}
}

// CheckPrivate checks that no cache may keep the response.
func (h *Harness) CheckPrivate(r Response) {
	h.Helper()
	assert.Equal(h, []string{"no-store"}, r.Header["Cache-Control"])
	assert.Contains(h, strings.Split(strings.Join(r.Header["Vary"], ", "), ", "), "Cookie")
}

// holdsToken reports whether a text contains a token that was issued. The caller holds mu.
func (h *Harness) holdsToken(text string) bool {
	for run := range tokenShaped(text) {
		if h.issued[run] {
			return true
		}
	}
	return false
}

// checkSetCookie checks one Set-Cookie line. The caller holds mu.
func (h *Harness) checkSetCookie(line string) {
	h.Helper()
	c := ParseSetCookie(line)
	assert.Equal(h, h.CookieName, c.Name, line)
	var attrs []string
	for _, a := range c.Attrs {
		switch name, value, _ := strings.Cut(a, "="); strings.ToLower(name) {
		case "max-age":
			age, err := strconv.Atoi(value)
			assert.NoError(h, err, line)
			assert.Equal(h, c.Value == "", age == 0, "a clear, and only a clear, has Max-Age=0: %s", line)
			assert.LessOrEqual(h, age, 400*24*3600, line)
		case "expires":
			assert.Fail(h, "no Set-Cookie has Expires", line)
		default:
			attrs = append(attrs, strings.ToLower(name)+strings.TrimPrefix(a, name))
		}
	}
	slices.Sort(attrs)
	assert.Equal(h, h.CookieAttrs, strings.Join(attrs, "; "), line)
	if c.Value == "" {
		return
	}
	assert.Regexp(h, `^[A-Za-z0-9_-]{43}$`, c.Value)
	assert.False(h, !h.Repeats && h.issued[c.Value], "the token was issued before")
	h.issued[c.Value] = true
}

// phrase is the status phrase of RFC 9110.
func phrase(status int) string {
	newer := map[int]string{413: "Content Too Large", 422: "Unprocessable Content"}
	return cmp.Or(newer[status], http.StatusText(status))
}

// CheckProblem checks the form of an error answer: RFC 9457 with a code.
func CheckProblem(t testing.TB, r Response) {
	t.Helper()
	assert.Equal(t, "application/problem+json", r.Header.Get("Content-Type"), r.Body)
	var p struct {
		Type, Title, Code, Detail string
		Status                    int
	}
	d := json.NewDecoder(strings.NewReader(r.Body))
	d.DisallowUnknownFields()
	if !assert.NoError(t, d.Decode(&p), "%d %s", r.Status, r.Body) {
		return
	}
	assert.Equal(t, r.Status, p.Status)
	assert.NotEmpty(t, p.Type)
	assert.Equal(t, phrase(r.Status), p.Title)
	assert.Regexp(t, `^[a-z_]+$`, p.Code)
	assert.NotEmpty(t, p.Detail)
	if r.Status == 503 {
		assert.Regexp(t, `^[0-9]+$`, r.Header.Get("Retry-After"))
	}
}
