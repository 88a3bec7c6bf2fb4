package conn

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener is a listener that outlasts a shortage: fasthttp takes any error of Accept for the end, and a server that ran out
// of file descriptors for a moment would end with all its sessions.
type listener struct {
	net.Listener
	tls      *tls.Config // nil: plain
	limit    *ConnLimit
	timeouts Timeouts
	log      *slog.Logger

	close     sync.Once
	end       sync.Once
	closed    atomic.Bool   // written by Close
	hardClose atomic.Bool   // the time to leave is over: connections end without a last word
	ended     chan struct{} // closed by the last Accept
	backlog   []net.Conn    // what stood in the kernel's queue when the listener closed; written once, before closed
	err       error         // of closing

	mu    sync.Mutex
	conns map[*trackedConn]struct{} // guarded by mu: the open connections
}

// Timeouts are how long a request or a response, and the wait for the next one, may take. Zero: as long as they like.
type Timeouts struct{ Request, Idle time.Duration }

func newListener(ln net.Listener, secure *tls.Config, g *ConnLimit, l Timeouts, log *slog.Logger) *listener {
	return &listener{Listener: ln, tls: secure, limit: g, timeouts: l, log: log, ended: make(chan struct{}), conns: make(map[*trackedConn]struct{})}
}

// Accept waits out what is going to pass, and hands out what stood in the queue when the listener closed.
func (p *listener) Accept() (net.Conn, error) {
	wait := firstRetry
	for {
		conn, err := p.Listener.Accept()
		if err == nil {
			if v := p.track(conn); v != nil {
				return v, nil
			}
			continue
		}
		if p.closed.Load() && len(p.backlog) > 0 {
			conn, p.backlog = p.backlog[0], p.backlog[1:]
			return conn, nil
		}
		if p.closed.Load() || !temporary(err) {
			return nil, p.acceptFailed(err)
		}
		p.log.Warn("a connection could not be accepted", "error", err, "again_in", wait)
		time.Sleep(wait)
		wait = min(2*wait, time.Second)
	}
}

// firstRetry is how long it is first waited for descriptors.
const firstRetry = 5 * time.Millisecond

// acceptFailed notes that nobody is accepted any more.
func (p *listener) acceptFailed(err error) error {
	p.end.Do(func() { close(p.ended) })
	return err
}

// temporary reports whether an error of accept says nothing about the listener (accept(2)).
func temporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close takes what clients believe is connected out of the kernel's queue, which closing would reset, and closes.
func (p *listener) Close() error {
	p.close.Do(func() {
		for _, conn := range acceptBacklog(p.Listener) {
			if v := p.track(conn); v != nil {
				p.backlog = append(p.backlog, v)
			}
		}
		p.closed.Store(true)
		p.err = p.Listener.Close()
	})
	return p.err
}

// track makes a visitor of a connection, nil if its client has too many. TLS is put on here, and not around the listener, so
// that Close can drain that one.
func (p *listener) track(conn net.Conn) net.Conn {
	v := &trackedConn{listener: p, wire: newDeadlineConn(conn), accepted: time.Now(), remote: addrOf(conn.RemoteAddr())}
	v.Conn = v.wire
	secure, encrypted := conn.(tlsConn)
	if ok, tell := p.limit.acquire(v.remote, v.accepted); !ok {
		if tell {
			p.log.Warn("a client has too many connections; its next ones are closed", "client", v.remote, "max_conns_per_ip", p.limit.Max)
		}
		if !encrypted && p.tls == nil { // an answer over TLS would wait for the client
			_, _ = conn.Write(p.limit.Refusal()) // fits the socket's buffer, which is empty
		}
		_ = conn.Close()
		return nil
	}
	if p.tls != nil {
		own := tls.Server(v.wire, p.tls)
		v.Conn, secure, encrypted = own, own, true
	}
	v.wire.setTimeouts(p.timeouts.Request, p.timeouts.Request)
	p.mu.Lock()
	p.conns[v] = struct{}{}
	p.mu.Unlock()
	if encrypted {
		return tlsTrackedConn{v, secure}
	}
	return v
}

func (p *listener) untrack(v *trackedConn) {
	p.mu.Lock()
	delete(p.conns, v)
	p.mu.Unlock()
}

// closeBacklog closes what stood in the queue and nobody accepts: the last Accept failed for another reason.
func (p *listener) closeBacklog() {
	for _, conn := range p.backlog {
		_ = conn.Close()
	}
	p.backlog = nil
}

// closeIdle lets everybody go who waits for nothing, and returns how many are still there. Unused connections are let go when
// they are older than grace.
func (p *listener) closeIdle(grace time.Duration) (left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for v := range p.conns {
		v.closeIdle(grace)
	}
	return len(p.conns)
}
