package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/internal/conn"
)

const (
	// watchComment is how often a comment is sent: proxies close connections over which nothing comes for a minute.
	watchComment = 15 * time.Second
	// watchTick: the comments of all watchers are due at the same few moments. Waking a thread that has nothing else to do costs
	// more than writing a comment.
	watchTick = 100 * time.Millisecond
	// Clients come back after a time between these two, so that those of a node that stops do not all come at once.
	watchMinRetry = 2 * time.Second
	watchMaxRetry = 6 * time.Second
)

// watcher is one response of GET /auth/watch.
type watcher struct {
	reason  atomic.Value // coatcheck.EndReason, once the session is gone
	view    []byte
	chunked bool
}

// watch answers with server-sent events: the view, and an event when the session that the request's token opens has ended. The
// stream belongs to the token: a client that has a newer token connects again.
func (s *Server) watch(c *fiber.Ctx, r *coatcheck.Request) error {
	if len(r.RawUserID()) == 0 && !r.RotatedOut() {
		return problemUnauthenticated
	}
	h := &c.Response().Header
	h.SetContentType("text/event-stream")
	h.Set("X-Accel-Buffering", "no") // else nginx collects the events
	if r.RotatedOut() {
		return c.SendString(eventEnded(coatcheck.ReasonRotated))
	}
	if c.Method() == fiber.MethodHead {
		h.Del(fiber.HeaderContentLength) // a stream has none
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{view: appendView(nil, r), chunked: c.Request().Header.IsHTTP11()}
	fctx := c.Context()
	stream := conn.NewStream(fctx, func(stream *conn.Stream) { w.serve(stream, &fctx.Response) }, cancel)
	if stream == nil {
		cancel()
		return errors.New("GET /auth/watch: not a connection of this server")
	}
	err := coatcheck.Watch(ctx, &r.Session, func(reason coatcheck.EndReason) {
		w.reason.Store(reason)
		stream.Wake()
	})
	if errors.Is(err, coatcheck.ErrTooManyWatchers) {
		return problemTooManyWatchers
	}
	return err
}

// serve writes the response until the session ends, the client goes, or the server stops.
func (w *watcher) serve(stream *conn.Stream, resp *fasthttp.Response) {
	retry := watchMinRetry + rand.N(watchMaxRetry-watchMinRetry)
	b := append(w.header(&resp.Header), w.chunk("retry: "+strconv.FormatInt(retry.Milliseconds(), 10)+"\nevent: session\ndata: "+string(w.view)+"\n\n")...)
	w.view = nil
	resp.Header = fasthttp.ResponseHeader{} // fasthttp keeps it as long as the stream lasts
	for {
		if _, err := stream.Write(b); err != nil {
			return
		}
		now := time.Now()
		if err := stream.Wait(now.Add(watchComment).Truncate(watchTick).Sub(now)); err != nil {
			if errors.Is(err, conn.ErrDraining) {
				w.end(stream, nil) // the client comes back, to another node
			}
			return
		}
		if stream.Woken() {
			reason := w.reason.Load().(coatcheck.EndReason)
			w.end(stream, w.chunk(eventEnded(reason)))
			return
		}
		b = w.chunk(": alive\n\n")
	}
}

func eventEnded(reason coatcheck.EndReason) string {
	return "event: ended\ndata: {\"reason\":\"" + string(reason) + "\"}\n\n"
}

// end writes the last bytes. The client may be gone.
func (w *watcher) end(stream *conn.Stream, last []byte) {
	if w.chunked {
		last = append(last, "0\r\n\r\n"...)
	}
	if len(last) > 0 {
		_, _ = stream.Write(last)
	}
}

// header returns the response's header, which fasthttp cannot write for a body without a length that is sent piece by piece.
func (w *watcher) header(h *fasthttp.ResponseHeader) []byte {
	b := fasthttp.AppendHTTPDate([]byte("HTTP/1.1 200 OK\r\nDate: "), time.Now())
	b = append(b, "\r\nConnection: close\r\n"...)
	if w.chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	for name, value := range h.All() {
		switch string(name) {
		case fasthttp.HeaderContentLength, fasthttp.HeaderConnection, fasthttp.HeaderDate:
		default:
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// chunk returns text as a chunk (RFC 9112, 7.1), or as it is for a client of HTTP/1.0.
func (w *watcher) chunk(text string) []byte {
	if !w.chunked {
		return []byte(text)
	}
	b := strconv.AppendInt(nil, int64(len(text)), 16)
	return append(append(append(b, "\r\n"...), text...), "\r\n"...)
}
