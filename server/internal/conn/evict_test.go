package conn

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

const oneRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// asked sends a request and reads the beginning of the answer.
func asked(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.WriteString(conn, oneRequest)
	require.NoError(t, err)
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	require.NoError(t, err)
	require.Contains(t, string(b[:n]), "200 OK")
}

// waiting returns the server's end of a connection once it waits for a request, and began to wait later than after, a duration since epoch.
func waiting(t *testing.T, s *Server, conn net.Conn, after time.Duration) (c *trackedConn) {
	t.Helper()
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c = range s.open {
			if c.RemoteAddr().String() == conn.LocalAddr().String() {
				return c.state.Load() != stateActive && c.wire.reads.from.Load() > int64(max(after, c.accepted.Sub(epoch)))
			}
		}
		return false
	})
	return c
}

// When all connections are taken the one that has waited longest is closed, whether it was ever used or not; but a new one gets a head
// start: a proxy that has just opened it may not ask again.
func TestLongestIdleConnectionMakesRoom(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{MaxConns: 3, RequestTimeout: time.Minute, IdleTimeout: time.Minute})
	start(t, s, ln, nil)
	use := func(conn net.Conn) *trackedConn {
		t.Helper()
		waiting(t, s, conn, 0) // else its first wait may be taken for the next one
		before := time.Since(epoch)
		asked(t, conn)
		return waiting(t, s, conn, before)
	}
	closes := func(conn net.Conn, why string) {
		t.Helper()
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, why)
	}
	unused := connect(t, ln)
	waiting(t, s, unused, 0).wire.reads.from.Add(-int64(2 * headStart))
	first, second := connect(t, ln), connect(t, ln)
	use(first)
	use(second)
	third := connect(t, ln)
	use(third)
	closes(unused, "it has waited longest")
	use(first)
	fourth := connect(t, ln)
	use(fourth)
	closes(second, "the first was used after it")

	fresh := connect(t, ln)
	closes(third, "it has waited longest")
	of := waiting(t, s, fresh, 0)
	from := use(first).wire.reads.from.Load()
	use(fourth)
	of.wire.reads.from.Store(from - int64(headStart/2)) // it has waited longest, but not for long
	use(connect(t, ln))
	closes(first, "it was used, and the fresh one was not")
	asked(t, fresh)
	asked(t, fourth)
}

// Connections that are being closed have their descriptors still: there are only a few of them, however fast new ones come.
func TestFewConnectionsAreBeingClosed(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{MaxConns: 3, RequestTimeout: time.Minute, IdleTimeout: time.Minute})
	l := newListener(s, ln, nil)
	var open []*trackedConn
	accept := func() (room bool) { // nobody serves it, so that it stays open
		connect(t, ln)
		conn, err := ln.Accept()
		require.NoError(t, err)
		open = append(open, tracked(l.track(conn)))
		return s.evict(open[len(open)-1])
	}
	for range 3 + closingAtOnce {
		require.True(t, accept())
	}
	for accept() {
		require.Less(t, len(open), 3+3*closingAtOnce, "they are not waited for")
	}
	last := open[len(open)-1]
	require.False(t, s.evict(last))
	for _, c := range open[:len(open)-1] {
		require.NoError(t, c.Close())
	}
	assert.True(t, s.evict(last), "they are closed")
	require.NoError(t, last.Close())
	require.NoError(t, l.Close())
}

// A connection that was answered, and whose client goes on sending, gives way to a new one; only one that is being served does not.
func TestDiscardedInputMakesRoom(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{MaxConns: 1, RequestTimeout: time.Minute, IdleTimeout: time.Minute})
	l := newListener(s, ln, nil)
	accept := func() *trackedConn {
		connect(t, ln)
		conn, err := ln.Accept()
		require.NoError(t, err)
		return tracked(l.track(conn))
	}
	first, second := accept(), accept()
	first.state.Store(stateActive)
	assert.False(t, s.evict(second))
	first.state.Store(stateDiscarding)
	assert.True(t, s.evict(second))
	assert.True(t, first.wire.interrupted.Load())
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.NoError(t, l.Close())
}

// While all connections are in use, the next one waits, and none is cut off.
func TestBusyConnectionsAreNotEvicted(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{MaxConns: 1, RequestTimeout: time.Minute, IdleTimeout: time.Minute})
	answer, asking := make(chan struct{}), make(chan struct{}, 2)
	s.http.Handler = func(ctx *fasthttp.RequestCtx) {
		asking <- struct{}{}
		<-answer
		ctx.SetBodyString("ok")
	}
	start(t, s, ln, nil)
	done := make(chan struct{}, 2)
	ask := func() {
		conn := connect(t, ln)
		go func() {
			defer func() { done <- struct{}{} }()
			asked(t, conn)
		}()
	}
	ask()
	<-asking
	ask()
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open) == 2
	})
	assert.Empty(t, asking, "the second waits")
	close(answer)
	<-done
	<-done
}
