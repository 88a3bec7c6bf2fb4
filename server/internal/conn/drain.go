package conn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// noticePeriod is how long a stopping server goes on answering, with "Connection: close", before it stops to accept: long
// enough for clients that are talking to hear of it.
const noticePeriod = 250 * time.Millisecond

// newConnGrace is how long a connection may stand open without a byte while the server stops.
const newConnGrace = time.Second

// Announce lets clients that are talking hear of a stop.
func Announce(ctx context.Context) { sleep(ctx, within(ctx, noticePeriod)) }

// Server is where connections come in. fasthttp forgets a Shutdown that comes before Serve; a Door does not.
type Server struct {
	HTTP      *fasthttp.Server // without timeouts: its connections keep time themselves
	Timeouts  Timeouts
	ConnLimit ConnLimit

	mu     sync.Mutex
	closed bool        // guarded by mu
	open   []*listener // guarded by mu
}

// Serve accepts connections on ln until Shut.
func (d *Server) Serve(ln net.Listener, secure *tls.Config, log *slog.Logger) error {
	p := newListener(ln, secure, &d.ConnLimit, d.Timeouts, log)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ln.Close()
	}
	d.open = append(d.open, p)
	if d.HTTP.ConnState == nil {
		d.HTTP.ConnState = setState
	}
	d.mu.Unlock()
	return d.HTTP.Serve(p)
}

// ServeTLS is Serve over TLS. Of cfg, which is copied, the certificates count; HTTP/1.1 is the only protocol that is offered
// (RFC 7301), and nothing below TLS 1.2. A handshake must be done within Limits.Request, and holds nobody else up.
func (d *Server) ServeTLS(ln net.Listener, cfg *tls.Config, log *slog.Logger) error {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	return d.Serve(ln, cfg, log)
}

// Drain stops accepting, answers what has come or is on its way, and closes connections as they become idle. It does so
// itself: fasthttp closes an idle connection although the next request stands in its receive buffer, and takes one that was
// never used for a request in flight. By the time that fasthttp is told, nobody is left, or ctx has ended and the rest is cut.
func (d *Server) Drain(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	open := d.open
	d.mu.Unlock()
	deaf := false
	for _, p := range open {
		deaf = dropSYNs(p.Listener) || deaf
	}
	if deaf {
		sleep(ctx, handshakeGrace)
	}
	for _, p := range open {
		_ = p.Close() // fasthttp closes it again, and reports what went wrong
		select {
		case <-p.ended:
			p.closeBacklog()
		case <-ctx.Done():
		}
	}
	grace := within(ctx, newConnGrace)
	for closeIdle(open, grace) > 0 && ctx.Err() == nil {
		sleep(ctx, idleCheckInterval)
	}
	for _, p := range open {
		p.hardClose.Store(true)
	}
	return d.HTTP.ShutdownWithContext(ctx)
}

// handshakeGrace is how long a connection that is being opened may take from its SYN to its ACK when a listener closes.
const handshakeGrace = 50 * time.Millisecond

// idleCheckInterval is how often a stopping server looks who has become idle.
const idleCheckInterval = 10 * time.Millisecond

func closeIdle(listeners []*listener, grace time.Duration) (left int) {
	for _, p := range listeners {
		left += p.closeIdle(grace)
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
