package httpsession_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/httpsession"
)

func csrfKey(c string) []byte { return []byte("canary-csrf-key-" + strings.Repeat(c, 32)) }

func newCSRF(t *testing.T, keys ...[]byte) httpsession.CSRF {
	t.Helper()
	c, err := httpsession.NewCSRF(keys...)
	require.NoError(t, err)
	return c
}

// formSite is an application with a form: GET / answers with a token, and what else asks for / needs one and is answered with what
// the handler finds in the form's field x.
func formSite(t *testing.T, c httpsession.CSRF) *site {
	t.Helper()
	return newSite(t, c.Check(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, c.Token(httpsession.Get(r)))
			return
		}
		_, _ = io.WriteString(w, "done "+r.PostFormValue("x"))
	})).ServeHTTP, nil)
}

// send sends a body of a content type, with header lines as pairs.
func (s *site) send(method, path, cookie, body string, head ...string) reply {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s, err)
	req.Header.Set("Cookie", cookie)
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := s.client.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close() //nolint:errcheck // the body has been read
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return reply{resp.StatusCode, resp.Header, string(text)}
}

const urlencoded = "application/x-www-form-urlencoded"

func TestCSRF(t *testing.T) {
	s := formSite(t, newCSRF(t, csrfKey("a")))
	a, b := s.login("a"), s.login("b")
	token := s.get("/", a).body
	require.Regexp(t, `^[A-Za-z0-9_-]{64}$`, token)
	assert.Empty(t, s.get("/", "").body, "no token without a session")
	post := func(cookie, token string) int { return s.send("POST", "/", cookie, "", "X-CSRF-Token", token).status }
	assert.Equal(t, 200, post(a, token))
	assert.Equal(t, 403, post(b, token), "A's token in B's session")
	assert.Equal(t, 403, post("", token), "without a session")
	assert.Equal(t, 403, post(a, ""))
	for _, variant := range []string{token + "=", token[:63], strings.ToUpper(token), token + token} {
		assert.Equal(t, 403, post(a, variant), variant)
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE", "POST", "PURGE"} {
		assert.Equal(t, 403, s.send(method, "/", a, "").status, method)
		assert.Equal(t, 200, s.send(method, "/", a, "", "X-CSRF-Token", token).status, method)
	}
	for _, method := range []string{"HEAD", "OPTIONS"} {
		assert.Equal(t, 200, s.send(method, "/", a, "").status, method)
	}
	refused := s.send("POST", "/", a, "")
	assert.Contains(t, refused.body, "load the page again")
	assert.Equal(t, 403, post(s.get("/login?user=a", a).token(), token), "a login begins another session")
}

func TestCSRFForms(t *testing.T) {
	s := formSite(t, newCSRF(t, csrfKey("a")))
	cookie := s.login("a")
	token := s.get("/", cookie).body
	multi := func(fields ...string) (contentType, body string) {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		for i := 0; i < len(fields); i += 2 {
			require.NoError(t, w.WriteField(fields[i], fields[i+1]))
		}
		require.NoError(t, w.Close())
		return w.FormDataContentType(), form.String()
	}
	multiType, multiBody := multi("csrf_token", token, "x", "y")
	twiceType, twiceBody := multi("csrf_token", token, "csrf_token", token)
	largeType, largeBody := multi("csrf_token", token, "x", strings.Repeat("y", 1<<20))
	for name, c := range map[string]struct {
		path, contentType, body string
		status                  int
		answer                  string
	}{
		"urlencoded":               {"/", urlencoded, url.Values{"csrf_token": {token}, "x": {"y"}}.Encode(), 200, "done y"},
		"with a charset":           {"/", urlencoded + "; charset=UTF-8", "x=y&csrf_token=" + token, 200, "done y"},
		"multipart":                {"/", multiType, multiBody, 200, "done y"},
		"twice":                    {"/", urlencoded, "csrf_token=" + token + "&csrf_token=" + token, 403, ""},
		"twice in multipart":       {"/", twiceType, twiceBody, 403, ""},
		"from the address":         {"/?csrf_token=" + token, urlencoded, "x=y", 403, ""},
		"both, address first":      {"/?csrf_token=wrong", urlencoded, "x=y&csrf_token=" + token, 200, "done y"},
		"address, multipart":       {"/?csrf_token=" + token, twiceType, twiceBody, 403, ""},
		"text/plain":               {"/", "text/plain", "csrf_token=" + token, 403, ""},
		"JSON":                     {"/", "application/json", `{"csrf_token":"` + token + `"}`, 403, ""},
		"no type":                  {"/", "", "csrf_token=" + token, 403, ""},
		"over 1 MiB":               {"/", urlencoded, "csrf_token=" + token + "&x=" + strings.Repeat("y", 1<<20), 403, ""},
		"multipart, over 1 MiB":    {"/", largeType, largeBody, 403, ""},
		"multipart, cut short":     {"/", multiType, multiBody[:len(multiBody)-10], 403, ""},
		"with a pair that is none": {"/", urlencoded, "%zz&csrf_token=" + token, 200, "done "},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.send("POST", c.path, cookie, c.body, "Content-Type", c.contentType)
			assert.Equal(t, c.status, answer.status)
			if c.answer != "" {
				assert.Equal(t, c.answer, answer.body)
			}
		})
	}
}

// counted is a body that says how much of it was read.
type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// CASES.md, A18: who has no session makes the server read nothing, and who has one at most 1 MiB.
func TestCSRFReadsLittle(t *testing.T) {
	wrap, err := httpsession.New(newStore(t), httpsession.Config{})
	require.NoError(t, err)
	check := wrap(newCSRF(t, csrfKey("a")).Check(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("passed") })))
	w := httptest.NewRecorder()
	wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Authenticate("u"))
	})).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody))
	cookie := reply{header: w.Header()}.token()
	for name, c := range map[string]struct {
		cookie, contentType string
		length              int64
		most                int
	}{
		"no session":                 {"", urlencoded, -1, 0},
		"no session, multipart":      {"", "multipart/form-data; boundary=a", -1, 0},
		"a made-up session":          {cookieName + "=" + strings.Repeat("A", 43), urlencoded, -1, 0},
		"a long one":                 {cookie, urlencoded, 1<<20 + 1, 0},
		"one of no length":           {cookie, urlencoded, -1, 1<<20 + 1},
		"multipart of no length":     {cookie, "multipart/form-data; boundary=a", -1, 1<<20 + 1},
		"one whose length is a lie":  {cookie, urlencoded, 10, 1<<20 + 1},
		"one of another type":        {cookie, "application/octet-stream", -1, 0},
		"one of a type that is none": {cookie, ";", -1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			body := &counted{Reader: endless{}}
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/", body)
			r.ContentLength = c.length
			r.Header.Set("Cookie", c.cookie)
			r.Header.Set("Content-Type", c.contentType)
			w := httptest.NewRecorder()
			check.ServeHTTP(w, r)
			assert.Equal(t, 403, w.Code)
			assert.LessOrEqual(t, body.read, c.most)
		})
	}
}

func TestCSRFKeyRotation(t *testing.T) {
	before, both, after := newCSRF(t, csrfKey("a")), newCSRF(t, csrfKey("b"), csrfKey("a")), newCSRF(t, csrfKey("b"))
	var c httpsession.CSRF
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		c.Check(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, c.Token(httpsession.Get(r)))
		})).ServeHTTP(w, r)
	}, nil)
	cookie := s.login("a")
	token := func(with httpsession.CSRF) string { c = with; return s.get("/", cookie).body }
	post := func(with httpsession.CSRF, token string) int {
		c = with
		return s.send("POST", "/", cookie, "", "X-CSRF-Token", token).status
	}
	old, fresh := token(before), token(both)
	assert.Equal(t, 200, post(both, old))
	assert.Equal(t, 200, post(both, fresh))
	assert.Equal(t, 403, post(before, fresh), "the first key signs")
	assert.Equal(t, 403, post(after, old))
	assert.Equal(t, 200, post(after, fresh))
}

func TestCSRFMistakes(t *testing.T) {
	_, err := httpsession.NewCSRF()
	require.Error(t, err)
	_, err = httpsession.NewCSRF(csrfKey("a"), []byte("canary-short"))
	require.ErrorContains(t, err, "key 2 has 12 bytes")
	assert.NotContains(t, err.Error(), "canary")
	c := newCSRF(t, csrfKey("a"))
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", c, c, c, c), "canary")
}
