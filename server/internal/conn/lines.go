package conn

import (
	"bytes"
	"errors"
)

// MaxLines is how many lines a request's header block may have, and its trailers again.
const MaxLines = 128

// ErrTooManyLines is what a connection returns from Read, and thus what fasthttp hands to its ErrorHandler, when the header
// block or the trailers of a request have more than MaxLines lines.
var ErrTooManyLines = errors.New("the request has too many header lines")

// lineCounter counts the lines of a header block and of trailers while they arrive. fasthttp keeps an entry of 56 bytes and two
// buffers for each line, from the moment that the line has arrived: a line takes four bytes on the wire, so that a client which
// sends half a header block, and then waits, would hold a thirtyfold of what it has sent.
//
// It is no parser. It finds the end of the header block, and takes what follows for chunks if it looks like chunks: a body of
// known length that does so is counted wrongly, but no JSON text begins with a hexadecimal number in a line of its own.
type lineCounter struct {
	stage stage
	lines int  // of the header block, the request line included, or of the trailers
	text  bool // the line that is being read is not empty
	chunk int  // in chunkSize: the size so far; in chunkData: how many bytes are to come
	digit bool // in chunkSize: there was a digit
}

type stage uint8

const (
	inHeader  stage = iota
	chunkSize       // at the beginning of a chunk, or of any body, or of the next request
	chunkExt        // in the rest of the line of a chunk's size
	chunkData       // in a chunk, or at the line break behind it
	inTrailers
	inOther // a body of known length, or requests that were sent before the answer; the line breaks are counted
)

// begin is called when a request has been answered. What has arrived behind it, unless it was a body, is the beginning of the
// next request.
func (l *lineCounter) begin() {
	carried := 0
	if l.stage == inOther {
		carried = l.lines
	}
	*l = lineCounter{lines: carried}
}

// exceeded reports whether there were too many lines.
func (l *lineCounter) exceeded() bool {
	switch l.stage {
	case inHeader:
		return l.lines > MaxLines+1
	case inTrailers:
		return l.lines > MaxLines
	default:
		return false
	}
}

var endOfBlock = []byte("\r\n\r\n")

// add counts bytes that have arrived.
func (l *lineCounter) add(b []byte) {
	// Most requests arrive as a whole and have no body.
	if l.stage == inHeader && len(b) < 4*MaxLines && bytes.HasSuffix(b, endOfBlock) {
		*l = lineCounter{stage: chunkSize}
		return
	}
	for len(b) > 0 && !l.exceeded() {
		b = l.next(b)
	}
}

// next counts the first part of b, and returns the rest.
func (l *lineCounter) next(b []byte) []byte {
	switch l.stage {
	case inHeader, inTrailers:
		return l.line(b)
	case chunkSize:
		return l.size(b)
	case chunkExt:
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return nil
		}
		if l.chunk == 0 {
			*l = lineCounter{stage: inTrailers}
		} else {
			*l = lineCounter{stage: chunkData, chunk: l.chunk + len("\r\n")}
		}
		return b[i+1:]
	case chunkData:
		n := min(l.chunk, len(b))
		if l.chunk -= n; l.chunk == 0 {
			l.stage = chunkSize
		}
		return b[n:]
	default:
		l.lines += bytes.Count(b, []byte{'\n'})
		return nil
	}
}

// line takes the bytes of b up to the next line break.
func (l *lineCounter) line(b []byte) []byte {
	i := bytes.IndexByte(b, '\n')
	line := b[:max(i, 0)]
	if i < 0 {
		line = b
	}
	l.text = l.text || len(bytes.TrimRight(line, "\r")) > 0
	if i < 0 {
		return nil
	}
	switch {
	case l.text:
		l.lines++
		l.text = false
	case l.stage == inHeader && l.lines > 0: // an empty line before the request line is skipped
		*l = lineCounter{stage: chunkSize}
	case l.stage == inTrailers:
		*l = lineCounter{stage: inOther}
	}
	return b[i+1:]
}

// maxChunk is larger than any body that is read.
const maxChunk = 1 << 30

// size takes a hexadecimal digit.
func (l *lineCounter) size(b []byte) []byte {
	digit := bytes.IndexByte([]byte("0123456789abcdef"), b[0]|0x20)
	switch {
	case digit >= 0 && b[0] > 0x20 && l.chunk < maxChunk:
		l.chunk, l.digit = l.chunk<<4|digit, true
		return b[1:]
	case l.digit && (b[0] == '\r' || b[0] == '\n' || b[0] == ';' || b[0] == ' ' || b[0] == '\t'):
		l.stage = chunkExt
		return b // the line break may be its first byte
	default:
		*l = lineCounter{stage: inOther}
		return b
	}
}
