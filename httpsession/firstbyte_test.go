package httpsession_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
)

// The ways in which handlers answer.
var answers = map[string]http.HandlerFunc{
	"nothing":        func(http.ResponseWriter, *http.Request) {},
	"a status":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
	"a body":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) },
	"an empty write": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) },
	"a string":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) },
	"JSON":           func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(body) },
	"an error":       func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, http.StatusTeapot) },
	"a redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/handler", http.StatusSeeOther) },
	"a copy":         func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader(body)) },
	"a long copy": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, onlyReader{strings.NewReader(strings.Repeat(body, 9999))})
	},
	"a file": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "writer_test.go") },
	"content": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(body))
	},
	"a flush":        func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
	"the controller": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
	"an interim status": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	},
	"a trailer": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
		w.Header().Set(http.TrailerPrefix+"X-Late", "handler")
	},
	"a declared trailer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Late")
		_, _ = io.WriteString(w, body)
		w.Header().Set("X-Late", "handler")
	},
	"a status too late": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
		w.WriteHeader(http.StatusAccepted)
	},
	"a stream": func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "data: "+body+"\n\n")
			w.(http.Flusher).Flush()
		}
	},
}

const body = "handler's body"

// onlyReader hides WriteTo from io.Copy.
type onlyReader struct{ io.Reader }

// secured is a middleware around the session's, which sets headers.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Request-Id", "7")
		h["Access-Control-Allow-Origin"] = []string{"https://a.example"}
		h.Add("Set-Cookie", "outer=1")
		h.Add("Set-Cookie", "outer2=2")
		next.ServeHTTP(w, r)
	})
}

// A session whose changes are persisted, whatever the answer is and how it is given; and when they are not, nothing of it leaves.
func TestFirstByte(t *testing.T) {
	problem := `{"type":"about:blank","title":"Service Unavailable","status":503,"code":"store_unavailable",` +
		`"detail":"The session store cannot be reached. What was asked for may have been done all the same."}`
	for version, serve := range map[string]func(*testing.T, http.HandlerFunc, func(http.Handler) http.Handler) *site{"HTTP/1.1": newSite, "HTTP/2": newSite2} {
		for name, answer := range answers {
			t.Run(version+" "+name, func(t *testing.T) {
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					h := w.Header()
					h["Access-Control-Allow-Origin"][0] = "*"
					h.Del("X-Request-Id")
					h.Set("X-Handler", "yes")
					h.Set("Content-Encoding", "identity")
					h.Add("Set-Cookie", "theme=dark")
					assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
					answer(w, r)
				}, secured)
				cookie := s.login("u")
				reply := s.get("/", cookie)
				assert.Equal(t, cookie, reply.token(), "a write sends the token once more")
				assert.Equal(t, "yes", reply.header.Get("X-Handler"))
				assert.Equal(t, []string{"no-store"}, reply.header["Cache-Control"])
				s.shows(cookie, "u new")

				other := s.login("other")
				for op, line := range map[string]string{"Swap": other, "Create": "", "Load": other} {
					s.store.fail(op)
					reply := s.get("/", line)
					s.store.fail()
					assert.Equal(t, 503, reply.status, op)
					assert.Equal(t, problem, reply.body, op)
					reply.header.Del("Date")
					assert.Equal(t, http.Header{
						"X-Request-Id": {"7"}, "Access-Control-Allow-Origin": {"https://a.example"}, "Set-Cookie": {"outer=1", "outer2=2"},
						"Content-Type": {"application/problem+json"}, "Content-Length": {fmt.Sprint(len(problem))},
						"Retry-After": {"1"}, "Cache-Control": {"no-store"}, "Vary": {"Cookie"},
					}, reply.header, op)
				}
				s.shows(other, "other ")
				assert.Contains(t, s.log.String(), "store_error")
			})
		}
	}
}

// What a handler meets that goes on after its answer was replaced.
func TestSwallowed(t *testing.T) {
	done := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
		w.WriteHeader(http.StatusCreated)
		n, err := w.Write([]byte("four"))
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		assert.Zero(t, n)
		n, err = io.WriteString(w, "five5")
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		assert.Zero(t, n)
		source := strings.NewReader(strings.Repeat("x", 100_000))
		long, err := w.(io.ReaderFrom).ReadFrom(source)
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		assert.Zero(t, long)
		w.WriteHeader(http.StatusEarlyHints)
		assert.ErrorIs(t, http.NewResponseController(w).Flush(), coatcheck.ErrUnavailable)
		_, _, err = http.NewResponseController(w).Hijack()
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		assert.Empty(t, httpsession.Get(r).UserID())
		<-r.Context().Done()
	}, nil)
	cookie := s.login("u")
	s.store.fail("Swap")
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Cookie", cookie)
	req.Close = true
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	assert.Equal(t, 503, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), "store_unavailable")
	require.NoError(t, resp.Body.Close())
	<-done
	assert.NotContains(t, s.log.String(), "superfluous")
}

// A reverse proxy behind the middleware aborts its answer for an error of Write, but not the 503.
func TestReverseProxyBehind(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("backend's"), 100_000))
	}))
	t.Cleanup(backend.Close)
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: &http.Transport{DisableKeepAlives: true}}
	s := newSite2(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
		proxy.ServeHTTP(w, r)
	}, nil)
	cookie := s.login("u")
	assert.Len(t, s.get("/", cookie).body, 900_000)
	s.store.fail("Swap")
	answer := s.get("/", cookie)
	assert.Equal(t, 503, answer.status)
	assert.NotContains(t, answer.body, "backend's")
}
