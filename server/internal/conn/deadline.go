package conn

import (
	"errors"
	"math"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// deadlineConn is a connection with lazy deadlines. With fasthttp's own timeouts each request looks at the clock and sets a
// deadline in Go's network poller three times. Here a read tells the poller only of a deadline that is earlier than the one that
// the poller has, and a write, which seldom waits, does not even look at the clock. When the poller's deadline passes and is not
// the one that counts, the poller gets another, and the read or write goes on.
//
// A connection that is not one of Go's sockets gets each new deadline: TLS inside it would take a passed deadline for its own.
//
// It is used by the goroutine that serves it, except for interruptRead and Close.
type deadlineConn struct {
	net.Conn
	socket      bool      // one of Go's
	readable    *readable // nil until awaitNext
	drained     bool      // the last read has left nothing in the socket
	awaits      bool      // the next read waits for the socket before it looks
	reads       deadline
	writes      deadline
	received    bool        // bytes were read since setTimeouts
	opaque      int         // bytes that were read since TLS last gave a part of a request
	opaqueMost  int         // a read fails when there are more; 0: no limit
	writeFailed bool        // a write has failed
	interrupted atomic.Bool // written by interruptRead and resumeRead
}

func newDeadlineConn(conn net.Conn) *deadlineConn {
	c := &deadlineConn{Conn: conn}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn: // anything else may wrap a socket, and do more than it
		c.socket = true
	}
	c.reads.set, c.writes.set = conn.SetReadDeadline, conn.SetWriteDeadline
	return c
}

// NetConn returns the underlying connection, as that of tls.Conn does. Nobody else may read it, not even by its RawConn.Read: the runtime
// ends the process where two wait for one socket.
func (c *deadlineConn) NetConn() net.Conn { return c.Conn }

// setTimeouts bounds all reads from now on, together, and all writes. Each bound counts from its first call. Zero: no limit.
func (c *deadlineConn) setTimeouts(read, write time.Duration) {
	c.received, c.awaits = false, false
	c.reads.reset(read)
	c.writes.reset(write)
}

// awaitNext makes the next read wait for the socket before it looks at it, if it is likely to be empty and the read has a timeout.
func (c *deadlineConn) awaitNext() {
	if !c.drained || c.reads.timeout <= 0 {
		return
	}
	if c.readable == nil {
		c.readable = newReadable(c.Conn)
	}
	c.awaits = c.readable != nil
}

// startNow starts both deadlines now.
func (c *deadlineConn) startNow() error { return errors.Join(c.reads.tell(), c.writes.tell()) }

// interruptRead makes the read in progress fail, and each one until resumeRead.
func (c *deadlineConn) interruptRead() {
	c.interrupted.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
}

// resumeRead undoes interruptRead, and bounds the reads from now on by timeout.
func (c *deadlineConn) resumeRead(timeout time.Duration) {
	c.interrupted.Store(false)
	c.awaits = false
	c.reads.reset(timeout)
	_ = c.reads.tell() // as above
}

// crypto/tls takes messages of a handshake of 64 KiB, at any time, and keeps the buffer for them as long as the connection.
const (
	// maxHandshake is how many bytes a client may send for a TLS handshake, some 2 KiB in general.
	maxHandshake = 8 << 10
	// maxRecord is how many it may send later before TLS gives a part of a request: a record (RFC 5246, section 6.2.3).
	maxRecord = 5 + 16<<10 + 2<<10
	// maxOpaqueRead is how much TLS gets at once: its buffer grows by what lies behind a record's beginning, and stays so.
	maxOpaqueRead = 4 << 10
)

var errOpaque = errors.New("the client's TLS messages are too long")

func (c *deadlineConn) Read(b []byte) (int, error) {
	if c.opaqueMost > 0 {
		if c.opaque > c.opaqueMost {
			return 0, errOpaque
		}
		b = b[:min(len(b), maxOpaqueRead)]
	}
	c.awaits = c.awaits && c.reads.soonAfterLast()
	if err := c.reads.before(c.socket, c.awaits); err != nil {
		return 0, err
	}
	for {
		if c.interrupted.Load() { // the poller may have got another deadline since
			return 0, os.ErrDeadlineExceeded
		}
		if c.awaits {
			c.awaits = false
			c.readable.await()
		}
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.received = true
			c.drained = n < len(b)
			c.opaque += n
		}
		if n > 0 || err == nil || !c.socket || !c.reads.superseded(err) {
			return n, err
		}
	}
}

func (c *deadlineConn) Write(b []byte) (n int, err error) {
	if err := c.writes.beforeWrite(c.socket); err != nil {
		return 0, err
	}
	for {
		written, err := c.Conn.Write(b[n:])
		if n += written; err == nil || !c.socket || !c.writes.superseded(err) {
			c.writeFailed = c.writeFailed || err != nil
			return n, err
		}
	}
}

// deadline is a lazy deadline for reading or for writing. Points in time are durations since epoch. The zero value never passes.
type deadline struct {
	timeout time.Duration // counted from the first call since reset; 0: no limit
	at      time.Duration // when it passes; 0: not fixed since reset, or there is no limit
	from    atomic.Int64  // when it was fixed; before that, the one before it
	told    time.Duration // the deadline that the poller has; 0: none
	guarded bool          // that one is for guard
	set     func(time.Time) error
}

var epoch = time.Now()

func (d *deadline) reset(timeout time.Duration) { d.timeout, d.at = timeout, 0 }

// start returns when the deadline passes, and fixes that time if it is not fixed yet.
func (d *deadline) start() time.Duration {
	if d.timeout > 0 && d.at == 0 {
		now := time.Since(epoch)
		d.from.Store(int64(now))
		d.at = now + min(d.timeout, math.MaxInt64-now)
	}
	return d.at
}

// waiting returns how long ago the deadline was fixed. Any goroutine may call it.
func (d *deadline) waiting() time.Duration { return time.Since(epoch) - time.Duration(d.from.Load()) }

// soonAfterLast fixes the deadline and reports whether the one before was fixed less than endSeenWithin ago.
func (d *deadline) soonAfterLast() bool {
	last := d.from.Load()
	d.start()
	return d.from.Load()-last < int64(endSeenWithin)
}

// before is called before a read, and fixes the deadline. An earlier one that the poller has is left in place if lazy: superseded
// handles it if it passes, as it does where readable awaits. That may miss an end, so the poller's deadline passes within endSeenWithin then.
func (d *deadline) before(lazy, awaits bool) error {
	at := d.start()
	if awaits {
		at = min(at, time.Duration(d.from.Load())+endSeenWithin)
	}
	if d.told == at || lazy && d.told != 0 && d.told < at {
		return nil
	}
	return d.tellAbout(at)
}

// beforeWrite is before for a write. If lazy, the deadline is fixed only when a write meets the poller's that has passed, and so
// late by up to a quarter of its timeout.
func (d *deadline) beforeWrite(lazy bool) error {
	switch {
	case lazy && d.guarded:
		return nil
	case lazy && d.at == 0 && d.timeout > 0:
		return d.guard()
	}
	return d.before(lazy, false)
}

// guard lets the poller's deadline pass in a quarter of the timeout.
func (d *deadline) guard() error {
	d.told, d.guarded = time.Since(epoch)+d.timeout/4, true
	return d.set(epoch.Add(d.told))
}

// tell gives the poller the deadline.
func (d *deadline) tell() error { return d.tellAbout(d.start()) }

// tellAbout gives the poller a deadline that is no later than start's.
func (d *deadline) tellAbout(at time.Duration) error {
	d.told, d.guarded = at, false
	if d.told == 0 {
		return d.set(time.Time{})
	}
	return d.set(epoch.Add(d.told))
}

// superseded reports whether err comes from a deadline of the poller that is not the one that counts. The poller then has another.
func (d *deadline) superseded(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := time.Since(epoch)
	if d.told == 0 || d.told > now || d.at != 0 && d.at <= now {
		return false
	}
	if d.at == 0 && d.timeout > 0 { // a write that need not wait: it is only the poller's deadline that has passed
		d.start()
		return d.guard() == nil
	}
	return d.tell() == nil
}
