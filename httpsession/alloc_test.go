//go:build !race

// The race detector allocates by itself, so "make test" runs this without it.

package httpsession_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/httpsession"
)

// discarded is a response that nobody reads.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header             { return d.header }
func (*discarded) Write(p []byte) (int, error)       { return len(p), nil }
func (*discarded) WriteHeader(int)                   {}
func (*discarded) WriteString(s string) (int, error) { return len(s), nil }

// An authenticated GET costs the context with the writer, and the copy of the request that has this context.
func TestAllocations(t *testing.T) {
	wrap, err := httpsession.New(newStore(t), httpsession.Config{})
	require.NoError(t, err)
	login := httptest.NewRecorder()
	wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Authenticate("u"))
	})).ServeHTTP(login, httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(httpsession.Get(r).RawUserID())
	})
	get := func(h http.Handler, cookie string, header http.Header) float64 {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody)
		r.Header.Set("Cookie", "theme=dark; "+cookie)
		r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
		w := &discarded{header}
		return testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) })
	}
	cookie := reply{header: login.Header()}.token()
	// Without the middleware Get makes a detached session, which is one allocation.
	bare := get(handler, cookie, http.Header{}) - 1
	assert.Zero(t, bare)
	assert.Equal(t, 2.0, get(wrap(handler), cookie, http.Header{}), "authenticated")
	assert.Equal(t, 2.0, get(wrap(handler), "a=b", http.Header{}), "anonymous")
	assert.Equal(t, 2.0, get(wrap(handler), cookie, http.Header{"X-Request-Id": {"7"}, "Vary": {"Origin", "Accept"}}), "behind other middlewares")
}
