package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
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

func quietPorch(ln net.Listener) *porch {
	return newPorch(ln, nil, new(guests), slog.New(slog.DiscardHandler))
}

func TestShortageIsWaitedOut(t *testing.T) {
	ln := listenLocal(t)
	p := quietPorch(&short{Listener: ln, errors: []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}})
	connect(t, ln)
	conn, err := p.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	assert.Empty(t, p.visitors, "a connection that was closed is forgotten")

	other := errors.New("the listener is broken")
	p.Listener.(*short).errors = []error{other}
	_, err = p.Accept()
	require.ErrorIs(t, err, other)
	require.NoError(t, p.Close())
}

// Closing a listener resets what stands in the kernel's queue, which clients believe to be connected.
func TestCloseHandsOutTheQueue(t *testing.T) {
	ln := listenLocal(t)
	p := quietPorch(ln)
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
func TestUnusedConnectionsAreSentHome(t *testing.T) {
	d := &door{srv: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}, ReadTimeout: time.Minute}}
	ln := listenLocal(t)
	served := make(chan error, 1)
	go func() { served <- d.serve(ln, nil, slog.New(slog.DiscardHandler)) }()
	conn := connect(t, ln)
	require.Eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.open) == 0 {
			return false
		}
		d.open[0].mu.Lock()
		defer d.open[0].mu.Unlock()
		return len(d.open[0].visitors) == 1
	}, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, d.shut(ctx))
	require.NoError(t, <-served)
	_, err := conn.Read(make([]byte, 1))
	assert.Error(t, err)
}
