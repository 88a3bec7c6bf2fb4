package conn

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// Who brings a listener that speaks TLS by itself has the same limits: a handshake that does not end is cut, and a pause between
// two requests may be as long as connections may be idle.
func TestListenerThatIsTLS(t *testing.T) {
	const soon = 100 * time.Millisecond
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	d := &Server{HTTP: &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") }}, Timeouts: Timeouts{Request: soon, Idle: time.Minute}}
	served := make(chan error, 1)
	go func() { served <- d.Serve(tls.NewListener(ln, serverSide), nil, slog.New(slog.DiscardHandler)) }()
	for _, first := range []string{"", "\x16\x03\x01\x02\x00\x01\x00"} {
		conn := connect(t, ln)
		_, err := io.WriteString(conn, first)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err = io.Copy(io.Discard, conn); err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET, "it is closed")
		}
	}
	conn := tls.Client(connect(t, ln), client)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	text := make([]byte, 4096)
	for range 2 {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		n, err := conn.Read(text)
		require.NoError(t, err)
		assert.Contains(t, string(text[:n]), "200 OK")
		time.Sleep(soon * 3 / 2)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
}

// torn is a client's connection that sends only the first bytes of a write, and keeps the rest.
type torn struct {
	net.Conn
	first int // 0: whole
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

// secured is a visitor over TLS after its handshake, with its client, and what carries that one.
func secured(t *testing.T, l Timeouts) (v tlsTrackedConn, client *tls.Conn, below *torn) {
	t.Helper()
	ln := listenLocal(t)
	serverSide, clientSide := localhost(t)
	p := newTestListener(ln)
	p.tls, p.timeouts = serverSide, l
	p.tls.SessionTicketsDisabled = true // nothing comes but what is answered
	below = &torn{Conn: connect(t, ln)}
	client = tls.Client(below, clientSide)
	shaken := make(chan error, 1)
	go func() { shaken <- client.HandshakeContext(t.Context()) }()
	conn, err := p.Accept()
	require.NoError(t, err)
	v, ok := conn.(tlsTrackedConn)
	require.True(t, ok)
	require.NoError(t, v.Handshake())
	require.NoError(t, <-shaken)
	require.False(t, v.wire.received, "a handshake is no part of a request")
	t.Cleanup(func() { _ = v.Close(); _ = p.Close() })
	return v, client, below
}

// OPS-01. A request of which a part has come is a request, though TLS shows nothing of it before it is whole.
func TestCloseIdleKeepsHalfARecord(t *testing.T) {
	for _, kept := range []bool{false, true} {
		v, client, below := secured(t, Timeouts{Request: time.Minute, Idle: time.Minute})
		if kept {
			_, err := io.WriteString(client, "one")
			require.NoError(t, err)
			_, err = v.Read(make([]byte, 10))
			require.NoError(t, err)
			setState(v, fasthttp.StateIdle)
		}
		type result struct {
			text string
			err  error
		}
		read := make(chan result, 1)
		go func() {
			b := make([]byte, 10)
			n, err := v.Read(b)
			read <- result{string(b[:n]), err}
		}()
		below.first = 9
		_, err := io.WriteString(client, "two")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return !hasUnread(v.Conn) }, 10*time.Second, time.Millisecond, "TLS has it")
		v.listener.closeIdle(0)
		select {
		case r := <-read:
			require.Fail(t, "it is let go", "%v", r)
		case <-time.After(20 * time.Millisecond):
		}
		_, err = below.Conn.Write(below.rest)
		require.NoError(t, err)
		r := <-read
		require.NoError(t, r.err)
		assert.Equal(t, "two", r.text)
	}
}

// The time that a handshake and the wait for the first request took is not taken from the answer's.
func TestFirstAnswerHasItsOwnDeadline(t *testing.T) {
	v, client, _ := secured(t, Timeouts{Request: time.Minute})
	require.NotZero(t, v.wire.writes.by)
	_, err := io.WriteString(client, "one")
	require.NoError(t, err)
	_, err = v.Read(make([]byte, 10))
	require.NoError(t, err)
	assert.Zero(t, v.wire.writes.by)
}

// The end of TLS is told, but not by who may not write: another goroutine when the time to leave is over, and one whose client
// takes nothing.
func TestTLSCloseNotify(t *testing.T) {
	l := Timeouts{Request: 50 * time.Millisecond, Idle: time.Minute}
	for name, may := range map[string]struct {
		edit func(tlsTrackedConn)
		word bool
	}{
		"it ends":            {func(tlsTrackedConn) {}, true},
		"the time is over":   {func(v tlsTrackedConn) { v.listener.hardClose.Store(true) }, false},
		"nothing gets there": {func(v tlsTrackedConn) { v.wire.writeFailed = true }, false},
	} {
		v, _, below := secured(t, l)
		may.edit(v)
		require.NoError(t, v.Close())
		require.NoError(t, below.SetReadDeadline(time.Now().Add(20*time.Second)))
		word, err := io.ReadAll(below)
		require.NoError(t, err)
		assert.Equal(t, may.word, len(word) > 0, "%s: %x", name, word)
	}
	v, _, _ := secured(t, l)
	_, err := v.Write(make([]byte, 64<<20))
	require.Error(t, err)
	assert.True(t, v.wire.writeFailed)
}
