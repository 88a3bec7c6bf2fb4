package conn

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// Closing a listener resets the connections in the kernel's accept backlog, which their clients believe to be open.
func TestCloseAcceptsTheBacklog(t *testing.T) {
	ln := listenLocal(t)
	l := newListener(newServer(Options{}), ln, nil)
	const n = 3
	for range n {
		connect(t, ln)
	}
	require.NoError(t, l.Close())
	for range n {
		conn, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, l.Close(), "twice")
}

func TestBacklogOverTLS(t *testing.T) {
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	l := newListener(newServer(Options{}), ln, serverSide)
	waiting := connect(t, ln)
	require.NoError(t, l.Close())
	conn, err := l.Accept()
	require.NoError(t, err)
	secure, ok := conn.(tlsConn)
	require.True(t, ok, "fasthttp must see that it is TLS")
	done := make(chan error, 1)
	go func() { done <- secure.Handshake() }()
	require.NoError(t, tls.Client(waiting, client).HandshakeContext(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, conn.Close())
}

// A backlog that nobody accepts, because Accept had failed before, is closed and not tracked.
func TestDrainClosesABacklogThatNobodyAccepts(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{})
	require.ErrorIs(t, s.Serve(&failing{Listener: ln, errors: []error{errBroken}}), errBroken)
	s.listeners[0].Listener = ln // a TCP listener, whose backlog can be accepted
	client := connect(t, ln)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, s.drain(ctx))
	_, err := client.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Empty(t, s.open)
}

// Browsers open connections in advance. Those over which nothing was received do not hold up draining.
func TestDrainClosesNewConnections(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{RequestTimeout: time.Minute})
	stop := start(t, s, ln, nil)
	conn := connect(t, ln)
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open) == 1
	})
	stop()
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// A server that was drained before it serves closes the listener.
func TestServeAfterDrain(t *testing.T) {
	s := newServer(Options{})
	require.NoError(t, Drain(t.Context(), s))
	ln := listenLocal(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		require.NoError(t, err)
	case <-time.After(patience):
		require.NoError(t, ln.Close())
		require.Fail(t, "it serves")
	}
	_, err := ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

// A connection whose request arrives before it is closed, or at the same moment, goes on. Others read io.EOF.
func TestCloseIdle(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{})
	l := newListener(s, ln, nil)
	client := connect(t, ln)
	conn, err := l.Accept()
	require.NoError(t, err)
	c := tracked(conn)
	require.NotNil(t, c)
	require.IsType(t, &net.TCPAddr{}, c.RemoteAddr(), "fasthttp's RemoteIP knows no other type")
	arrived := func() bool { return hasUnread(c.Conn) }
	send := func(text string) {
		t.Helper()
		_, err := io.WriteString(client, text)
		require.NoError(t, err)
		eventually(t, arrived)
	}
	b := make([]byte, 10)
	read := func(want string) {
		t.Helper()
		n, err := c.Read(b)
		require.NoError(t, err)
		assert.Equal(t, want, string(b[:n]))
	}

	assert.Equal(t, 1, s.closeIdle(time.Minute))
	assert.False(t, c.wire.interrupted.Load(), "it is new")

	send("one")
	s.closeIdle(0)
	assert.False(t, c.wire.interrupted.Load(), "a request has arrived")
	read("one")
	s.closeIdle(0)
	assert.False(t, c.wire.interrupted.Load(), "it is active")

	setState(c, fasthttp.StateIdle)
	s.closeIdle(0)
	assert.True(t, c.wire.interrupted.Load())
	send("two")
	read("two") // although the deadline has passed

	setState(c, fasthttp.StateIdle)
	s.closeIdle(0)
	_, err = c.Read(b)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, c.Close())
	assert.Zero(t, s.closeIdle(0))
	require.NoError(t, l.Close())
}

// OPS-01. A connection that has received a part of a TLS record is not closed, although TLS returns nothing before the whole.
func TestCloseIdleKeepsHalfARecord(t *testing.T) {
	for name, idle := range map[string]bool{"new": false, "idle": true} {
		t.Run(name, func(t *testing.T) {
			c, client, below := acceptTLS(t, Options{RequestTimeout: time.Minute, IdleTimeout: time.Minute})
			if idle {
				_, err := io.WriteString(client, "one")
				require.NoError(t, err)
				_, err = c.Read(make([]byte, 10))
				require.NoError(t, err)
				setState(c, fasthttp.StateIdle)
			}
			type result struct {
				text string
				err  error
			}
			read := make(chan result, 1)
			go func() {
				b := make([]byte, 10)
				n, err := c.Read(b)
				read <- result{string(b[:n]), err}
			}()
			below.first = 9
			_, err := io.WriteString(client, "two")
			require.NoError(t, err)
			eventually(t, func() bool {
				c.server.closeIdle(0)
				return c.state.Load() == stateActive || len(read) > 0
			}, "TLS has read the part, and reads on")
			for range 20 { // draining looks again and again
				c.server.closeIdle(0)
			}
			_, err = below.Conn.Write(below.rest)
			require.NoError(t, err)
			r := <-read
			require.NoError(t, r.err)
			assert.Equal(t, "two", r.text)
		})
	}
}

// A listener that drops SYNs still accepts the connections that were made before.
func TestDropSYNs(t *testing.T) {
	ln := listenLocal(t)
	before := connect(t, ln)
	if !dropSYNs(ln) {
		require.NotEqual(t, "linux", runtime.GOOS)
		t.Log("no socket filters on " + runtime.GOOS)
	} else {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		_, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, "neither accepted nor refused")
		assert.True(t, timeout.Timeout())
	}
	conn, err := ln.Accept()
	require.NoError(t, err)
	_, err = before.Write([]byte("x"))
	require.NoError(t, err)
	n, err := conn.Read(make([]byte, 1))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, conn.Close())
	require.NoError(t, ln.Close())
}
