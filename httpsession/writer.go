package httpsession

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// responseWriter persists the session before the first byte of the response is sent, so that a handler's answer is sent only
// when the changes that it reports are stored.
//
// If that fails the client gets the 503, and the handler is told to end: its context is cancelled, and what it writes is discarded with
// the error. Until it has returned, net/http reads no other request from the connection, and over HTTP/2 does not end the answer.
//
// http.ResponseController finds the other methods of the underlying writer through Unwrap. None of those sends a header.
type responseWriter struct {
	http.ResponseWriter // of the server or of an enclosing middleware

	m   *middleware.Middleware
	x   *middleware.Exchange
	ctx context.Context // for operations of the store

	request *http.Request   // as it came to the middleware
	handler *requestContext // the handler's
	before  savedHeader     // what enclosing middlewares had set when the handler was called
	running bool            // the handler has been called and has not returned
	sent    bool            // the header has been sent
	failed  error           // the 503 was sent in place of the handler's answer
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// commit persists the session and sets the cookie, once, or answers that it could not. It reports whether the handler's
// answer may be sent.
func (w *responseWriter) commit() bool {
	if !w.sent && w.persist() {
		w.leave()
	}
	return w.failed == nil
}

// persist persists the session, or answers that it could not.
func (w *responseWriter) persist() bool {
	err := w.m.Finish(w.ctx, w.x)
	if err != nil {
		w.sent, w.failed = true, err
		w.before.restore(w.Header())
		if w.running {
			w.tellHandler()
		}
		fail(w.ResponseWriter, err)
	}
	return err == nil
}

// tellHandler ends the context of a handler whose answer is replaced. The handler may run on for all that, so nobody must send another
// request over a connection that takes no other one meanwhile. Over HTTP/2 others do not wait, and the header would end the connection.
func (w *responseWriter) tellHandler() {
	if w.request.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	w.handler.canEnd().end(w.failed)
}

// leave sets the cookie and notes that the header is being sent.
func (w *responseWriter) leave() {
	w.sent = true
	setCookie(w.m, w.x, w.request, w.Header())
	w.x.HeaderSent()
}

// end is called when the handler has returned: it persists changes made after the header was sent. If that fails no answer is
// possible any more; the observer has been told.
func (w *responseWriter) end() {
	switch {
	case !w.sent:
		w.commit()
	case w.failed != nil:
		w.before.restore(w.Header()) // the handler may have added trailers
	default:
		_ = w.m.Finish(w.ctx, w.x)
	}
}

// WriteHeader persists the session first, unless the status is informational, because the final answer is still to come. An
// invalid status goes to the underlying writer, which panics before anything is stored.
func (w *responseWriter) WriteHeader(status int) {
	final := status == http.StatusSwitchingProtocols || 200 <= status && status <= 999
	if final && !w.commit() || w.failed != nil {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write persists the session first, and returns an error of that.
func (w *responseWriter) Write(p []byte) (int, error) {
	if !w.commit() {
		return 0, w.failed
	}
	return w.ResponseWriter.Write(p)
}

// WriteString is Write. Without it io.WriteString would copy the string.
func (w *responseWriter) WriteString(s string) (int, error) {
	if !w.commit() {
		return 0, w.failed
	}
	return io.WriteString(w.ResponseWriter, s)
}

// sniffLen is how much of a body net/http writes before it hands the rest to sendfile.
const sniffLen = 512

// ReadFrom persists the session once src has returned a first byte: an empty src sends nothing. The rest goes to the
// underlying writer, whose ReadFrom uses sendfile where it can.
func (w *responseWriter) ReadFrom(src io.Reader) (n int64, err error) {
	if !w.sent {
		n, err = io.Copy(onlyWriter{w}, io.LimitReader(src, sniffLen))
		if err != nil || n < sniffLen {
			return n, err
		}
	}
	if w.failed != nil {
		return n, w.failed
	}
	rest, err := io.Copy(w.ResponseWriter, src)
	return n + rest, err
}

// onlyWriter hides ReadFrom from io.Copy.
type onlyWriter struct{ io.Writer }

// Flush is FlushError for callers that ask for an http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError persists the session first, and returns an error of that. Where the underlying writer cannot flush it does nothing: no header
// is sent, so that the handler may still ask for a cookie.
func (w *responseWriter) FlushError() error {
	if !w.sent && !canFlush(w.ResponseWriter) {
		return http.ErrNotSupported
	}
	if !w.commit() {
		return w.failed
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// canFlush reports whether http.ResponseController would find a method to flush with.
func canFlush(w http.ResponseWriter) bool {
	switch t := w.(type) {
	case *responseWriter: // has one, which may do nothing
		return canFlush(t.ResponseWriter)
	case http.Flusher, interface{ FlushError() error }:
		return true
	case interface{ Unwrap() http.ResponseWriter }:
		return canFlush(t.Unwrap())
	default:
		return false
	}
}

// Hijack persists the session first; if that fails the handler does not get the connection, and the client gets the 503. The
// handler writes the answer itself, so the Set-Cookie, if one is needed, stands in Header when Hijack returns. Libraries that
// upgrade to websockets send it if they are given Header for their answer, or a copy of it.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !w.sent {
		w.persist()
	}
	if w.failed != nil {
		return nil, nil, w.failed
	}
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && !w.sent { // else the handler answers in another way
		w.leave()
	}
	return conn, buf, err
}
