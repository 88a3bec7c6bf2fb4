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

	"github.com/valyala/fasthttp"
)

// Options say how a Server treats its connections.
type Options struct {
	// RequestTimeout bounds reading a request, a TLS handshake included, and writing a response. Zero: no bound.
	RequestTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Zero: no bound. The connection is closed a twentieth of it
	// later, at least 100 ms: a proxy that has the same timeout is then the one that closes, and loses no request.
	IdleTimeout time.Duration
	// MaxConns bounds the open connections, see evict.go. Zero: no bound.
	MaxConns int
	// MaxPerClient bounds the open connections of one client: of an IPv4 address, or of the /64 of an IPv6 address. Zero: no bound.
	MaxPerClient int
	// Refusal returns the HTTP response to a connection beyond MaxPerClient. A TLS connection is closed without a response.
	Refusal func() []byte
	// NotTLS returns the HTTP response to a client that speaks http where ServeTLS expects https. Nil: the connection is closed without
	// a response.
	NotTLS func() []byte
	// Log gets a line when connections cannot be accepted and when a client has too many. It must be set.
	Log *slog.Logger
}

// untilIdleEnds is for how long a connection waits for its next request.
func (o *Options) untilIdleEnds() time.Duration {
	if o.IdleTimeout <= 0 {
		return 0
	}
	return o.IdleTimeout + max(o.IdleTimeout/20, 100*time.Millisecond)
}

// Server accepts connections of any number of listeners for one fasthttp.Server, until it is drained.
type Server struct {
	http  *fasthttp.Server
	opts  Options
	limit connLimit
	// discarding has an element for each connection whose input is thrown away.
	discarding chan struct{}

	abort atomic.Bool // written once, by drain: remaining connections are closed without TLS's close_notify

	mu        sync.Mutex
	draining  bool                      // guarded by mu
	listeners []*listener               // guarded by mu
	open      map[*trackedConn]struct{} // guarded by mu
}

// New returns a Server that serves with srv, which must have no timeouts of its own. New sets srv's ConnState and ReduceMemoryUsage;
// with the latter a RequestCtx does not know when its connection began, and each answer is sent on its own.
func New(srv *fasthttp.Server, opts Options) *Server {
	srv.ConnState = setState
	srv.ReduceMemoryUsage = true // see readahead.go
	return &Server{
		http: srv, opts: opts, limit: connLimit{max: opts.MaxPerClient}, open: make(map[*trackedConn]struct{}),
		discarding: make(chan struct{}, maxDiscarding),
	}
}

// Serve serves the connections of ln until Drain. Before Drain it returns only if ln fails. Called after Drain, it closes ln.
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, nil) }

// ServeTLS is Serve over TLS. It copies cfg for its certificates: HTTP/1.1 is the only protocol that is offered (RFC 7301),
// and TLS 1.2 the lowest version. A slow handshake holds up no other connection, and one for which more
// than maxHandshake bytes arrive fails.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	return s.serve(ln, cfg)
}

// Connections returns how many connections are open, those of streams included.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *Server) serve(ln net.Listener, cfg *tls.Config) error {
	l := newListener(s, ln, cfg)
	s.mu.Lock()
	if s.draining { // fasthttp would forget a Shutdown that came before Serve
		s.mu.Unlock()
		return ln.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	return s.http.Serve(l)
}

// listener is the listener that fasthttp gets. fasthttp stops at every error of Accept, so Accept retries after temporary
// ones.
type listener struct {
	net.Listener
	server    *Server
	tls       *tls.Config // nil: plain HTTP
	closeOnce func() error
	closed    atomic.Bool   // written by Close, after backlog
	backlog   []net.Conn    // what was in the kernel's accept backlog at Close; from then on only Accept uses it, until done
	done      chan struct{} // closed when Accept has failed for good
	endOnce   func()        // closes done
	warned    time.Time     // when warn logged last; used by Accept, as failures is
	failures  int           // since then
}

func newListener(s *Server, ln net.Listener, cfg *tls.Config) *listener {
	l := &listener{Listener: ln, server: s, tls: cfg, done: make(chan struct{})}
	l.closeOnce = sync.OnceValue(l.acceptRestAndClose)
	l.endOnce = sync.OnceFunc(func() { close(l.done) })
	return l
}

const (
	minRetry = 5 * time.Millisecond // between two tries to accept
	maxRetry = time.Second

	warnEvery = time.Second // as any kind of line: 60 a minute
)

// Accept returns the next connection that is not over its client's limit. After Close it returns those of the backlog.
func (l *listener) Accept() (net.Conn, error) {
	retry := minRetry
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			if c := l.track(conn); c != nil {
				l.makeRoom(tracked(c))
				return c, nil
			}
			continue
		}
		closed := l.closed.Load()
		if closed && len(l.backlog) > 0 {
			conn, l.backlog = l.backlog[0], l.backlog[1:]
			return conn, nil
		}
		if closed || !temporary(err) {
			l.endOnce()
			return nil, err
		}
		l.warn(err)
		time.Sleep(retry)
		retry = min(2*retry, maxRetry)
	}
}

// warn logs that a connection could not be accepted, at most once a second: clients can cause it at any rate. It is called by Accept
// only.
func (l *listener) warn(err error) {
	l.failures++
	if !l.warned.IsZero() && time.Since(l.warned) < warnEvery {
		return
	}
	l.server.opts.Log.Warn("connections could not be accepted", "error", err, "count", l.failures)
	l.warned, l.failures = time.Now(), 0
}

// temporary reports whether an error of accept(2) leaves the listener usable.
func temporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close closes the listener. It accepts the backlog first, because closing resets the connections in the kernel's accept
// backlog.
func (l *listener) Close() error { return l.closeOnce() }

func (l *listener) acceptRestAndClose() error {
	for _, conn := range acceptBacklog(l.Listener) {
		if c := l.track(conn); c != nil {
			l.backlog = append(l.backlog, c)
		}
	}
	l.closed.Store(true)
	return l.Listener.Close()
}

// track wraps conn in a tracked connection, or closes it and returns nil if its client has too many. TLS is added here and
// not around the listener, because acceptBacklog needs the TCP listener.
func (l *listener) track(conn net.Conn) net.Conn {
	s := l.server
	c := &trackedConn{server: s, wire: newDeadlineConn(conn), accepted: time.Now(), remote: addrOf(conn.RemoteAddr())}
	c.Conn = c.wire
	c.wire.reads.from.Store(int64(c.accepted.Sub(epoch)))
	secure, encrypted := conn.(tlsConn) // ln itself speaks TLS
	if ok, warn := s.limit.acquire(c.remote, c.accepted); !ok {
		if warn {
			s.opts.Log.Warn("a client has too many connections; its next ones are closed", "client", c.remote, "max_conns_per_ip", s.limit.max)
		}
		if encrypted || l.tls != nil { // a response would have to wait for the client's handshake
			_ = conn.Close()
			return nil
		}
		_, _ = conn.Write(s.opts.Refusal()) // does not block: the socket's buffer is empty
		go c.discardAndClose()
		return nil
	}
	if l.tls != nil {
		own := tls.Server(c.wire, l.tls)
		c.Conn, secure, encrypted = own, own, true
	}
	c.wire.setTimeouts(s.opts.RequestTimeout, s.opts.RequestTimeout)
	s.add(c)
	if encrypted {
		return tlsTrackedConn{c, secure}
	}
	return c
}

func (s *Server) add(c *trackedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
}

func (s *Server) remove(c *trackedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}
