package conn

import "github.com/valyala/fasthttp"

// fasthttp reuses the memory of a request for the next one on the connection, and when the connection has ended for another
// connection. It never gives any of it back: 128 requests with one large header each, in another line each time, are remembered
// in 128 buffers. So the memory is dropped when requests of so many bytes were read with it.
const (
	// maxHeld is how many bytes of header blocks, weighed by what fasthttp makes of them, may be read before their memory is dropped.
	maxHeld = 16 << 10
	// uriWeight: fasthttp has four copies of parts of the request target.
	uriWeight = 4
	// queryWeight: a parameter may have two bytes, and is remembered in 56 bytes once a handler asks for one.
	queryWeight = 32
	// maxBody is how much memory for a body is kept.
	maxBody = 2 << 10
)

// Reclaim drops the memory that fasthttp would keep for the request of ctx, if that is much. It is to be called when the request
// is not needed any more, as the last thing that a handler does, and that fasthttp's ErrorHandler does.
func Reclaim(ctx *fasthttp.RequestCtx) {
	c := tracked(ctx.Conn())
	if c == nil {
		return
	}
	req := &ctx.Request
	req.ReleaseBody(maxBody)
	c.held += len(req.Header.RawHeaders()) + uriWeight*len(req.Header.RequestURI()) + queryWeight*len(req.URI().QueryString())
	// The memory of a connection's first request may come from another connection, and that of its last goes to another.
	if c.held < maxHeld && ctx.ConnRequestNum() > 1 && !ctx.Response.ConnectionClose() {
		return
	}
	c.held = 0
	if ctx.IsHead() { // fasthttp asks the request for its method when it writes the answer
		ctx.Response.SkipBody = true
	}
	req.Header = fasthttp.RequestHeader{}
	*req.URI() = fasthttp.URI{}
}
