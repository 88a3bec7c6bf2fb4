package openload_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/peers/internal/openload"
)

func serve(t *testing.T, h http.HandlerFunc) openload.Config {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return openload.Config{
		Address: srv.Listener.Addr().String(), Connections: 4, Threads: 1, Rate: 500, WarmUp: 100 * time.Millisecond, Duration: 400 * time.Millisecond,
		Requests: [][]byte{[]byte("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET /b HTTP/1.1\r\nHost: x\r\n\r\n")},
	}
}

func TestFixedRate(t *testing.T) {
	for _, threads := range []int{1, 2} {
		var a, b atomic.Int64
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/a" {
				a.Add(1)
			} else {
				b.Add(1)
			}
			_, _ = w.Write([]byte("hello"))
		})
		c.Threads = threads
		r, err := openload.Run(c)
		require.NoError(t, err)
		assert.EqualValues(t, 200, r.Requests, "those of the warm-up do not count")
		assert.EqualValues(t, 125, a.Load(), "the requests are sent in turn")
		assert.EqualValues(t, 125, b.Load())
		assert.GreaterOrEqual(t, r.Seconds, 0.398, "no request is sent before it is due")
		assert.Positive(t, r.Latency.P50)
		assert.GreaterOrEqual(t, r.Latency.P99, r.Latency.P50)
		assert.GreaterOrEqual(t, r.Latency.Max, r.Latency.P999)
		assert.GreaterOrEqual(t, r.Late.P50, 0.0)
		assert.Greater(t, r.Bytes, 200*int64(len("HTTP/1.1 200 OK\r\n\r\nhello")))
	}
}

// A server that stands still delays the requests that become due meanwhile. Their latency counts from then on, and the
// generator's own error does not contain it.
func TestLatencyCountsFromWhenDue(t *testing.T) {
	var n atomic.Int64
	const still = 300 * time.Millisecond
	c := serve(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 100 {
			time.Sleep(still)
		}
	})
	c.Connections = 1
	r, err := openload.Run(c)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, r.Latency.Max, float64(still.Microseconds()))
	assert.Greater(t, r.Latency.P50, 20_000.0, "most of the requests were due while the server stood still, or waited behind those")
	assert.Greater(t, r.Waited, 0.3)
	assert.Less(t, r.Late.P50, r.Latency.P50/2)
}

func TestErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "is not 200"},
		"no length": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("a"))
			w.(http.Flusher).Flush()
		}, "no Content-Length"},
		"too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			_, _ = w.Write(make([]byte, 10_000))
		}, "longer than 8 KiB"},
		"the connection ends": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "closed a connection"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openload.Run(serve(t, tt.handler))
			assert.ErrorContains(t, err, tt.want)
		})
	}
	c := serve(t, func(http.ResponseWriter, *http.Request) {})
	c.Address = "127.0.0.1:1"
	_, err := openload.Run(c)
	require.ErrorContains(t, err, "connection refused")
	_, err = openload.Run(openload.Config{})
	assert.ErrorContains(t, err, "are needed")
}
