package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errNoConnection is wrapped by every error of a dialer: nothing was sent.
var errNoConnection = errors.New("no connection")

// dialFunc is rueidis' way to ask for a connection.
type dialFunc func(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error)

// dialer makes connections for rueidis. rueidis dials in the course of a command, and lets the commands that come meanwhile
// wait for that dial, whatever their own deadlines are. So a caller with a deadline waits for a short while only, and a
// connection that takes longer is kept for the next caller: all callers get their error in time, and a distant Redis can
// still be reached. A connection counts as made when the server has answered, because the kernel accepts connections even
// for a server that hangs.
type dialer struct {
	base       dialFunc
	callerWait time.Duration
	made       func() // called for each new connection that may carry invalidations, before anything is sent over it

	ctx    context.Context //nolint:containedctx // the life of all dials; ended by close
	cancel context.CancelFunc

	mu        sync.Mutex
	conns     map[*trackedConn]bool    // all that are open; guarded by mu
	forbidden []string                 // addresses to which no connection is made; guarded by mu
	closedAt  time.Time                // when closeAll last did something; guarded by mu
	late      map[string][]chan dialed // dials by address that no caller waits for; guarded by mu; nil once closed
}

// aloneKey marks the context of commands that go over a connection of their own, on which nothing is cached.
type aloneKey struct{}

type dialed struct {
	conn net.Conn
	err  error
}

func newDialer(base dialFunc, callerWait time.Duration, made func()) *dialer {
	if base == nil {
		base = dialTCP
	}
	d := &dialer{base: base, callerWait: callerWait, made: made, conns: make(map[*trackedConn]bool), late: make(map[string][]chan dialed)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

func dialTCP(ctx context.Context, addr string, d *net.Dialer, conf *tls.Config) (net.Conn, error) {
	if conf == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	conn, err := (&tls.Dialer{NetDialer: d, Config: conf}).DialContext(ctx, "tcp", addr)
	if noTLS := (tls.RecordHeaderError{}); errors.As(err, &noTLS) || err == context.DeadlineExceeded { //nolint:errorlint // that of the handshake; dialing has a net.OpError
		return nil, fmt.Errorf("no TLS handshake with %s, which may be a port for plain text: %w", addr, err)
	}
	return conn, err
}

func (d *dialer) dial(ctx context.Context, addr string, nd *net.Dialer, conf *tls.Config) (net.Conn, error) {
	if d.forbids(addr) {
		return nil, fmt.Errorf("%w: the Cluster does not know %s any more", errNoConnection, addr)
	}
	ch := d.pop(addr)
	if ch == nil {
		ch = d.start(addr, nd, conf)
	}
	var giveUp <-chan time.Time
	if _, ok := ctx.Deadline(); ok {
		timer := time.NewTimer(d.callerWait)
		defer timer.Stop()
		giveUp = timer.C
	}
	select {
	case r := <-ch:
		if r.err != nil {
			return nil, fmt.Errorf("%w: %w", errNoConnection, r.err)
		}
		if ctx.Value(aloneKey{}) == nil {
			d.made()
		}
		return d.track(r.conn, addr), nil
	case <-giveUp:
	case <-ctx.Done():
	}
	d.push(addr, ch)
	return nil, fmt.Errorf("%w yet to %s", errNoConnection, addr)
}

func (d *dialer) start(addr string, nd *net.Dialer, conf *tls.Config) chan dialed {
	ch := make(chan dialed, 1)
	go func() {
		ctx, cancel := context.WithTimeout(d.ctx, nd.Timeout)
		defer cancel()
		conn, err := d.base(ctx, addr, nd, conf)
		if err == nil {
			if err = greet(ctx, conn); err != nil {
				_ = conn.Close()
				conn = nil
			}
			if conf == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
				err = fmt.Errorf("%s ends a connection without an answer; if it is a port for TLS, the URL begins with rediss://: %w", addr, err)
			}
		}
		ch <- dialed{conn, err}
	}()
	return ch
}

// errRefused is what a server said that will not serve a connection, and ends it.
var errRefused = errors.New("connection refused by Redis")

// greet waits for an answer to PING. Any line will do, even the error that the client must authenticate first, but not one
// with which Redis ends a connection: too many clients, or its protected mode.
func greet(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	var line []byte
	for b := []byte{0}; b[0] != '\n'; {
		if _, err := conn.Read(b); err != nil {
			return err
		}
		if len(line) < maxQuoted {
			line = append(line, b[0])
		}
	}
	if !stop() {
		return ctx.Err()
	}
	if said, isError := strings.CutPrefix(string(line), "-"); isError {
		for _, refusal := range []string{"ERR max number of clients", "DENIED "} {
			if strings.HasPrefix(said, refusal) {
				return quoted(fmt.Errorf("%w: %s", errRefused, strings.TrimSpace(said)))
			}
		}
	}
	return nil
}

// pop takes over a dial that another caller gave up waiting for. Dials that have failed meanwhile are dropped, because they
// say nothing about the present.
func (d *dialer) pop(addr string) chan dialed {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.late[addr]) > 0 {
		ch := d.late[addr][0]
		d.late[addr] = d.late[addr][1:]
		select {
		case r := <-ch:
			if r.err != nil {
				continue
			}
			ch <- r
		default:
		}
		return ch
	}
	return nil
}

func (d *dialer) push(addr string, ch chan dialed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late == nil {
		go discard(ch)
		return
	}
	d.late[addr] = append(d.late[addr], ch)
}

func discard(ch chan dialed) {
	if r := <-ch; r.conn != nil {
		_ = r.conn.Close()
	}
}

// close ends the dials under way and closes connections that no caller has taken over.
func (d *dialer) close() {
	d.cancel()
	d.mu.Lock()
	late := d.late
	d.late = nil
	d.mu.Unlock()
	for _, chs := range late {
		for _, ch := range chs {
			discard(ch)
		}
	}
}

// trackedConn is a connection that the dialer can close. rueidis takes that for a loss of the connection.
type trackedConn struct {
	net.Conn
	dialer *dialer
	addr   string
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

func (d *dialer) track(conn net.Conn, addr string) net.Conn {
	c := &trackedConn{conn, d, addr}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = true
	return c
}

// closeAll closes all connections, at most once in watchEvery: where the new ones lead to the same server, nothing is gained.
func (d *dialer) closeAll() {
	d.mu.Lock()
	again := time.Since(d.closedAt) >= watchEvery
	if again {
		d.closedAt = time.Now()
	}
	d.mu.Unlock()
	if again {
		d.closeWhere(func(string) bool { return true })
	}
}

// closeWhere closes the connections to some addresses, and those that no caller has taken over yet.
func (d *dialer) closeWhere(f func(addr string) bool) {
	var found []*trackedConn
	d.mu.Lock()
	for c := range d.conns {
		if f(c.addr) {
			found = append(found, c)
		}
	}
	for addr, chs := range d.late {
		if f(addr) {
			delete(d.late, addr)
			for _, ch := range chs {
				go discard(ch) // the dial may be under way
			}
		}
	}
	d.mu.Unlock()
	for _, c := range found {
		_ = c.Close() // what it returns concerns nobody: nothing more is sent
	}
}

// forbid lets no connection be open to these addresses, until it is called without them.
func (d *dialer) forbid(addrs []string) {
	d.mu.Lock()
	d.forbidden = addrs
	d.mu.Unlock()
	if len(addrs) > 0 {
		d.closeWhere(func(addr string) bool { return slices.Contains(addrs, addr) })
	}
}

func (d *dialer) forbids(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.forbidden, addr)
}
