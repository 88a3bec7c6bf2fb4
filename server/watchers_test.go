package server_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/largerequests"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
)

const me = "GET /auth/me HTTP/1.1\r\nHost: x\r\n\r\n"

// watching opens GET /auth/watch for a cookie, and returns the response after its first event.
func watching(t *testing.T, conn net.Conn, cookie string) *http.Response {
	t.Helper()
	_, err := io.WriteString(conn, "GET /auth/watch HTTP/1.1\r\nHost: x\r\nCookie: "+cookie+"\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReaderSize(conn, 1024)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	var first [16]byte
	_, err = io.ReadFull(resp.Body, first[:])
	require.NoError(t, err)
	return resp
}

// begin logs a user in and returns the cookie.
func begin(t *testing.T, address, user string) string {
	t.Helper()
	cookie, status := send(t, http.MethodPost, address, "/auth/login", "", `{"user_id":"`+user+`"}`)
	require.Equal(t, 200, status)
	return cookie
}

// send sends one request and returns the cookie that it was answered with.
func send(t *testing.T, method, address, path, cookie, body string) (set string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(t, resp.Body.Close())
	set, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	return set, resp.StatusCode
}

// A watcher and its connection cost at most 16 KiB, so that 10,000 fit 160 MiB.
func TestCostOfWatchers(t *testing.T) {
	n := 500
	if raceDetector {
		n = 50
	}
	ln := serveOn(t, server.Config{ReadTimeout: time.Hour, IdleTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	var cookies []string
	for i := range n / 10 {
		cookies = append(cookies, begin(t, ln.Addr().String(), "user-"+strconv.Itoa(i)))
	}
	http.DefaultClient.CloseIdleConnections()
	conns := make([]net.Conn, 2*n)
	readers := make([]*bufio.Reader, n)
	none := held()
	for i := range n {
		conns[i] = dial(t, ln)
		readers[i] = bufio.NewReaderSize(conns[i], 1024)
		require.NoError(t, largerequests.RoundTrip(conns[i], readers[i], me))
	}
	idle := held()
	watchers := make([]*http.Response, n)
	for i := range n {
		conns[n+i] = dial(t, ln)
		watchers[i] = watching(t, conns[n+i], cookies[i/10]) //nolint:bodyclose // closed below
	}
	each := (held() - idle) / n
	t.Logf("an idle connection %d bytes, a watcher's %d, both with their client", (idle-none)/n, each)
	if !raceDetector { // which needs memory of its own
		assert.Less(t, each, 16<<10)
	}
	for i, w := range watchers {
		require.NoError(t, conns[n+i].Close()) // before the body, which would be read to its end
		_ = w.Body.Close()
	}
}

// Sessions that end on one node are told of on another, once each, whatever ended them.
func TestWatchersOnTwoNodes(t *testing.T) {
	n := 40
	if more, err := strconv.Atoi(os.Getenv("COATCHECK_WATCHERS")); err == nil {
		n = more
	}
	redis := redistest.Start(t)
	var nodes [2]string
	for i := range nodes {
		store := redistest.Store(t, redisstore.Options{URL: redis.URL()})
		nodes[i] = serveStore(t, store, server.Config{Policy: coatcheck.Policy{MaxPerUser: 2}, Logger: slog.New(slog.DiscardHandler)}).Addr().String()
	}
	here, there := nodes[0], nodes[1]
	ends := []func(user, cookie string){
		func(_, cookie string) {
			_, status := send(t, http.MethodPost, there, "/auth/logout", cookie, "")
			require.Equal(t, 204, status)
		},
		func(user, _ string) {
			_, status := send(t, http.MethodDelete, there, "/auth/sessions", begin(t, there, user), "")
			require.Equal(t, 200, status)
		},
		func(user, _ string) { // beyond the limit; of sessions that began in the same millisecond either may be the oldest
			for began := time.Now().UnixMilli(); time.Now().UnixMilli() == began; {
				runtime.Gosched()
			}
			begin(t, there, user)
			begin(t, there, user)
		},
	}
	var wg sync.WaitGroup
	late := make([]time.Duration, n)
	for i := range n {
		user := "user-" + strconv.Itoa(i)
		cookie := begin(t, here, user)
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", here)
		require.NoError(t, err)
		resp := watching(t, conn, cookie)
		if i%4 == 3 { // stays
			t.Cleanup(func() {
				_ = conn.Close()
				_ = resp.Body.Close()
			})
			continue
		}
		ends[i%4](user, cookie)
		ended := time.Now()
		wg.Go(func() {
			defer conn.Close() //nolint:errcheck // nothing is written any more
			text, err := io.ReadAll(resp.Body)
			late[i] = time.Since(ended)
			assert.NoError(t, err)
			assert.Equal(t, 1, strings.Count(string(text), "event: ended\ndata: {\"reason\":\"ended\"}\n\n"), "%s", text)
		})
	}
	wg.Wait()
	slices.Sort(late)
	t.Logf("half were told within %v, 99 %% within %v", late[n/2], late[n*99/100])
}
