package conn

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// fasthttp has the memory of a request only from its first byte to its answer (ReduceMemoryUsage, which readahead.go needs), and then
// gives it to another connection. It never makes it smaller, and has a buffer for each line of a header block, as large as the longest
// that ever stood in this place: so requests that differ would let it grow to the number of lines times the size of a block. The memory of
// a request that is larger than usual ones is dropped.
const (
	// maxHeld is how large a header block may be for its memory to be kept, in bytes, with the additions below.
	maxHeld = 3 << 9
	// maxHeldLines is likewise how many lines it may have.
	maxHeldLines = 24
	// uriWeight: fasthttp has four copies of parts of the request target, beside the block.
	uriWeight = 4
	// queryWeight: a parameter may have two bytes, and is remembered in 56 bytes once a handler asks for one.
	queryWeight = 32
	// maxBody is how much memory for a body is kept.
	maxBody = 2 << 10
)

// Reclaim drops the memory that fasthttp would keep of the request of ctx, if that is much. It is to be called when the request is not
// needed any more, as the last thing that a handler does, and that fasthttp's ErrorHandler does.
func Reclaim(ctx *fasthttp.RequestCtx) {
	if tracked(ctx.Conn()) == nil { // the request is the caller's
		return
	}
	req := &ctx.Request
	req.ReleaseBody(maxBody)
	// What could not be read is no longer to be seen, its memory is there nevertheless: the connection ends then. A stream keeps the
	// request as long as it lasts.
	if !Large(&req.Header) && !ctx.Response.ConnectionClose() && !ctx.Hijacked() {
		return
	}
	if ctx.IsHead() { // fasthttp asks the request for its method when it writes the answer
		ctx.Response.SkipBody = true
	}
	req.Header = fasthttp.RequestHeader{}
	*req.URI() = fasthttp.URI{}
}

// Large reports whether a request is larger than usual ones, so that its memory is dropped in the end.
func Large(h *fasthttp.RequestHeader) bool {
	block, target := h.RawHeaders(), h.RequestURI()
	_, query, _ := bytes.Cut(target, questionMark)
	size := len(block) + uriWeight*len(target) + queryWeight*len(query)
	return size > maxHeld || bytes.Count(block, lineFeed)-1 > maxHeldLines || // the block ends with an empty line
		len(h.PeekTrailerKeys()) > 0 // a name of two bytes is remembered in 24 and a buffer
}

var lineFeed, questionMark = []byte{'\n'}, []byte{'?'}
