package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// Go's HTTP client and browsers open connections in advance, and would take a 408 that comes before they send a request for the
// response to it.
func TestNewConnectionsTimeOutSilently(t *testing.T) {
	t.Parallel()
	ln := listenLocal(t)
	start(t, newServer(Options{RequestTimeout: 6 * time.Second}), ln, nil)
	text, err := io.ReadAll(connect(t, ln))
	require.NoError(t, err)
	assert.Empty(t, string(text))
	slow := connect(t, ln)
	_, err = slow.Write([]byte("GET / HTT"))
	require.NoError(t, err)
	text, err = io.ReadAll(slow)
	require.NoError(t, err)
	assert.Contains(t, string(text), "HTTP/1.1 4", "a client that has begun a request gets a response")
}

// torn is a client's connection that sends the first bytes of a write only, and keeps the rest.
type torn struct {
	net.Conn
	first int // 0: all are sent
	rest  []byte
}

func (c *torn) Write(b []byte) (int, error) {
	if c.first == 0 {
		return c.Conn.Write(b)
	}
	c.rest = append([]byte(nil), b[c.first:]...)
	_, err := c.Conn.Write(b[:c.first])
	return len(b), err
}

// acceptTLS returns a connection over TLS after its handshake, its client, and the connection that the client writes to.
func acceptTLS(t *testing.T, opts Options) (c tlsTrackedConn, client *tls.Conn, below *torn) {
	t.Helper()
	ln := listenLocal(t)
	serverSide, clientSide := localhost(t)
	serverSide.SessionTicketsDisabled = true // the server sends nothing by itself after the handshake
	l := newListener(newServer(opts), ln, serverSide)
	below = &torn{Conn: connect(t, ln)}
	client = tls.Client(below, clientSide)
	shaken := make(chan error, 1)
	go func() { shaken <- client.HandshakeContext(t.Context()) }()
	conn, err := l.Accept()
	require.NoError(t, err)
	c, ok := conn.(tlsTrackedConn)
	require.True(t, ok, "fasthttp must see that it is TLS")
	require.NoError(t, c.Handshake())
	require.NoError(t, <-shaken)
	require.False(t, c.wire.received, "a handshake is no part of a request")
	t.Cleanup(func() { _ = c.Close(); _ = l.Close() })
	return c, client, below
}

// The time that a handshake and the wait for the first request took is not taken from the response's.
func TestFirstResponseHasItsOwnDeadline(t *testing.T) {
	c, client, _ := acceptTLS(t, Options{RequestTimeout: time.Minute})
	require.NotZero(t, c.wire.writes.at)
	_, err := io.WriteString(client, "one")
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 10))
	require.NoError(t, err)
	assert.Zero(t, c.wire.writes.at)
}

// close_notify is sent, except where writing it could block or race.
func TestTLSCloseNotify(t *testing.T) {
	opts := Options{RequestTimeout: time.Minute}
	for name, tt := range map[string]struct {
		edit func(tlsTrackedConn)
		sent bool
	}{
		"closed":            {func(tlsTrackedConn) {}, true},
		"drain was aborted": {func(c tlsTrackedConn) { c.server.abort.Store(true) }, false},
		"a write failed":    {func(c tlsTrackedConn) { c.wire.writeFailed = true }, false},
	} {
		c, _, below := acceptTLS(t, opts)
		tt.edit(c)
		require.NoError(t, c.Close())
		alert, err := io.ReadAll(below)
		require.NoError(t, err)
		assert.Equal(t, tt.sent, len(alert) > 0, "%s: %x", name, alert)
	}
	c, _, _ := acceptTLS(t, opts)
	c.wire.setTimeouts(0, 50*time.Millisecond)
	_, err := c.Write(make([]byte, 64<<20))
	require.Error(t, err)
	assert.True(t, c.wire.writeFailed)
}

// expire makes the deadline of a connection's reads pass.
func expire(t *testing.T, c *trackedConn) {
	t.Helper()
	c.wire.reads.at, c.wire.reads.told = 1, 1
	require.NoError(t, c.wire.SetReadDeadline(time.Unix(1, 0)))
}

// A connection outlasts the idle timeout by a twentieth, and by 100 ms at least, so that a proxy with the same timeout closes first.
func TestIdleTimeoutHasAMargin(t *testing.T) {
	for idle, kept := range map[time.Duration]time.Duration{
		0: 0, time.Second: 1100 * time.Millisecond, time.Minute: 63 * time.Second,
	} {
		ln := listenLocal(t)
		l := newListener(newServer(Options{IdleTimeout: idle}), ln, nil)
		client := connect(t, ln)
		conn, err := l.Accept()
		require.NoError(t, err)
		c := tracked(conn)
		c.activate()
		setState(conn, fasthttp.StateIdle)
		assert.Equal(t, kept, c.wire.reads.timeout)
		require.NoError(t, errors.Join(c.Close(), client.Close(), l.Close()))
	}
}

// A request that has arrived when the time to wait for one is over is answered. It would be lost: its client believes that the
// connection is open.
func TestRequestAtTheIdleDeadline(t *testing.T) {
	serverSide, clientSide := localhost(t)
	for name, state := range map[string]int32{"idle": stateIdle, "new": stateNew} {
		for _, encrypted := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " over TLS"}[encrypted], func(t *testing.T) {
				ln := listenLocal(t)
				l := newListener(newServer(Options{RequestTimeout: time.Minute, IdleTimeout: time.Minute}), ln, nil)
				client := connect(t, ln)
				if encrypted {
					l.tls = serverSide
					client = tls.Client(client, clientSide)
				}
				conn, err := l.Accept()
				require.NoError(t, err)
				c := tracked(conn)
				if encrypted {
					c.tlsHandshake(t, conn, client)
				}
				if state == stateIdle {
					c.activate()
					setState(conn, fasthttp.StateIdle)
				}
				_, err = io.WriteString(client, "two")
				require.NoError(t, err)
				eventually(t, func() bool { return hasUnread(c.Conn) })
				expire(t, c)
				b := make([]byte, 10)
				n, err := c.Read(b)
				require.NoError(t, err)
				assert.Equal(t, "two", string(b[:n]))

				setState(conn, fasthttp.StateIdle)
				expire(t, c)
				_, err = c.Read(b)
				require.ErrorIs(t, err, io.EOF, "nothing has arrived")
				require.NoError(t, c.Close())
				require.NoError(t, l.Close())
			})
		}
	}
}

func (c *trackedConn) tlsHandshake(t *testing.T, conn, client net.Conn) {
	t.Helper()
	shaken := make(chan error, 1)
	go func() { shaken <- client.(*tls.Conn).HandshakeContext(t.Context()) }()
	require.NoError(t, conn.(tlsTrackedConn).Handshake())
	require.NoError(t, <-shaken)
	c.wire.received = false
}

// A client whose connection reached its idle deadline is told so before the server looks away, not after.
func TestIdleDeadlineTellsTheClientAtOnce(t *testing.T) {
	conn, client := accepted(t)
	c := &trackedConn{server: newServer(Options{}), wire: newDeadlineConn(conn)}
	c.Conn = c.wire
	c.state.Store(stateIdle)
	expire(t, c)
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "before Close")
	require.NoError(t, conn.Close())
}

// DOS-03. A request whose chunk extensions have no end is refused, and those before it on its connection take nothing from what it may have.
func TestTooManyBytesAreNotWaitedFor(t *testing.T) {
	ext := strings.Repeat("x", maxReceived-1000)
	kept := postHead + "1;" + ext + "\r\nx\r\n0\r\n\r\n"
	for name, tt := range map[string]struct {
		text     string
		answered int32
	}{
		"an extension":                   {postHead + "1;" + ext + ext, 0},
		"many":                           {postHead + strings.Repeat("1;"+ext[:1000]+"\r\nx\r\n", 2*maxReceived/1000), 0},
		"one behind a pipelined request": {getHead + "Host: x\r\n\r\n" + postHead + "1;" + ext + ext, 1},
		"one of the third request":       {kept + kept + postHead + "1;" + ext + ext, 2},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listenLocal(t)
			s := newServer(Options{}) // no deadline
			var answered atomic.Int32
			failed := make(chan error, 1)
			s.http.Handler = func(*fasthttp.RequestCtx) { answered.Add(1) }
			s.http.ErrorHandler = func(_ *fasthttp.RequestCtx, err error) { failed <- err }
			start(t, s, ln, nil)
			conn := connect(t, ln)
			go func() { _, _ = io.WriteString(conn, tt.text) }() // the server need not read the rest
			select {
			case err := <-failed:
				require.ErrorContains(t, err, errTooManyBytes.Error()) // fasthttp's error hides it from errors.Is
			case <-time.After(patience):
				t.Fatal("the server waits for more")
			}
			assert.Equal(t, tt.answered, answered.Load())
		})
	}
}

// DOS-14. Nor may a client send more than a record later that is no part of a request. What is thrown away has no such bound.
func TestLongTLSMessagesAreRefused(t *testing.T) {
	c, client, below := acceptTLS(t, Options{RequestTimeout: patience})
	b := make([]byte, maxRecord)
	for range 3 {
		_, err := client.Write(make([]byte, 10<<10))
		require.NoError(t, err)
		for read := 0; read < 10<<10; {
			n, err := c.Read(b)
			require.NoError(t, err)
			read += n
		}
		require.Zero(t, c.wire.opaque)
	}
	_, err := below.Write(make([]byte, 3*maxRecord)) // as one that TLS reads and gives nothing of
	require.NoError(t, err)
	read := 0
	for err == nil {
		var n int
		n, err = c.wire.Read(b[:1<<10])
		read += n
	}
	require.ErrorIs(t, err, errOpaque)
	assert.LessOrEqual(t, read, maxRecord+1<<10)
}

// DOS-14. crypto/tls keeps the buffer for a handshake's messages, which may have 64 KiB each.
func TestLongHandshakesAreRefused(t *testing.T) {
	t.Parallel()
	ln := listenLocal(t)
	serverSide, clientSide := localhost(t)
	start(t, newServer(Options{}), ln, serverSide)
	handshake := func(bytes int) error {
		own := clientSide.Clone()
		own.NextProtos = append(slices.Repeat([]string{strings.Repeat("x", 127)}, bytes/128), "http/1.1")
		client := tls.Client(connect(t, ln), own)
		if err := client.HandshakeContext(t.Context()); err != nil {
			return err
		}
		if _, err := io.WriteString(client, getHead+"Host: x\r\n\r\n"); err != nil { // in TLS 1.3 the client's end is done before the server's
			return err
		}
		_, err := client.Read(make([]byte, 1))
		return err
	}
	require.NoError(t, handshake(0))
	require.NoError(t, handshake(maxHandshake-2<<10))
	require.Error(t, handshake(maxHandshake+1<<10))
	require.Error(t, handshake(60<<10))
}
