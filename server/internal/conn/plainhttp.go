package conn

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
)

// answerPlainHTTP answers a client that speaks http to a port of https, if that is why its handshake failed: it could not know
// why the connection is closed. The answer is sent as it is, since there is no TLS.
func (c *trackedConn) answerPlainHTTP(handshake error) {
	var first tls.RecordHeaderError
	if !errors.As(handshake, &first) || first.Conn != net.Conn(c.wire) || !looksLikeHTTP(first.RecordHeader) || c.server.opts.NotTLS == nil {
		return
	}
	c.server.opts.Log.Debug("a client speaks http to a port of https", "client", c.remote)
	_, _ = c.wire.Write(c.server.opts.NotTLS()) // does not block: the socket's buffer is empty
	c.unread.Store(true)                        // else what it is still sending would reset the connection, and the answer be lost
}

// looksLikeHTTP reports whether a request begins with these bytes, which are all that TLS has read.
func looksLikeHTTP(first [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO"}, string(first[:]))
}
