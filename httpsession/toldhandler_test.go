package httpsession_test

import (
	"context"
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
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// lastingHandlers answer until they are stopped.
func lastingHandlers(t *testing.T) map[string]http.HandlerFunc {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, endless{}) }))
	t.Cleanup(backend.Close)
	target, err := url.Parse(backend.URL)
	require.NoError(t, err)
	return map[string]http.HandlerFunc{
		"events": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			assert.ErrorIs(t, context.Cause(r.Context()), coatcheck.ErrUnavailable)
		},
		"what began before": func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			_, _ = io.WriteString(w, "body")
			<-ctx.Done()
			assert.ErrorIs(t, ctx.Err(), context.Canceled)
			assert.ErrorIs(t, r.Context().Err(), context.Canceled)
		},
		"writes": func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for err == nil {
				_, err = w.Write([]byte("more"))
			}
			assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		},
		"a copy": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.Copy(w, endless{})
			assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
		},
		"a reverse proxy": (&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: &http.Transport{DisableKeepAlives: true},
		}).ServeHTTP,
	}
}

// A handler whose answer was replaced by the 503 is told to end, so that the answer ends over HTTP/2, too, and the next request of
// its client is answered.
func TestLastingHandlerIsTold(t *testing.T) {
	for version, serve := range map[string]func(*testing.T, http.HandlerFunc, func(http.Handler) http.Handler) *site{"HTTP/1.1": newSite, "HTTP/2": newSite2} {
		for name, handler := range lastingHandlers(t) {
			t.Run(version+" "+name, func(t *testing.T) {
				ended := make(chan struct{})
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					defer close(ended)
					assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
					handler(w, r)
				}, nil)
				cookie := s.login("u")
				s.store.fail("Swap")
				answer := s.get("/", cookie)
				assert.Equal(t, 503, answer.status)
				assert.Contains(t, answer.body, "store_unavailable")
				assert.True(t, strings.HasSuffix(answer.body, "}"), answer.body)
				await(t, ended)
				s.store.fail()
				s.shows(cookie, "u ")
			})
		}
	}
}

// One that does not heed that keeps nobody waiting over HTTP/1.1.
func TestDeafHandler(t *testing.T) {
	end := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
		_, _ = io.WriteString(w, "body")
		<-end
	}, nil)
	t.Cleanup(func() { close(end) }) // before the server waits for it
	cookie := s.login("u")
	s.store.fail("Swap")
	assert.Equal(t, 503, s.get("/", cookie).status)
	s.store.fail()
	s.shows(cookie, "u ")
}

// A handler that has returned costs its client no connection.
func TestFailureKeepsTheConnection(t *testing.T) {
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
	}, nil)
	cookie := s.login("u")
	s.store.fail("Swap")
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Cookie", cookie)
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 503, resp.StatusCode)
	assert.False(t, resp.Close)
}

// Any other panic than an abort goes on to what is around the middleware.
func TestPanicAfterTheFailure(t *testing.T) {
	recovered := make(chan any, 1)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", "new"))
		_, err := io.WriteString(w, "body")
		panic(err)
	}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil {
					recovered <- p
				}
			}()
			next.ServeHTTP(w, r)
		})
	})
	cookie := s.login("u")
	s.store.fail("Swap")
	assert.Equal(t, 503, s.get("/", cookie).status)
	assert.Equal(t, coatcheck.ErrUnavailable, await(t, recovered))
}

// await receives from a channel.
func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(httpcontract.Patience):
		require.Fail(t, "nothing came")
	}
	return v
}
