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
	stateNew        int32 = iota // nothing was received yet
	stateActive                  // in the middle of a request
	stateIdle                    // answered, no part of the next request was received yet
	stateDiscarding              // answered and about to be closed, see discard.go
	stateStream                  // a handler writes to it, see stream.go
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
	unread   atomic.Bool  // the client may be sending what will not be read; written by DiscardInput
	lines    lineCounter
	received int // bytes since the last answer
	ahead    readAhead
	untrack  sync.Once
	onClose  func() // called by Close once, if not nil
}

// maxReceived is how many bytes a request may have in all. fasthttp bounds the header block, the trailers and the body, but reads chunk
// extensions without end and drops them (RFC 9112, section 7.1.1). It is more than any other request has: 64 KiB of headers, as many of
// trailers, 16 KiB of body in chunks of a byte, which take six each, and what fits the buffer of the request behind it.
const maxReceived = 512 << 10

// errTooManyBytes is what a connection returns from Read when a request has more than maxReceived bytes.
var errTooManyBytes = errors.New("the request has too many bytes")

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
	own := c.Conn != net.Conn(c.wire)
	if own {
		c.wire.opaqueMost = maxHandshake
	}
	err := c.tlsConn.Handshake()
	if own {
		c.wire.opaque, c.wire.opaqueMost = 0, maxRecord
	}
	c.wire.received = false // no part of a request yet
	c.answerPlainHTTP(err)
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

// RemoteAddr returns the IP address of the request's client or proxy, without the zone of a link-local one. That of a
// Unix socket is loopback; it is invalid if the connection is neither.
func RemoteAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	var addr netip.Addr
	if c := tracked(ctx.Conn()); c != nil {
		addr = c.remote
	} else {
		addr = addrOf(ctx.RemoteAddr())
	}
	if !addr.IsValid() {
		if _, ok := ctx.RemoteAddr().(*net.UnixAddr); ok {
			return loopback
		}
	}
	return addr
}

// loopback is the address of whoever connects to a Unix socket.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

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
		c.lines.begin()
		c.received = 0
		c.wire.setTimeouts(c.server.opts.untilIdleEnds(), c.server.opts.RequestTimeout)
		c.wire.awaitNext()
		c.state.Store(stateIdle)
	}
}

// activate is called when a request has begun to arrive. The deadline of the first request counts from the first read, a
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

// Read reads for fasthttp. It returns io.EOF where draining closes the connection, and where a new or idle connection reaches its
// deadline: a client that begins to use it just then would take a 408 for the answer to its request.
func (c *trackedConn) Read(b []byte) (int, error) {
	if n := c.ahead.take(b); n > 0 {
		return n, nil
	}
	into := b
	if len(b) == 1 && c.Conn == net.Conn(c.wire) { // what TLS has decrypted waits in a buffer of its own
		into = c.ahead.buffer()
	}
	switch {
	case c.state.Load() == stateIdle: // and nothing of the next request was received
		c.lines = lineCounter{}
	case c.lines.exceeded():
		return 0, ErrTooManyLines
	case c.received > maxReceived:
		return 0, errTooManyBytes
	}
	n, err := c.Conn.Read(into)
	if n == 0 && err != nil && (c.wire.interrupted.Load() || c.state.Load() != stateActive && errors.Is(err, os.ErrDeadlineExceeded)) {
		n, err = c.readLast(into)
	}
	if n > 0 {
		c.activate()
		c.lines.add(into[:n])
		c.received += n
		c.wire.opaque = 0
	}
	if len(into) > len(b) {
		c.ahead.keep(n)
		n = c.ahead.take(b)
	}
	switch {
	case n > 0: // fasthttp would drop a first byte that comes with an error; the next read fails again
		return n, nil
	case err == nil && len(b) == 1: // which fasthttp takes for a defect, and panics
		return 0, io.ErrNoProgress
	case errors.Is(err, io.EOF) && c.state.Load() == stateActive: // fasthttp would end the connection in silence: Reclaim has to see the request
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// readLast is called after closeIfIdle ended a read, and after a new or idle connection reached its deadline. It reads on if a
// request has arrived, or a part of one, because a deadline hides bytes that arrive at the same moment.
func (c *trackedConn) readLast(b []byte) (int, error) {
	draining := false
	for {
		draining = draining || c.wire.interrupted.Load()
		state := c.state.Load()
		// A new connection is not waited for longer, because it had the time for a whole request.
		part := state == stateActive || c.wire.received && (draining || state == stateIdle)
		timeout := noticePeriod // the bytes are there
		if part {
			timeout = c.server.opts.RequestTimeout // the rest of the request, or of a TLS record, may be on its way
			c.activate()                           // else draining would end this read, too
		} else if !c.hasUnreadOrEnd() {
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

// hasUnreadOrEnd reports whether bytes have arrived. If not, it tells the client, over plain TCP, that the connection ends: a
// request that arrives between this and closing the connection would be lost, and the client could not know.
func (c *trackedConn) hasUnreadOrEnd() bool {
	if c.Conn == net.Conn(c.wire) {
		return hasUnreadOrShut(c.Conn)
	}
	return hasUnread(c.Conn)
}

// closeIfIdle makes Read return io.EOF if no request has arrived; fasthttp then closes the connection. closeIfIdle does not
// close it itself, because a request may arrive at the same moment. A new connection, and one whose input is discarded, is left
// alone until it is minAge old.
func (c *trackedConn) closeIfIdle(minAge time.Duration) {
	switch c.state.Load() {
	case stateActive:
		return
	case stateNew:
		if time.Since(c.accepted) < minAge {
			return
		}
	case stateDiscarding:
		if c.wire.reads.waiting() < minAge {
			return
		}
	}
	if c.state.Load() == stateDiscarding || !hasUnread(c.Conn) {
		c.wire.interruptRead()
	}
}

// Close closes the connection, after it has read what the client may still be sending. It omits TLS's close_notify where writing
// it could block or race: if the client reads nothing, and when drain closes a connection that is still being served.
func (c *trackedConn) Close() error {
	if !c.server.abort.Load() && !c.wire.writeFailed && c.mayReceive() {
		c.discardInput()
	}
	c.untrack.Do(func() {
		c.server.remove(c)
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
