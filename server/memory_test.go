package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// largestRequests are requests that each make a server that keeps its buffers keep others: few, as large as they may be, and of
// different shapes.
func largestRequests(maxHeader int) []string {
	const line = "GET /auth/me HTTP/1.1\r\nHost: x\r\n"
	room := maxHeader - 200
	short := "GET /auth/me HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 127) + "\r\n"
	all := []string{
		short,
		line + "Cookie: " + strings.Repeat("a=;", room/3) + "\r\n\r\n",
		"DELETE /auth/sessions?" + strings.Repeat("&a", room/2) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /" + strings.Repeat("x", room) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		line + "User-Agent: " + strings.Repeat("x", room) + "\r\n\r\n",
		line + "Trailer: " + strings.Repeat("a,b,", room/4) + "c\r\n\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a:\r\n", 128) + "\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: " + strings.Repeat("x", room) + "\r\n\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 16384\r\n\r\n" + strings.Repeat("x", 16<<10),
		"OPTIONS /auth/me HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: " +
			"GET\r\nAccess-Control-Request-Headers: " + strings.Repeat("x", room) + "\r\n\r\n",
	}
	for i := range 16 { // each makes another line the long one, the last of them by its name
		all = append(all, line+strings.Repeat("a:\r\n", i)+"b: "+strings.Repeat("x", room-4*i)+"\r\n\r\n", line+strings.Repeat("a:\r\n", i)+strings.Repeat("x", room-4*i)+":\r\n\r\n")
	}
	for i := range 60 { // the same with lines that are not large one by one
		all = append(all, line+strings.Repeat("a:\r\n", i)+"b: "+strings.Repeat("x", 1000-4*i)+"\r\n\r\n")
	}
	return append(all, strings.Repeat(small, 3))
}

const small = "GET /auth/me HTTP/1.1\r\nHost: x\r\n\r\n"

// held is the memory that the process holds: its heap after a collection, and its stacks.
func held() int {
	for range 3 { // what is in a sync.Pool goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// DOS-14. Connections that have sent the largest requests that they may, and then small ones, hold less than 64 KiB each. With a
// larger --max-header they do not hold more.
func TestMemoryOfConnections(t *testing.T) {
	const bound = 64 << 10
	for _, maxHeader := range []int{8 << 10, 64 << 10} {
		t.Run(fmt.Sprint(maxHeader), func(t *testing.T) {
			n := 60
			if raceDetector {
				n = 20
			}
			if more, err := strconv.Atoi(os.Getenv("COATCHECK_CONNECTIONS")); err == nil {
				n = more
			}
			ln := serveOn(t, server.Config{MaxHeader: maxHeader, ReadTimeout: time.Hour, IdleTimeout: time.Hour, TrustedOrigins: []string{"https://app.example"}})
			requests := largestRequests(maxHeader)
			conns, readers := make([]net.Conn, n), make([]*bufio.Reader, n)
			before := held()
			for i := range conns {
				conns[i] = dial(t, ln)
				readers[i] = bufio.NewReaderSize(conns[i], 512)
			}
			for i := range conns {
				require.NoError(t, roundTrip(conns[i], readers[i], small))
			}
			t.Logf("%d bytes a connection that has sent a small request, its client's included", (held()-before)/n)
			var all sync.WaitGroup
			for worker := range 8 {
				all.Go(func() {
					for i := worker; i < n; i += 8 {
						for _, text := range requests {
							if !assert.NoError(t, roundTrip(conns[i], readers[i], text), "%.100q", text) {
								return
							}
						}
					}
				})
			}
			all.Wait()
			require.False(t, t.Failed())
			each := (held() - before) / n
			t.Logf("%d bytes a connection", each)
			assert.Less(t, each, bound)
			for i := range conns {
				require.NoError(t, roundTrip(conns[i], readers[i], small), "all are open")
			}
		})
	}
}

// roundTrip sends requests and reads as many answers.
func roundTrip(conn net.Conn, in *bufio.Reader, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	for range max(1, strings.Count(text, "\r\n\r\nGET")+1) {
		length := 0
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, "Content-Length: ") {
				_, _ = fmt.Sscan(line[16:], &length)
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := in.Discard(length); err != nil {
			return err
		}
	}
	return nil
}

// serveOn serves the public API of a new server until the test ends, and returns its listener.
func serveOn(t *testing.T, cfg server.Config) net.Listener {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	return serveStore(t, store, cfg)
}

// serveStore is serveOn over a store of the caller's, which it closes in the end.
func serveStore(t *testing.T, store coatcheck.Store, cfg server.Config) net.Listener {
	t.Helper()
	cfg.Login = login.Open{}
	s, err := server.New(store, cfg)
	require.NoError(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing has to be drained
		_ = s.Shutdown(ctx)
		assert.NoError(t, <-served)
		assert.NoError(t, store.Close())
	})
	return ln
}

// dial opens a connection that is closed when the test ends.
func dial(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Minute)))
	return conn
}
