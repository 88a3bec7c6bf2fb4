package conn

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Go's HTTP client and browsers open connections in advance, and would take a 408 that comes before they send a request for the
// response to it.
func TestNewConnectionsTimeOutSilently(t *testing.T) {
	ln := listenLocal(t)
	start(t, newServer(Options{RequestTimeout: 500 * time.Millisecond}), ln, nil)
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
