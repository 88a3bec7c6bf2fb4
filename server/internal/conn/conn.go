package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// tlsConn is by what fasthttp knows that a connection is TLS.
type tlsConn interface {
	Handshake() error
	ConnectionState() tls.ConnectionState
}

// tlsTrackedConn is a visitor over TLS.
type tlsTrackedConn struct {
	*trackedConn
	tlsConn
}

// Handshake is what fasthttp calls first, in the goroutine that serves the connection. Where TLS is the listener's own, the
// handshake goes past the wire.
func (v tlsTrackedConn) Handshake() error {
	if err := v.wire.start(); err != nil {
		return err
	}
	err := v.tlsConn.Handshake()
	v.wire.received = false
	return err
}

// What a visitor is doing.
const (
	stateNew    int32 = iota // connected, and nothing has come yet
	stateActive              // in the middle of a request
	stateIdle                // answered
)

// trackedConn is a connection that knows whether anybody waits for it, and for how long it may be waited.
type trackedConn struct {
	net.Conn    // wire, or TLS over it
	wire        *deadlineConn
	listener    *listener
	remote      netip.Addr // of the other end
	accepted    time.Time
	state       atomic.Int32 // written by the goroutine that serves it
	untrackOnce sync.Once
}

// tracked is what a connection that a porch handed out is, or nil.
func tracked(conn net.Conn) *trackedConn {
	switch c := conn.(type) {
	case *trackedConn:
		return c
	case tlsTrackedConn:
		return c.trackedConn
	}
	return nil
}

// setState is fasthttp's ConnState.
func setState(conn net.Conn, state fasthttp.ConnState) {
	if v := tracked(conn); v != nil {
		v.setState(state)
	}
}

func (v *trackedConn) setState(state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive:
		v.begin()
	case fasthttp.StateIdle:
		v.wire.setTimeouts(v.listener.timeouts.Idle, v.listener.timeouts.Request)
		v.state.Store(stateIdle)
	}
}

// begin notes that a request has come, or a part of it. The time to read the first one counts from when it was first waited for,
// a handshake included.
func (v *trackedConn) begin() {
	switch v.state.Load() {
	case stateActive:
		return
	case stateNew:
		v.wire.writes.begin(v.listener.timeouts.Request)
	case stateIdle:
		v.wire.setTimeouts(v.listener.timeouts.Request, v.listener.timeouts.Request)
	}
	v.state.Store(stateActive)
}

// Read marks the visitor as busy as soon as anything comes. Who was told to leave hears the end, unless a request came
// meanwhile: a deadline that has passed hides it.
func (v *trackedConn) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	if n > 0 || err == nil {
		v.begin()
		return n, err
	}
	state := v.state.Load()
	if v.wire.interrupted.Load() {
		patience := noticePeriod // it is there
		switch {
		case state == stateActive, v.wire.received:
			patience = v.listener.timeouts.Request // it had just begun; over TLS a record may be there in part
		case !hasUnread(v.Conn):
			return 0, io.EOF
		}
		v.wire.resumeRead(patience)
		if n, err = v.Conn.Read(b); n > 0 {
			v.begin()
		}
		return n, err
	}
	if state == stateNew && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, io.EOF // no 408: a client that takes this connection up at last would take that for its answer
	}
	return n, err
}

// closeIdle ends the wait for a next request, unless one is there and has not been read yet. Browsers open connections in
// advance; one that has not been used gets grace from its opening to begin a request. The deadline and not a Close: where a
// request comes at this very moment, Read finds it.
func (v *trackedConn) closeIdle(grace time.Duration) {
	switch v.state.Load() {
	case stateActive:
		return
	case stateNew:
		if time.Since(v.accepted) < grace {
			return
		}
	}
	if !hasUnread(v.Conn) {
		v.wire.interruptRead()
	}
}

func (v *trackedConn) Close() error {
	v.untrackOnce.Do(func() {
		v.listener.untrack(v)
		v.listener.limit.release(v.remote)
	})
	if v.listener.hardClose.Load() || v.wire.writeFailed {
		// TLS would say a last word: at the side of the goroutine that serves, or to one who takes nothing any more.
		return v.wire.Close()
	}
	return v.Conn.Close()
}

// RemoteAddr is the address of the other end of the request's connection, without the zone of a link-local one.
func RemoteAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	if v := tracked(ctx.Conn()); v != nil {
		return v.remote
	}
	return addrOf(ctx.RemoteAddr())
}

func addrOf(end net.Addr) netip.Addr {
	tcp, ok := end.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap()
}
