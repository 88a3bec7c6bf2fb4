package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/largerequests"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/shardstore"
)

// traffic tells when a server has read all that its clients have sent.
type traffic struct {
	sent, received atomic.Int64 // bytes
	waiting        atomic.Int64 // the server's connections in a Read
	open           atomic.Int64 // the server's connections
}

// quiet looks at what was received first; see Read.
func (t *traffic) quiet(conns int) bool {
	return t.received.Load() == t.sent.Load() && t.waiting.Load() == int64(conns)
}

// seenListener gives the server connections whose reads are counted.
type seenListener struct {
	net.Listener
	traffic *traffic
}

func (l seenListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.traffic.open.Add(1)
	return &seenConn{Conn: conn, traffic: l.traffic}, nil
}

type seenConn struct {
	net.Conn
	traffic *traffic
	closed  atomic.Bool
}

func (c *seenConn) Close() error {
	if !c.closed.Swap(true) {
		c.traffic.open.Add(-1)
	}
	return c.Conn.Close()
}

func (c *seenConn) Read(b []byte) (int, error) {
	c.traffic.waiting.Add(1)
	n, err := c.Conn.Read(b)
	c.traffic.waiting.Add(-1)
	c.traffic.received.Add(int64(n)) // at last, so that a connection that has all is not seen waiting before it has read that
	return n, err
}

// sender counts what a client writes.
type sender struct {
	net.Conn
	traffic *traffic
}

func (c sender) Write(b []byte) (int, error) {
	c.traffic.sent.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// largestUnfinished are requests that are as large as they may be, in as many lines and chunks as possible, without their ends.
func largestUnfinished() map[string]string {
	lines := func(n int) string { // 7,900 bytes in all
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "ab%03d: %s\r\n", i, strings.Repeat("x", 7900/n-9))
		}
		return b.String()
	}
	begin := "POST /auth/login HTTP/1.1\r\nHost: x\r\n" + lines(120)
	chunked := begin + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 16383)
	return map[string]string{
		"headers":  begin,
		"a body":   begin + "Content-Length: 16384\r\n\r\n" + strings.Repeat("x", 16383),
		"chunks":   chunked,
		"trailers": chunked + "0\r\n" + lines(126),
	}
}

// DOS-14. The largest requests hold less than 128 KiB each when all but their ends have arrived, and over TLS, which has buffers of its own for a
// record, less than 192 KiB.
func TestMemoryOfLargestRequestsInFlight(t *testing.T) {
	conf, older, newer := tlsConfigs(t)
	longHello := older.Clone()
	longHello.NextProtos = append(longProtocols(), "http/1.1")
	growing := []string{postOf(15500), postOf(16300)} // a buffer that is a little too small is doubled
	for _, tt := range []struct {
		over   string
		client *tls.Config // nil: plain
		before []string
		bound  int
	}{
		{"plain", nil, nil, 128 << 10},
		{"TLS 1.3", newer, nil, 192 << 10},
		{"TLS 1.2, a long hello, growing", longHello, growing, 192 << 10},
	} {
		for name, text := range largestUnfinished() {
			t.Run(tt.over+", "+name, func(t *testing.T) {
				each := heldInFlight(t, conf, tt.client, tt.before, text)
				t.Logf("%d bytes a request, its client's socket included", each)
				assert.Less(t, each, tt.bound)
			})
		}
	}
}

// heldInFlight returns how many bytes each of some connections holds that have sent the requests before and then the text, when the server
// waits for more. They are over TLS if client is not nil.
func heldInFlight(t *testing.T, conf, client *tls.Config, before []string, text string) int {
	t.Helper()
	n := 50
	if raceDetector {
		n = 12
	}
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	seen := new(traffic)
	ln := serve(t, store, server.Config{ReadTimeout: time.Hour, IdleTimeout: time.Hour}, func(s *server.Server, ln net.Listener) error {
		if client == nil {
			return s.Serve(seenListener{ln, seen})
		}
		return s.ServeTLS(seenListener{ln, seen}, conf)
	})
	conns := make([]net.Conn, n)
	was := held()
	for i := range conns {
		conns[i] = dial(t, ln)
		var conn net.Conn = sender{conns[i], seen}
		if client != nil {
			conn = tls.Client(conn, client)
		}
		in := bufio.NewReaderSize(conn, 512)
		for _, text := range before {
			require.NoError(t, largerequests.RoundTrip(conn, in, text))
		}
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return seen.quiet(n) }, time.Minute, time.Millisecond)
	each := (held() - was) / n
	require.True(t, seen.quiet(n), "no request was answered meanwhile")
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return seen.open.Load() == 0 }, time.Minute, time.Millisecond, "or the next measurement begins with these")
	return each
}
