package conn

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// fasthttp reuses the memory of a request for the next one on the connection, and when the connection has ended for another
// connection. It never gives any of it back: 128 requests with one large header each, in another line each time, are remembered
// in 128 buffers. So the memory is dropped when these buffers may have grown beyond what usual requests need. Requests that are
// alike let them grow once, so that a connection with usual ones drops nothing.
const (
	// maxHeld is how much the buffers of the parts of a header block may have grown in all, in bytes.
	maxHeld = 3 << 10
	// maxHeldLines is how many lines, besides those that fasthttp keeps apart, may have a buffer.
	maxHeldLines = 32
	// uriWeight: fasthttp has four copies of parts of the request target.
	uriWeight = 4
	// queryWeight: a parameter may have two bytes, and is remembered in 56 bytes once a handler asks for one.
	queryWeight = 32
	// maxBody is how much memory for a body is kept.
	maxBody = 2 << 10
)

// keptApart are the headers that fasthttp keeps in buffers of their own. The others have buffers in turn.
var keptApart = [...]string{"host", "user-agent", "content-type", "content-length"}

// grown is how much fasthttp's buffers may have grown by the requests of a connection.
type grown struct {
	parts [1 + len(keptApart) + maxHeldLines]uint16 // the request target, the lines kept apart, the others
	sum   int
}

// part notes that a part of a request has n bytes.
func (g *grown) part(i, n int) {
	if n = min(n, maxHeld+1); n > int(g.parts[i]) {
		g.sum += n - int(g.parts[i])
		g.parts[i] = uint16(n)
	}
}

// request notes the parts of a request, and reports whether the buffers are still as small as they may be.
func (g *grown) request(req *fasthttp.Request) bool {
	if len(req.Header.PeekTrailerKeys()) > 0 { // a name of two bytes is remembered in 24 and a buffer
		return false
	}
	g.part(0, uriWeight*len(req.Header.RequestURI())+queryWeight*len(req.URI().QueryString()))
	next := 1 + len(keptApart)
	for raw := req.Header.RawHeaders(); len(raw) > 0 && g.sum <= maxHeld; {
		line := raw[:bytes.IndexByte(raw, '\n')+1]
		// The last line has an end, or fasthttp would not have taken it; what a line begins that is folded, is remembered as one.
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' {
			return false
		}
		raw = raw[len(line):]
		if i := apart(line); i >= 0 {
			g.part(1+i, len(line))
			continue
		}
		if next == len(g.parts) {
			return false
		}
		g.part(next, len(line))
		next++
	}
	return g.sum <= maxHeld
}

// apart returns the place of a line's name in keptApart; -1 if it is not there.
func apart(line []byte) int {
	switch line[0] | 0x20 {
	case 'h', 'u', 'c':
		for i, name := range keptApart {
			if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
				return i
			}
		}
	}
	return -1
}

// ReclaimAnswer drops the memory of the answer before, which may have repeated parts of a large request. It is to be called before
// anything is written to the header of an answer.
func ReclaimAnswer(ctx *fasthttp.RequestCtx) {
	if c := tracked(ctx.Conn()); c != nil && (c.large || ctx.ConnRequestNum() == 1) {
		ctx.Response.Header = fasthttp.ResponseHeader{}
	}
}

// Reclaim drops the memory that fasthttp would keep for the request of ctx, if that is much. It is to be called when the request
// is not needed any more, as the last thing that a handler does, and that fasthttp's ErrorHandler does.
func Reclaim(ctx *fasthttp.RequestCtx) {
	c := tracked(ctx.Conn())
	if c == nil {
		return
	}
	req := &ctx.Request
	req.ReleaseBody(maxBody)
	c.large = !c.grown.request(req)
	// The memory of a connection's first request may come from another connection, and that of its last goes to another.
	if !c.large && ctx.ConnRequestNum() > 1 && !ctx.Response.ConnectionClose() {
		return
	}
	c.grown = grown{}
	if ctx.IsHead() { // fasthttp asks the request for its method when it writes the answer
		ctx.Response.SkipBody = true
	}
	req.Header = fasthttp.RequestHeader{}
	*req.URI() = fasthttp.URI{}
}
