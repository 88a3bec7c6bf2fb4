package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
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
// enough for clients that are talking to hear of it. A quarter of the time that Shutdown has, if that is less.
const drainFor = 250 * time.Millisecond

// Shutdown turns readiness red, lets clients that are talking leave, stops accepting, waits for requests in flight and
// closes idle connections; the admin listener goes last. An error means that ctx ended first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	wait := drainFor
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/4)
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	return errors.Join(s.doors[0].shut(ctx), s.doors[1].shut(ctx))
}

// door is where connections come in. fasthttp forgets a Shutdown that comes before Serve; a door does not.
type door struct {
	srv    *fasthttp.Server
	guests guests

	mu     sync.Mutex
	closed bool     // guarded by mu
	open   []*porch // guarded by mu
}

func (d *door) serve(ln net.Listener, secure *tls.Config, log *slog.Logger) error {
	p := &porch{Listener: ln, tls: secure, guests: &d.guests, log: log, unused: make(map[*visitor]struct{})}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ln.Close()
	}
	d.open = append(d.open, p)
	d.mu.Unlock()
	return d.srv.Serve(p)
}

func (d *door) shut(ctx context.Context) error {
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { d.sendHome(stop) })
	err := d.srv.ShutdownWithContext(ctx)
	close(stop)
	sending.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, p := range d.open {
		_ = p.Close() // closed already, unless its Serve has not got as far as fasthttp
	}
	return err
}

// sendHome closes, until it is stopped, the connections that never sent a byte. Browsers open some in advance; fasthttp
// takes them for requests in flight. They get drainFor to begin one.
func (d *door) sendHome(stop <-chan struct{}) {
	tick := time.NewTicker(drainFor)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		d.mu.Lock()
		for _, p := range d.open {
			p.sendHome()
		}
		d.mu.Unlock()
	}
}

// porch is a listener that outlasts a shortage: fasthttp takes any error of Accept for the end, and a server that ran out
// of file descriptors for a moment would end with all its sessions.
type porch struct {
	net.Listener
	tls    *tls.Config // nil: plain
	guests *guests
	log    *slog.Logger

	once   sync.Once
	closed atomic.Bool // written by Close
	queue  []net.Conn  // what stood in the kernel's queue when the listener closed; written once, before closed
	err    error       // of closing
	mu     sync.Mutex
	unused map[*visitor]struct{} // guarded by mu: connections that have not sent a byte yet
}

// Accept waits out what is going to pass, and hands out what stood in the queue when the listener closed.
func (p *porch) Accept() (net.Conn, error) {
	wait := shortage
	for {
		conn, err := p.Listener.Accept()
		if err != nil && p.closed.Load() && len(p.queue) > 0 {
			conn, p.queue, err = p.queue[0], p.queue[1:], nil
		}
		if err == nil {
			if v := p.visit(conn); v != nil {
				return v, nil
			}
			continue
		}
		if p.closed.Load() || !passing(err) {
			return nil, err
		}
		p.log.Warn("a connection could not be accepted", "error", err, "again_in", wait)
		time.Sleep(wait)
		wait = min(2*wait, time.Second)
	}
}

// shortage is how long it is first waited for descriptors.
const shortage = 5 * time.Millisecond

// passing reports whether an error of accept says nothing about the listener (accept(2)).
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close takes what clients believe is connected out of the kernel's queue, which closing would reset, and closes.
func (p *porch) Close() error {
	p.once.Do(func() {
		p.queue = drain(p.Listener)
		p.closed.Store(true)
		p.err = p.Listener.Close()
	})
	return p.err
}

// visit makes a visitor of a connection, nil if its client has too many. TLS is put on here, and not around the listener, so
// that Close can drain that one.
func (p *porch) visit(conn net.Conn) net.Conn {
	v := &visitor{Conn: conn, porch: p, addr: addrOf(conn.RemoteAddr())}
	if ok, tell := p.guests.enter(v.addr, time.Now()); !ok {
		if tell {
			p.log.Warn("a client has too many connections; its next ones are closed", "client", v.addr, "max_conns_per_ip", p.guests.max)
		}
		if _, encrypted := conn.(tlsConn); !encrypted && p.tls == nil { // an answer over TLS would wait for the client
			_, _ = conn.Write(p.guests.refuse()) // fits the socket's buffer, which is empty
		}
		_ = conn.Close()
		return nil
	}
	if p.tls != nil {
		v.Conn = tls.Server(conn, p.tls) // its handshake comes with the first read, in the goroutine that serves it
	}
	p.mu.Lock()
	p.unused[v] = struct{}{}
	p.mu.Unlock()
	if secure, ok := v.Conn.(tlsConn); ok {
		return secureVisitor{v, secure}
	}
	return v
}

func (p *porch) forget(v *visitor) {
	p.mu.Lock()
	delete(p.unused, v)
	p.mu.Unlock()
}

func (p *porch) sendHome() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for v := range p.unused {
		_ = v.Conn.Close() // its reader finds out, and closes the visitor
	}
}

// tlsConn is by what fasthttp knows that a connection is TLS.
type tlsConn interface {
	Handshake() error
	ConnectionState() tls.ConnectionState
}

// secureVisitor is a visitor over TLS.
type secureVisitor struct {
	*visitor
	tlsConn
}

// visitor is a connection that knows whether anything came over it.
type visitor struct {
	net.Conn
	porch *porch
	addr  netip.Addr
	used  bool // written by the one reader
	gone  sync.Once
}

func (v *visitor) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	if !v.used && n > 0 {
		v.used = true
		v.porch.forget(v)
	}
	return n, err
}

func (v *visitor) Close() error {
	v.gone.Do(func() {
		v.porch.forget(v)
		v.porch.guests.leave(v.addr)
	})
	return v.Conn.Close()
}
