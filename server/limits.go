package server

import (
	"bufio"
	"bytes"
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/internal/conn"
)

// Marks that headerReceived leaves in a request's header, because fasthttp gives it nothing else that the handler sees. No client
// can send a header whose name begins with a colon.
var (
	markTooManyLines = []byte(":Too-Many-Lines")
	markBodyUnread   = []byte(":Body-Unread")
	markAmbiguous    = []byte(":Ambiguous")
	marked           = []byte("1")
)

// headerReceived is fasthttp's hook between a request's header block and its body.
func headerReceived(h *fasthttp.RequestHeader) (none fasthttp.RequestConfig) {
	// The block includes the empty line.
	if raw := h.RawHeaders(); len(raw) > MaxHeaderLines*len("a:\r\n") && bytes.Count(raw, newline)-1 > MaxHeaderLines {
		refuseLines(h)
		return none
	}
	// Each name that a Trailer line announces takes some 100 bytes, as long as the body and the trailers are awaited.
	if len(h.PeekTrailerKeys()) > MaxHeaderLines {
		refuseLines(h)
		return none
	}
	if ambiguous(h.RawHeaders(), h.ContentLength() == chunked) {
		leaveBody(h, markAmbiguous)
		return none
	}
	// The memory of a request whose "100 Continue" cannot be written goes to others before package conn can drop it.
	if len(h.Peek(fasthttp.HeaderExpect)) > 0 && conn.Large(h) {
		h.Del(fasthttp.HeaderExpect) // the client sends the body after a while
	}
	switch n := h.ContentLength(); {
	case n <= 0: // no body, or one of unknown length, which is read: whether its chunks are well-formed is to be seen
	case n > MaxBody:
		h.Del(fasthttp.HeaderExpect) // the client is not asked for a body that is refused
	case isVerify(h.RequestURI()):
		leaveBody(h, markBodyUnread)
	}
	return none
}

var newline = []byte{'\n'}

// chunked is fasthttp's Content-Length of a body in chunks.
const chunked = -1

// ambiguous reports whether a header block that fasthttp has read holds what another server may read differently, so that it would
// take what follows for a body or for another request: a line that ends without a CR or goes on in the next one, or a name with a
// blank in it. Nor is there a coding "identity" any more (RFC 9112), which fasthttp takes for none, and drops.
func ambiguous(block []byte, chunked bool) bool {
	for len(block) > 0 {
		end := bytes.IndexByte(block, '\n')
		if end < 1 || block[end-1] != '\r' {
			return true
		}
		switch block[0] {
		case ' ', '\t':
			return true
		case 't', 'T':
			if !chunked && linesBeginning(block[:end], fasthttp.HeaderTransferEncoding+":") > 0 {
				return true
			}
		}
		// The first blank of most lines is the one behind the colon.
		if blank := bytes.IndexByte(block[:end], ' '); blank > 0 && block[blank-1] != ':' && bytes.IndexByte(block[:blank], ':') < 0 {
			return true
		}
		block = block[end+1:]
	}
	return false
}

// linesBeginning returns how many lines of a header block begin with a text, in whatever case. The text begins with a letter.
func linesBeginning(block []byte, text string) (n int) {
	for len(block) > len(text) {
		if block[0]|0x20 == text[0]|0x20 && strings.EqualFold(string(block[:len(text)]), text) {
			n++
		}
		i := bytes.IndexByte(block, '\n')
		if i < 0 {
			break
		}
		block = block[i+1:]
	}
	return n
}

// refuseLines makes a request be refused for its many lines, and drops them now: its body may take its time.
func refuseLines(h *fasthttp.RequestHeader) {
	method := string(h.Method())
	*h = fasthttp.RequestHeader{}
	h.SetMethod(method)
	h.SetRequestURI("/")
	leaveBody(h, markTooManyLines)
}

// leaveBody makes fasthttp call the handler without reading the body, and close the connection afterwards.
func leaveBody(h *fasthttp.RequestHeader, mark []byte) {
	h.SetContentLength(0)
	h.Del(fasthttp.HeaderExpect)
	h.SetConnectionClose()
	h.SetCanonical(mark, marked)
}

var verifyPath = []byte("/auth/verify")

// isVerify reports whether a request target names verify, which ignores the body and so does not wait for it.
func isVerify(target []byte) bool {
	if len(target) > 0 && target[0] != '/' { // http://host/path
		if _, rest, ok := bytes.Cut(target, []byte("://")); ok {
			target = rest[max(bytes.IndexByte(rest, '/'), 0):]
		}
	}
	path, _, _ := bytes.Cut(target, []byte{'?'})
	return bytes.Equal(path, verifyPath)
}

// unreadRequest is called before a request is answered. It returns the problem that is the answer, if its header block or its
// trailers have too many lines, or if it is not clear where it ends. It drops trailers: they must not count as headers.
func unreadRequest(ctx *fasthttp.RequestCtx) *problem {
	h := &ctx.Request.Header
	if h.ConnectionClose() { // of few requests, and of all that have a mark
		switch {
		case len(h.PeekCanonical(markTooManyLines)) > 0:
			conn.DiscardInput(ctx)
			return problemHeaderTooLarge
		case len(h.PeekCanonical(markAmbiguous)) > 0:
			conn.DiscardInput(ctx)
			return problemBadRequest
		case len(h.PeekCanonical(markBodyUnread)) > 0:
			conn.DiscardInput(ctx)
		}
	}
	if len(h.PeekTrailerKeys()) > 0 && !dropTrailers(h) {
		ctx.SetConnectionClose()
		return problemHeaderTooLarge
	}
	return nil
}

// dropTrailers replaces the header by one that has no trailers, and reports whether it could: not if there were too many.
// fasthttp offers no way to remove them alone.
func dropTrailers(h *fasthttp.RequestHeader) bool {
	if bytes.Count(h.TrailerHeader(), newline)-1 > MaxHeaderLines {
		return false
	}
	var block bytes.Buffer
	for _, part := range [...][]byte{h.Method(), {' '}, h.RequestURI(), {' '}, h.Protocol(), []byte("\r\n"), h.RawHeaders()} {
		block.Write(part)
	}
	*h = fasthttp.RequestHeader{}
	return h.Read(bufio.NewReaderSize(&block, block.Len())) == nil // it was read before
}

// unreadable returns fasthttp's ErrorHandler: it answers a request that could not be read. handler chooses the answer.
func (s *Server) unreadable(handler func(*fasthttp.RequestCtx, error), base *baseHeaders, counted *requests) func(*fasthttp.RequestCtx, error) {
	return func(ctx *fasthttp.RequestCtx, err error) {
		base.begin(ctx)
		if counted != nil { // the public listener
			s.allowOrigin(ctx) // nothing, if fasthttp could not read the header, or has dropped it because it could not read the body
		}
		if errors.Is(err, conn.ErrTooManyLines) {
			writeProblem(ctx, problemHeaderTooLarge)
		} else {
			handler(ctx, err)
		}
		ctx.SetConnectionClose()
		conn.DiscardInput(ctx)
		s.access.refused(ctx)
		counted.refused(ctx)
		conn.Reclaim(ctx)
	}
}
