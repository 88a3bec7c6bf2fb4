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

// When all connections are taken the one that has waited longest is closed, whether it was ever used or not; but a new one gets a head
// start: a proxy that has just opened it does not ask again.
func TestLongestIdleConnectionMakesRoom(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{MaxConns: 3, RequestTimeout: time.Minute, IdleTimeout: time.Minute})
	start(t, s, ln, nil)
	waits := func(n int) {
		t.Helper()
		eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			for c := range s.open {
				if c.state.Load() == stateActive || c.wire.reads.from.Load() == 0 {
					return false
				}
			}
			return len(s.open) == n
		})
	}
	unused := connect(t, ln)
	eventually(t, func() bool { // its wait has begun, and is made to have begun earlier
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			if from := &c.wire.reads.from; from.Load() > int64(c.accepted.Sub(epoch)) {
				from.Add(-int64(2 * headStart))
				return true
			}
		}
		return false
	})
	first, second := connect(t, ln), connect(t, ln)
	asked(t, first)
	asked(t, second)
	waits(3)
	third := connect(t, ln)
	asked(t, third)
	_, err := unused.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "it has waited longest")
	waits(3)
	asked(t, first)
	waits(3)
	asked(t, connect(t, ln))
	_, err = second.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the first was used after it")
	asked(t, first)
	asked(t, third)
	waits(3)

	fresh := connect(t, ln)
	waits(3)
	asked(t, first)
	asked(t, third)
	waits(3)
	asked(t, connect(t, ln))
	waits(3)
	asked(t, fresh)
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
