package conn

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// short is a listener that runs out of file descriptors now and then.
type short struct {
	net.Listener
	mu     sync.Mutex
	errors []error // guarded by mu: what Accept returns first
}

func (s *short) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errors) > 0 {
		err := s.errors[0]
		s.errors = s.errors[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return s.Listener.Accept()
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // it takes no socket filter
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func connect(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newTestListener(ln net.Listener) *listener {
	return newListener(ln, nil, new(ConnLimit), Timeouts{}, slog.New(slog.DiscardHandler))
}

func TestAcceptRetriesWithoutDescriptors(t *testing.T) {
	ln := listenLocal(t)
	p := newTestListener(&short{Listener: ln, errors: []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}})
	connect(t, ln)
	conn, err := p.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Empty(t, p.conns, "a connection that was closed is forgotten")

	other := errors.New("the listener is broken")
	p.Listener.(*short).errors = []error{other}
	_, err = p.Accept()
	require.ErrorIs(t, err, other)
	require.NoError(t, p.Close())
}

// Closing a listener resets what stands in the kernel's queue, which clients believe to be connected.
func TestCloseAcceptsTheBacklog(t *testing.T) {
	ln := listenLocal(t)
	p := newTestListener(ln)
	const n = 3
	for range n {
		connect(t, ln)
	}
	require.NoError(t, p.Close())
	for range n {
		conn, err := p.Accept()
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	_, err := p.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, p.Close(), "twice")
}

// Browsers open connections in advance. One over which nothing ever came holds up no stop.
func TestDrainClosesNewConnections(t *testing.T) {
	d := &Server{HTTP: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}, Timeouts: Timeouts{Request: time.Minute}}
	ln := listenLocal(t)
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln, nil, slog.New(slog.DiscardHandler)) }()
	conn := connect(t, ln)
	require.Eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.open) == 0 {
			return false
		}
		d.open[0].mu.Lock()
		defer d.open[0].mu.Unlock()
		return len(d.open[0].conns) == 1
	}, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
	_, err := conn.Read(make([]byte, 1))
	assert.Error(t, err)
}

// A stop cuts nobody off: who has sent a request before he was told to leave is answered, whatever the scheduler does
// meanwhile, and who has not is told by the end of the connection.
func TestCloseIdle(t *testing.T) {
	ln := listenLocal(t)
	p := newTestListener(ln)
	client := connect(t, ln)
	conn, err := p.Accept()
	require.NoError(t, err)
	v, ok := conn.(*trackedConn)
	require.True(t, ok)
	require.IsType(t, &net.TCPAddr{}, v.RemoteAddr(), "fasthttp's RemoteIP knows no other")
	b := make([]byte, 10)
	arrived := func() bool { return hasUnread(v.Conn) }

	assert.Equal(t, 1, p.closeIdle(time.Minute))
	assert.False(t, v.wire.interrupted.Load(), "it has only just come")

	_, err = client.Write([]byte("one"))
	require.NoError(t, err)
	require.Eventually(t, arrived, 10*time.Second, time.Millisecond)
	p.closeIdle(0)
	assert.False(t, v.wire.interrupted.Load(), "its request is there")
	n, err := v.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "one", string(b[:n]))
	p.closeIdle(0)
	assert.False(t, v.wire.interrupted.Load(), "it is being served")

	setState(v, fasthttp.StateIdle)
	p.closeIdle(0)
	assert.True(t, v.wire.interrupted.Load())
	_, err = client.Write([]byte("two"))
	require.NoError(t, err)
	require.Eventually(t, arrived, 10*time.Second, time.Millisecond)
	n, err = v.Read(b)
	require.NoError(t, err, "the deadline has passed, but a request came first")
	assert.Equal(t, "two", string(b[:n]))

	setState(v, fasthttp.StateIdle)
	p.closeIdle(0)
	_, err = v.Read(b)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, v.Close())
	assert.Zero(t, p.closeIdle(0))
	require.NoError(t, p.Close())
}

// A deaf listener accepts what is open, and lets nobody open more: nobody can come between the last look and closing.
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

// Go's transport and browsers open connections in advance, and would take a 408 that comes before they ask for their answer.
func TestNewConnectionsTimeOutSilently(t *testing.T) {
	d := &Server{HTTP: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}, Timeouts: Timeouts{Request: 20 * time.Millisecond}}
	ln := listenLocal(t)
	served := make(chan error, 1)
	go func() { served <- d.Serve(ln, nil, slog.New(slog.DiscardHandler)) }()
	text, err := io.ReadAll(connect(t, ln))
	require.NoError(t, err)
	assert.Empty(t, string(text))
	slow := connect(t, ln)
	_, err = slow.Write([]byte("GET / HTT"))
	require.NoError(t, err)
	text, err = io.ReadAll(slow)
	require.NoError(t, err)
	assert.Contains(t, string(text), "HTTP/1.1 4", "who has begun is told")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	require.NoError(t, <-served)
}
