package conn

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Closing a connection while the client is still sending resets it, and a client that is reset may never see the answer that
// was sent to it before (RFC 9112, section 9.6). So a request that is answered before it was read is read, and thrown away,
// before the connection is closed.
const (
	// discardBytes and discardTime bound what is thrown away of one request.
	discardBytes = 16 << 20
	discardTime  = 5 * time.Second
	// maxDiscarding is how many connections may do that at once. Others are closed at once, as all were without it.
	maxDiscarding = 256
	// discardBuffer is the size of the buffer that such a connection needs.
	discardBuffer = 16 << 10
)

// DiscardInput says that the request of ctx is being answered although parts of it were not read: when the answer is sent, the
// rest is read and thrown away before the connection is closed. The answer must end the connection.
func DiscardInput(ctx *fasthttp.RequestCtx) {
	if c := tracked(ctx.Conn()); c != nil {
		c.unread.Store(true)
	}
}

// mayReceive reports whether closing the connection could reset it: a request was answered before it was read, or the client
// has sent something behind the last request that is answered.
func (c *trackedConn) mayReceive() bool {
	return c.unread.Load() || c.state.Load() == stateActive && hasUnread(c.Conn)
}

// discardInput tells the client that nothing more will come, and throws away what it sends until it closes the connection too.
func (c *trackedConn) discardInput() {
	select {
	case c.server.discarding <- struct{}{}:
		defer func() { <-c.server.discarding }()
	default:
		return
	}
	c.wire.resumeRead(discardTime) // draining may have interrupted it when it seemed idle
	c.wire.writes.reset(discardTime)
	c.wire.opaqueMost = 0 // nothing of it is kept
	c.state.Store(stateDiscarding)
	if c.wire.writes.tell() != nil {
		return
	}
	if own, ok := c.Conn.(*tls.Conn); ok && own.ConnectionState().HandshakeComplete && own.CloseWrite() != nil { // sends close_notify
		return
	}
	if closeWrite(c.wire.Conn) != nil {
		return
	}
	b := make([]byte, discardBuffer)
	for read := 0; read < discardBytes; {
		n, err := c.wire.Read(b)
		if err != nil {
			return
		}
		read += n
	}
}

// discardAndClose ends a connection that was refused, whose client may have sent its request already.
func (c *trackedConn) discardAndClose() {
	c.state.Store(stateDiscarding)
	c.server.add(c) // so that draining finds it
	defer c.server.remove(c)
	c.discardInput()
	_ = c.wire.Close()
}

// closeWrite closes the sending half of a connection, if it has one of its own.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
