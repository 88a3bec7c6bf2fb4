package conn

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// newRefusing returns a Server that refuses bodies over 1 KiB before it has read them.
func newRefusing(opts Options) *Server {
	s := newServer(opts)
	s.http.MaxRequestBodySize = 1 << 10
	s.http.ErrorHandler = func(ctx *fasthttp.RequestCtx, _ error) {
		ctx.SetStatusCode(fasthttp.StatusRequestEntityTooLarge)
		DiscardInput(ctx)
	}
	return s
}

const bigBody = 4 << 20 // more than the sockets' buffers hold

// A client that sends its whole request before it reads sees the answer, and no reset.
func TestInputIsDiscarded(t *testing.T) {
	serverSide, client := localhost(t)
	for name, encrypted := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			ln := listenLocal(t)
			var conn net.Conn
			if encrypted {
				start(t, newRefusing(Options{RequestTimeout: time.Minute}), ln, serverSide)
				conn = tls.Client(connect(t, ln), client)
			} else {
				start(t, newRefusing(Options{RequestTimeout: time.Minute}), ln, nil)
				conn = connect(t, ln)
			}
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n")
			require.NoError(t, err)
			begin := make([]byte, 1)
			_, err = io.ReadFull(conn, begin)
			require.NoError(t, err, "it is answered, and nothing of the body has arrived")
			_, err = conn.Write(make([]byte, bigBody))
			require.NoError(t, err, "it is not cut off while it sends")
			text, err := io.ReadAll(conn)
			require.NoError(t, err)
			assert.Contains(t, string(begin)+string(text), "HTTP/1.1 413 ")
		})
	}
}

// So does a client whose next requests arrive behind one that ends the connection.
func TestPipelinedInputIsDiscarded(t *testing.T) {
	ln := listenLocal(t)
	s := newServer(Options{RequestTimeout: time.Minute})
	answer := make(chan struct{})
	s.http.Handler = func(ctx *fasthttp.RequestCtx) {
		<-answer
		ctx.SetBodyString("ok")
		ctx.SetConnectionClose()
	}
	start(t, s, ln, nil)
	conn := connect(t, ln)
	const one = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	_, err := io.WriteString(conn, one)
	require.NoError(t, err)
	_, err = io.WriteString(conn, strings.Repeat(one, 1000))
	require.NoError(t, err)
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			return hasUnread(c.Conn)
		}
		return false
	})
	close(answer)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, 1, bytes.Count(text, []byte("HTTP/1.1 200")))
}

// What is thrown away has a bound, and so has the number of connections that do.
func TestDiscardingIsBounded(t *testing.T) {
	ln := listenLocal(t)
	s := newRefusing(Options{RequestTimeout: time.Minute})
	start(t, s, ln, nil)
	endless := func() error {
		conn := connect(t, ln)
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
		for sent := 0; err == nil; sent += 1 << 20 {
			require.Less(t, sent, 10*discardBytes, "it is never cut off")
			_, err = conn.Write(make([]byte, 1<<20))
		}
		return err
	}
	require.Error(t, endless())
	for range maxDiscarding {
		s.discarding <- struct{}{}
	}
	require.Error(t, endless())
	for range maxDiscarding {
		<-s.discarding
	}
}

// A client that neither sends nor closes holds up a stop no longer than a new connection does.
func TestDrainEndsDiscarding(t *testing.T) {
	ln := listenLocal(t)
	s := newRefusing(Options{RequestTimeout: time.Minute})
	stop := start(t, s, ln, nil)
	conn := connect(t, ln)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n")
	require.NoError(t, err)
	eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.open {
			return c.state.Load() == stateDiscarding
		}
		return false
	})
	text, err := io.ReadAll(conn)
	require.NoError(t, err, "the sending half is closed")
	assert.Contains(t, string(text), "HTTP/1.1 413 ")
	stop()
	assert.Empty(t, s.open)
}

// Draining that took the connection for idle just before a request arrived does not keep its input from being thrown away.
func TestInputIsDiscardedAfterAnInterruption(t *testing.T) {
	conn, client := accepted(t)
	wire := newDeadlineConn(conn)
	c := &trackedConn{Conn: wire, wire: wire, server: newServer(Options{})}
	c.state.Store(stateActive)
	wire.interruptRead()
	_, err := io.WriteString(client, "the rest of a body")
	require.NoError(t, err)
	discarded := make(chan struct{})
	go func() {
		defer close(discarded)
		c.discardInput()
	}()
	eventually(t, func() bool { return !hasUnread(conn) })
	require.NoError(t, client.Close())
	<-discarded
	require.NoError(t, wire.Close())
}
