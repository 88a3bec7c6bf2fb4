package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// Serve answers the public API on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error { return s.doors[0].serve(ln, nil, s.log) }

// ServeTLS is Serve over TLS. Of cfg, which is copied, the certificates count; HTTP/1.1 is the only protocol that is offered
// (RFC 7301), and nothing below TLS 1.2. A handshake must be done within Config.ReadTimeout, and holds nobody else up.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	return s.doors[0].serve(ln, cfg, s.log)
}

// ServeAdmin answers the admin API on ln until Shutdown.
func (s *Server) ServeAdmin(ln net.Listener) error { return s.doors[1].serve(ln, nil, s.log) }

// drainFor is how long a stopping server goes on answering, with "Connection: close", before it stops to accept: long
// enough for clients that are talking to hear of it.
const drainFor = 250 * time.Millisecond

// unusedFor is how long a connection may stand open without a byte while the server stops.
const unusedFor = time.Second

// Shutdown turns readiness red, lets clients that are talking leave, stops accepting, waits for requests in flight and
// closes idle connections; the admin listener goes last. An error means that ctx ended first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	sleep(ctx, within(ctx, drainFor))
	return errors.Join(s.doors[0].shut(ctx), s.doors[1].shut(ctx))
}

// door is where connections come in. fasthttp forgets a Shutdown that comes before Serve; a door does not.
type door struct {
	srv    *fasthttp.Server // without timeouts: its connections keep time themselves
	limits limits
	guests guests

	mu     sync.Mutex
	closed bool     // guarded by mu
	open   []*porch // guarded by mu
}

func (d *door) serve(ln net.Listener, secure *tls.Config, log *slog.Logger) error {
	p := newPorch(ln, secure, &d.guests, d.limits, log)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ln.Close()
	}
	d.open = append(d.open, p)
	if d.srv.ConnState == nil {
		d.srv.ConnState = noteState
	}
	d.mu.Unlock()
	return d.srv.Serve(p)
}

// shut stops accepting, answers what has come or is on its way, and closes connections as they become idle. It does so
// itself: fasthttp closes an idle connection although the next request stands in its receive buffer, and takes one that was
// never used for a request in flight. By the time that fasthttp is told, nobody is left, or ctx has ended and the rest is cut.
func (d *door) shut(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	open := d.open
	d.mu.Unlock()
	deaf := false
	for _, p := range open {
		deaf = deafen(p.Listener) || deaf
	}
	if deaf {
		sleep(ctx, handshakeFor)
	}
	for _, p := range open {
		_ = p.Close() // fasthttp closes it again, and reports what went wrong
		select {
		case <-p.ended:
			p.dismiss()
		case <-ctx.Done():
		}
	}
	grace := within(ctx, unusedFor)
	for farewell(open, grace) > 0 && ctx.Err() == nil {
		sleep(ctx, farewellEvery)
	}
	for _, p := range open {
		p.cut.Store(true)
	}
	return d.srv.ShutdownWithContext(ctx)
}

// handshakeFor is how long a connection that is being opened may take from its SYN to its ACK when a listener closes.
const handshakeFor = 50 * time.Millisecond

// farewellEvery is how often a stopping server looks who has become idle.
const farewellEvery = 10 * time.Millisecond

func farewell(porches []*porch, grace time.Duration) (left int) {
	for _, p := range porches {
		left += p.farewell(grace)
	}
	return left
}

// within is d, or a quarter of the time that is left, if that is less.
func within(ctx context.Context, d time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(d, time.Until(deadline)/4)
	}
	return d
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
