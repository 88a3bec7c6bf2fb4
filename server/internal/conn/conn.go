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

// The states of a trackedConn. A connection that is new or idle may be closed by draining, an active one may not.
const (
	stateNew    int32 = iota // nothing was received yet
	stateActive              // in the middle of a request
	stateIdle                // answered, no part of the next request was received yet
	stateStream              // a handler writes to it, see stream.go
)

// trackedConn is a connection whose state and client are known. It is used by the goroutine that serves it, except for
// closeIfIdle and Close.
type trackedConn struct {
	net.Conn // wire, or TLS over it
	wire     *deadlineConn
	server   *Server
	remote   netip.Addr // of the other end
	accepted time.Time
	state    atomic.Int32 // written by the goroutine that serves the connection
	untrack  sync.Once
	onClose  func() // called by Close once, if not nil
}

// tlsConn is how fasthttp recognises a TLS connection.
type tlsConn interface {
	Handshake() error
	ConnectionState() tls.ConnectionState
}

// tlsTrackedConn is a trackedConn over TLS.
type tlsTrackedConn struct {
	*trackedConn
	tlsConn
}

// Handshake is called by fasthttp, in the goroutine that serves the connection, before anything is read.
func (c tlsTrackedConn) Handshake() error {
	if err := c.wire.startNow(); err != nil { // the handshake of a listener that itself speaks TLS does not go through wire
		return err
	}
	err := c.tlsConn.Handshake()
	c.wire.received = false // no part of a request yet
	return err
}

// tracked returns the trackedConn of a connection that Accept returned, or nil for any other.
func tracked(conn net.Conn) *trackedConn {
	switch c := conn.(type) {
	case *trackedConn:
		return c
	case tlsTrackedConn:
		return c.trackedConn
	}
	return nil
}

// RemoteAddr returns the IP address of the request's client or proxy, without the zone of a link-local one. It is invalid if
// the connection is not TCP.
func RemoteAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	if c := tracked(ctx.Conn()); c != nil {
		return c.remote
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

// setState is fasthttp's ConnState hook. fasthttp also calls it for pipelined requests, which Read does not see.
func setState(conn net.Conn, state fasthttp.ConnState) {
	c := tracked(conn)
	if c == nil {
		return
	}
	switch state {
	case fasthttp.StateActive:
		c.activate()
	case fasthttp.StateIdle:
		c.wire.setTimeouts(c.server.opts.IdleTimeout, c.server.opts.RequestTimeout)
		c.state.Store(stateIdle)
	}
}

// activate is called when a request has begun to arrive. The deadline of the first request counts from the first wait, a
// handshake included, and that of a later request from now; the response has a deadline of its own.
func (c *trackedConn) activate() {
	timeout := c.server.opts.RequestTimeout
	switch c.state.Load() {
	case stateActive:
		return
	case stateNew:
		c.wire.writes.reset(timeout)
	case stateIdle:
		c.wire.setTimeouts(timeout, timeout)
	}
	c.state.Store(stateActive)
}

// Read reads for fasthttp. It returns io.EOF where draining closes the connection, and where a new connection reaches its
// deadline: a client that begins to use it just then would take a 408 for the answer to its request.
func (c *trackedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case n > 0 || err == nil:
		c.activate()
	case c.wire.interrupted.Load():
		return c.readInterrupted(b)
	case c.state.Load() == stateNew && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, io.EOF
	}
	return n, err
}

// readInterrupted is called after closeIfIdle ended a read. It reads on if a request has arrived, or a part of one, because the
// deadline that closeIfIdle sets hides bytes that arrive at the same moment.
func (c *trackedConn) readInterrupted(b []byte) (int, error) {
	for {
		part := c.state.Load() == stateActive || c.wire.received
		timeout := noticePeriod // the bytes are there
		if part {
			timeout = c.server.opts.RequestTimeout // the rest of the request, or of a TLS record, may be on its way
			c.activate()                           // else draining would end this read, too
		} else if !hasUnread(c.Conn) {
			return 0, io.EOF
		}
		c.wire.resumeRead(timeout)
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.activate()
		}
		// closeIfIdle may have looked before activate; and the bytes that were there may be a part of a TLS record.
		again := c.wire.interrupted.Load() || !part && c.wire.received
		if n > 0 || err == nil || !again {
			return n, err
		}
	}
}

// closeIfIdle makes Read return io.EOF if no request has arrived; fasthttp then closes the connection. closeIfIdle does not
// close it itself, because a request may arrive at the same moment. A new connection is left alone until it is minAge old.
func (c *trackedConn) closeIfIdle(minAge time.Duration) {
	switch c.state.Load() {
	case stateActive:
		return
	case stateNew:
		if time.Since(c.accepted) < minAge {
			return
		}
	}
	if !hasUnread(c.Conn) {
		c.wire.interruptRead()
	}
}

// Close closes the connection. It omits TLS's close_notify where writing it could block or race: if the client reads nothing,
// and when drain closes a connection that is still being served.
func (c *trackedConn) Close() error {
	c.untrack.Do(func() {
		c.server.mu.Lock()
		delete(c.server.open, c)
		c.server.mu.Unlock()
		c.server.limit.release(c.remote)
		if c.onClose != nil {
			c.onClose()
		}
	})
	if c.server.abort.Load() || c.wire.writeFailed {
		return c.wire.Close()
	}
	return c.Conn.Close()
}
