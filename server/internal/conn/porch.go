package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// porch is a listener that outlasts a shortage: fasthttp takes any error of Accept for the end, and a server that ran out
// of file descriptors for a moment would end with all its sessions.
type porch struct {
	net.Listener
	tls    *tls.Config // nil: plain
	guests *Guests
	limits Limits
	log    *slog.Logger

	close  sync.Once
	end    sync.Once
	closed atomic.Bool   // written by Close
	cut    atomic.Bool   // the time to leave is over: connections end without a last word
	ended  chan struct{} // closed by the last Accept
	queue  []net.Conn    // what stood in the kernel's queue when the listener closed; written once, before closed
	err    error         // of closing

	mu       sync.Mutex
	visitors map[*visitor]struct{} // guarded by mu: the open connections
}

// Limits are how long a request or a response, and the wait for the next one, may take. Zero: as long as they like.
type Limits struct{ Request, Idle time.Duration }

func newPorch(ln net.Listener, secure *tls.Config, g *Guests, l Limits, log *slog.Logger) *porch {
	return &porch{Listener: ln, tls: secure, guests: g, limits: l, log: log, ended: make(chan struct{}), visitors: make(map[*visitor]struct{})}
}

// Accept waits out what is going to pass, and hands out what stood in the queue when the listener closed.
func (p *porch) Accept() (net.Conn, error) {
	wait := shortage
	for {
		conn, err := p.Listener.Accept()
		if err == nil {
			if v := p.visit(conn); v != nil {
				return v, nil
			}
			continue
		}
		if p.closed.Load() && len(p.queue) > 0 {
			conn, p.queue = p.queue[0], p.queue[1:]
			return conn, nil
		}
		if p.closed.Load() || !passing(err) {
			return nil, p.last(err)
		}
		p.log.Warn("a connection could not be accepted", "error", err, "again_in", wait)
		time.Sleep(wait)
		wait = min(2*wait, time.Second)
	}
}

// shortage is how long it is first waited for descriptors.
const shortage = 5 * time.Millisecond

// last notes that nobody is accepted any more.
func (p *porch) last(err error) error {
	p.end.Do(func() { close(p.ended) })
	return err
}

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
	p.close.Do(func() {
		for _, conn := range drain(p.Listener) {
			if v := p.visit(conn); v != nil {
				p.queue = append(p.queue, v)
			}
		}
		p.closed.Store(true)
		p.err = p.Listener.Close()
	})
	return p.err
}

// visit makes a visitor of a connection, nil if its client has too many. TLS is put on here, and not around the listener, so
// that Close can drain that one.
func (p *porch) visit(conn net.Conn) net.Conn {
	v := &visitor{porch: p, wire: newPatient(conn), came: time.Now(), remote: addrOf(conn.RemoteAddr())}
	v.Conn = v.wire
	secure, encrypted := conn.(tlsConn)
	if ok, tell := p.guests.enter(v.remote, v.came); !ok {
		if tell {
			p.log.Warn("a client has too many connections; its next ones are closed", "client", v.remote, "max_conns_per_ip", p.guests.Max)
		}
		if !encrypted && p.tls == nil { // an answer over TLS would wait for the client
			_, _ = conn.Write(p.guests.Refuse()) // fits the socket's buffer, which is empty
		}
		_ = conn.Close()
		return nil
	}
	if p.tls != nil {
		own := tls.Server(v.wire, p.tls)
		v.Conn, secure, encrypted = own, own, true
	}
	v.wire.expect(p.limits.Request, p.limits.Request)
	p.mu.Lock()
	p.visitors[v] = struct{}{}
	p.mu.Unlock()
	if encrypted {
		return secureVisitor{v, secure}
	}
	return v
}

func (p *porch) forget(v *visitor) {
	p.mu.Lock()
	delete(p.visitors, v)
	p.mu.Unlock()
}

// dismiss closes what stood in the queue and nobody accepts: the last Accept failed for another reason.
func (p *porch) dismiss() {
	for _, conn := range p.queue {
		_ = conn.Close()
	}
	p.queue = nil
}

// farewell lets everybody go who waits for nothing, and returns how many are still there. Unused connections are let go when
// they are older than grace.
func (p *porch) farewell(grace time.Duration) (left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for v := range p.visitors {
		v.farewell(grace)
	}
	return len(p.visitors)
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

// Handshake is what fasthttp calls first, in the goroutine that serves the connection. Where TLS is the listener's own, the
// handshake goes past the wire.
func (v secureVisitor) Handshake() error {
	if err := v.wire.start(); err != nil {
		return err
	}
	err := v.tlsConn.Handshake()
	v.wire.began = false
	return err
}

// What a visitor is doing.
const (
	unused  int32 = iota // connected, and nothing has come yet
	busy                 // in the middle of a request
	waiting              // answered
)

// visitor is a connection that knows whether anybody waits for it, and for how long it may be waited.
type visitor struct {
	net.Conn // wire, or TLS over it
	wire     *patient
	porch    *porch
	remote   netip.Addr // of the other end
	came     time.Time
	state    atomic.Int32 // written by the goroutine that serves it
	gone     sync.Once
}

// visitorOf is what a connection that a porch handed out is, or nil.
func visitorOf(conn net.Conn) *visitor {
	switch c := conn.(type) {
	case *visitor:
		return c
	case secureVisitor:
		return c.visitor
	}
	return nil
}

// noteState is fasthttp's ConnState.
func noteState(conn net.Conn, state fasthttp.ConnState) {
	if v := visitorOf(conn); v != nil {
		v.note(state)
	}
}

func (v *visitor) note(state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive:
		v.begin()
	case fasthttp.StateIdle:
		v.wire.expect(v.porch.limits.Idle, v.porch.limits.Request)
		v.state.Store(waiting)
	}
}

// begin notes that a request has come, or a part of it. The time to read the first one counts from when it was first waited for,
// a handshake included.
func (v *visitor) begin() {
	switch v.state.Load() {
	case busy:
		return
	case unused:
		v.wire.writes.begin(v.porch.limits.Request)
	case waiting:
		v.wire.expect(v.porch.limits.Request, v.porch.limits.Request)
	}
	v.state.Store(busy)
}

// Read marks the visitor as busy as soon as anything comes. Who was told to leave hears the end, unless a request came
// meanwhile: a deadline that has passed hides it.
func (v *visitor) Read(b []byte) (int, error) {
	n, err := v.Conn.Read(b)
	if n > 0 || err == nil {
		v.begin()
		return n, err
	}
	state := v.state.Load()
	if v.wire.leaving.Load() {
		patience := drainFor // it is there
		switch {
		case state == busy, v.wire.began:
			patience = v.porch.limits.Request // it had just begun; over TLS a record may be there in part
		case !unread(v.Conn):
			return 0, io.EOF
		}
		v.wire.stay(patience)
		if n, err = v.Conn.Read(b); n > 0 {
			v.begin()
		}
		return n, err
	}
	if state == unused && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, io.EOF // no 408: a client that takes this connection up at last would take that for its answer
	}
	return n, err
}

// farewell ends the wait for a next request, unless one is there and has not been read yet. Browsers open connections in
// advance; one that has not been used gets grace from its opening to begin a request. The deadline and not a Close: where a
// request comes at this very moment, Read finds it.
func (v *visitor) farewell(grace time.Duration) {
	switch v.state.Load() {
	case busy:
		return
	case unused:
		if time.Since(v.came) < grace {
			return
		}
	}
	if !unread(v.Conn) {
		v.wire.interrupt()
	}
}

func (v *visitor) Close() error {
	v.gone.Do(func() {
		v.porch.forget(v)
		v.porch.guests.leave(v.remote)
	})
	if v.porch.cut.Load() || v.wire.stuck {
		// TLS would say a last word: at the side of the goroutine that serves, or to one who takes nothing any more.
		return v.wire.Close()
	}
	return v.Conn.Close()
}

// RemoteAddr is the address of the other end of the request's connection, without the zone of a link-local one.
func RemoteAddr(ctx *fasthttp.RequestCtx) netip.Addr {
	if v := visitorOf(ctx.Conn()); v != nil {
		return v.remote
	}
	return addrOf(ctx.RemoteAddr())
}

func addrOf(end net.Addr) netip.Addr {
	tcp, ok := end.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap()
}
