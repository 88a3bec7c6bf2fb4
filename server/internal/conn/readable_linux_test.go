package conn

import (
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const smallRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

// awaiting returns how many goroutines wait for a socket before they look at it.
func awaiting() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "conn.(*readable).await(")
}

// justRead makes the last read of a connection less than a second ago, however slow the machine is.
func justRead(c *deadlineConn) { c.reads.from.Store(math.MaxInt64) }

// exchange makes a request and reads the answer.
func exchange(t *testing.T, client net.Conn) {
	t.Helper()
	_, err := io.WriteString(client, smallRequest)
	require.NoError(t, err)
	b := make([]byte, 1<<10)
	n, err := client.Read(b)
	require.NoError(t, err)
	require.Contains(t, string(b[:n]), "200 OK")
}

// A connection waits for its next request without a read that finds nothing, is served when the request comes, and ends
// with the server.
func TestIdleConnectionsAwaitTheirNextRequest(t *testing.T) {
	ln := listenLocal(t)
	stop := start(t, newServer(Options{RequestTimeout: time.Minute, IdleTimeout: time.Minute}), ln, nil)
	client := connect(t, ln)
	for range 3 {
		eventually(t, func() bool { // it looks first if the last request was more than a second ago
			exchange(t, client)
			return awaiting() == 1
		})
	}
	stop()
	_, err := client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Zero(t, awaiting())
}

// A connection without a timeout does not wait so: nothing would let it look again.
func TestConnectionsWithoutTimeoutLookFirst(t *testing.T) {
	conn, client := accepted(t)
	c := newDeadlineConn(conn)
	for timeout, awaits := range map[time.Duration]bool{0: false, time.Minute: true} {
		for read, drained := range map[int]bool{2: true, 1: false} { // of what fits a buffer of that size nobody knows whether it was all
			_, err := client.Write(make([]byte, 1))
			require.NoError(t, err)
			_, err = c.Read(make([]byte, read))
			require.NoError(t, err)
			c.setTimeouts(timeout, timeout)
			c.awaitNext()
			assert.Equal(t, awaits && drained, c.awaits, "timeout %v, buffer of %d bytes", timeout, read)
			c.setTimeouts(time.Minute, time.Minute)
			assert.False(t, c.awaits, "a request has begun: a handler may take the connection")
		}
	}
	require.NoError(t, c.Close())
}

// A connection over which little is said is not woken for each request: the poller has its idle timeout.
func TestSparseConnectionsLookFirst(t *testing.T) {
	conn, client := accepted(t)
	c := newDeadlineConn(conn)
	c.setTimeouts(time.Hour, time.Hour)
	for range 3 {
		_, err := client.Write(make([]byte, 1))
		require.NoError(t, err)
		c.reads.from.Store(math.MinInt64 / 2)
		_, err = c.Read(make([]byte, 2))
		require.NoError(t, err)
		c.setTimeouts(time.Hour, time.Hour)
		c.awaitNext()
		require.True(t, c.awaits)
	}
	assert.Greater(t, c.reads.told, time.Since(epoch)+time.Hour/2)
	require.NoError(t, c.Close())
}

// Go's poller reports bytes and the end of the stream once if they come together. The end is seen nevertheless, long before the idle
// timeout.
func TestEndThatCameWithTheRequestIsSeen(t *testing.T) {
	ln := listenLocal(t)
	start(t, newServer(Options{RequestTimeout: time.Hour, IdleTimeout: time.Hour}), ln, nil)
	var clients []net.Conn
	for range 20 {
		client := connect(t, ln)
		exchange(t, client)
		_, err := io.WriteString(client, smallRequest)
		require.NoError(t, err)
		require.NoError(t, client.(*net.TCPConn).CloseWrite())
		clients = append(clients, client)
	}
	for _, client := range clients {
		answer, err := io.ReadAll(client)
		require.NoError(t, err)
		assert.Contains(t, string(answer), "200 OK")
	}
}

// Whoever closes a connection does not wait for its next request.
func TestCloseOfAConnectionThatAwaits(t *testing.T) {
	conn, client := accepted(t)
	c := newDeadlineConn(conn)
	_, err := client.Write(make([]byte, 1))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 2))
	require.NoError(t, err)
	c.setTimeouts(time.Hour, time.Hour)
	c.awaitNext()
	justRead(c)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		failed <- err
	}()
	eventually(t, func() bool { return awaiting() == 1 })
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-failed, net.ErrClosed)
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}
