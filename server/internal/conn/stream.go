package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// ErrDraining: the server is stopping.
var ErrDraining = errors.New("the server is stopping")

// wakeEvery is how often Wake looks whether serve has returned.
const wakeEvery = 5 * time.Millisecond

// Stream is a connection over which a handler writes for as long as the client reads. One goroutine uses it, except for Wake.
type Stream struct {
	conn  *trackedConn
	woken atomic.Bool
	ended atomic.Bool
}

// NewStream takes the connection of a request from fasthttp, which sends no response: once the handler has returned, serve runs in
// a goroutine of its own and writes one. The connection is closed when serve returns. closed is called when the connection is
// closed, also if serve did not come to run. It returns nil, and changes nothing, if the connection is not one of a Server.
//
// A stream has no buffers and one goroutine, so that thousands of them cost little more than idle connections.
func NewStream(ctx *fasthttp.RequestCtx, serve func(*Stream), closed func()) *Stream {
	c := tracked(ctx.Conn())
	if c == nil {
		return nil
	}
	s := &Stream{conn: c}
	c.onClose = closed
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {
		defer s.ended.Store(true)
		c.state.Store(stateStream)
		serve(s)
	})
	return s
}

// Write writes within the server's RequestTimeout.
func (s *Stream) Write(b []byte) (int, error) {
	w := &s.conn.wire.writes
	w.reset(s.conn.server.opts.RequestTimeout)
	if err := w.tell(); err != nil { // fasthttp has set the poller's deadline behind our back
		return 0, err
	}
	return s.conn.Write(b)
}

// Wait returns nil after d, or as soon as Wake was called. An error means that the stream ends: ErrDraining, or that the client has
// closed it.
func (s *Stream) Wait(d time.Duration) error {
	wire := s.conn.wire
	wire.resumeRead(d)
	if s.woken.Load() {
		return nil
	}
	var b [1]byte
	n, err := s.conn.Conn.Read(b[:])
	switch {
	case n > 0:
		return errors.New("the client sent something")
	case s.woken.Load():
		return nil
	case wire.interrupted.Load():
		return ErrDraining
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// Woken reports whether Wake was called.
func (s *Stream) Woken() bool { return s.woken.Load() }

// Wake makes Wait return, now and from now on. It returns when serve has.
func (s *Stream) Wake() {
	s.woken.Store(true)
	for !s.ended.Load() {
		s.conn.wire.interruptRead()
		time.Sleep(wakeEvery)
	}
}
