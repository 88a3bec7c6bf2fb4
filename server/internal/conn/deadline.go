package conn

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// deadlineConn is a connection with lazy deadlines. With fasthttp's own timeouts each request looks at the clock and sets a
// deadline in Go's network poller three times, though most reads find bytes and most writes fit the socket's buffer. Here the
// system call comes first. Only when it would block does a deadline begin to count, and the poller gets it only if it is
// earlier than the deadline that the poller has. When the poller's deadline passes and no longer counts, the poller gets the
// current one, and the read or write goes on.
//
// A connection that is not one of Go's sockets is read and written through its own methods, and its deadlines are set before
// each read and write: TLS inside it would take a passed deadline for its own.
//
// It is used by the goroutine that serves it, except for interruptRead and Close.
type deadlineConn struct {
	net.Conn
	raw         syscall.RawConn // nil: not one of Go's sockets
	reads       deadline
	writes      deadline
	received    bool        // bytes were read since setTimeouts
	writeFailed bool        // a write has failed
	interrupted atomic.Bool // written by interruptRead and resumeRead

	// The call in progress. The two functions are made once, because a closure for each call would be an allocation.
	onReadable, onWritable func(fd uintptr) (done bool)
	buf                    []byte
	n                      int
	err                    error
}

func newDeadlineConn(conn net.Conn) *deadlineConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return newSocketConn(conn, c)
	case *net.UnixConn:
		return newSocketConn(conn, c)
	}
	return newSocketConn(conn, nil) // it may wrap a socket, and do more than it
}

// newSocketConn is newDeadlineConn for a conn that does no more than its socket does. A nil socket means that this is not known.
func newSocketConn(conn net.Conn, socket syscall.Conn) *deadlineConn {
	c := &deadlineConn{Conn: conn}
	c.reads.set, c.writes.set = conn.SetReadDeadline, conn.SetWriteDeadline
	if socket != nil && canTry {
		if raw, err := socket.SyscallConn(); err == nil {
			c.raw, c.onReadable, c.onWritable = raw, c.tryRead, c.tryWrite
		}
	}
	return c
}

// NetConn returns the underlying connection, as that of tls.Conn does.
func (c *deadlineConn) NetConn() net.Conn { return c.Conn }

// setTimeouts bounds all reads from now on, together, and all writes. Each bound counts from its first wait. Zero: no limit.
func (c *deadlineConn) setTimeouts(read, write time.Duration) {
	c.received = false
	c.reads.reset(read)
	c.writes.reset(write)
}

// startNow starts both deadlines now.
func (c *deadlineConn) startNow() error { return errors.Join(c.reads.tell(), c.writes.tell()) }

// interruptRead makes the read in progress, or the next one that blocks, fail. The interruption is lost if that read sets its
// deadline at the same moment, so callers repeat it.
func (c *deadlineConn) interruptRead() {
	c.interrupted.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
}

// resumeRead undoes interruptRead, and bounds the reads from now on by timeout.
func (c *deadlineConn) resumeRead(timeout time.Duration) {
	c.interrupted.Store(false)
	c.reads.reset(timeout)
	_ = c.reads.tell() // as above
}

func (c *deadlineConn) Read(b []byte) (int, error) {
	for {
		n, err := c.readOnce(b)
		if n > 0 {
			c.received = true
		}
		if n > 0 || err == nil || c.raw == nil || c.interrupted.Load() || !c.reads.superseded(err) {
			return n, err
		}
	}
}

func (c *deadlineConn) readOnce(b []byte) (int, error) {
	if c.raw == nil || len(b) == 0 {
		if err := c.reads.sync(); err != nil {
			return 0, err
		}
		return c.Conn.Read(b)
	}
	c.buf, c.n, c.err = b, 0, nil
	return c.result(c.raw.Read(c.onReadable))
}

// result returns the result of the call in progress; err is the poller's error.
func (c *deadlineConn) result(err error) (int, error) {
	c.buf = nil
	if err == nil {
		err = c.err
	}
	return c.n, err
}

// tryRead is called by RawConn.Read at once, and again whenever the socket may have become readable.
func (c *deadlineConn) tryRead(fd uintptr) (done bool) {
	n, err := readFD(fd, c.buf)
	switch {
	case err == nil && n > 0:
		c.n = n
	case err == nil:
		c.err = io.EOF
	case errors.Is(err, syscall.EINTR):
		return c.tryRead(fd)
	case errors.Is(err, syscall.EAGAIN):
		c.err = c.reads.beforeWait()
		return c.err != nil
	default:
		c.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	}
	return true
}

func (c *deadlineConn) Write(b []byte) (n int, err error) {
	for {
		written, err := c.writeOnce(b[n:])
		if n += written; err == nil || c.raw == nil || !c.writes.superseded(err) {
			c.writeFailed = c.writeFailed || err != nil
			return n, err
		}
	}
}

func (c *deadlineConn) writeOnce(b []byte) (int, error) {
	if c.raw == nil || len(b) == 0 {
		if err := c.writes.sync(); err != nil {
			return 0, err
		}
		return c.Conn.Write(b)
	}
	c.buf, c.n, c.err = b, 0, nil
	return c.result(c.raw.Write(c.onWritable))
}

// tryWrite is tryRead for writing. It is done when all bytes are written.
func (c *deadlineConn) tryWrite(fd uintptr) (done bool) {
	for c.n < len(c.buf) {
		n, err := writeFD(fd, c.buf[c.n:])
		switch {
		case err == nil:
			c.n += n
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			c.err = c.writes.beforeWait()
			return c.err != nil
		default:
			c.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
			return true
		}
	}
	return true
}

// deadline is a lazy deadline for reading or for writing. Points in time are durations since epoch. The zero value never passes.
type deadline struct {
	timeout time.Duration // counted from the first wait; 0: no limit
	at      time.Duration // when it passes; 0: no call has waited since reset, or there is no limit
	from    atomic.Int64  // when the first wait since reset began; before that, the one before it
	told    time.Duration // the deadline that the poller has; 0: none
	set     func(time.Time) error
}

var epoch = time.Now()

func (d *deadline) reset(timeout time.Duration) { d.timeout, d.at = timeout, 0 }

// start returns when the deadline passes, and fixes that time if no call has waited yet.
func (d *deadline) start() time.Duration {
	if d.timeout > 0 && d.at == 0 {
		now := time.Since(epoch)
		d.from.Store(int64(now))
		d.at = now + min(d.timeout, math.MaxInt64-now)
	}
	return d.at
}

// waiting returns how long ago the first wait since reset began. Any goroutine may call it.
func (d *deadline) waiting() time.Duration { return time.Since(epoch) - time.Duration(d.from.Load()) }

// beforeWait is called when a read or write is about to block. An earlier deadline that the poller has is left in place:
// superseded handles it if it passes.
func (d *deadline) beforeWait() error {
	if d.told != 0 && d.told < d.start() {
		return nil
	}
	return d.sync()
}

// sync sets the deadline in the poller, unless the poller has it.
func (d *deadline) sync() error {
	if d.told == d.start() {
		return nil
	}
	return d.tell()
}

func (d *deadline) tell() error {
	d.told = d.start()
	if d.told == 0 {
		return d.set(time.Time{})
	}
	return d.set(epoch.Add(d.told))
}

// superseded reports whether err comes from a deadline of the poller that no longer counts. The poller then has the current
// one.
func (d *deadline) superseded(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := time.Since(epoch)
	if d.told == 0 || d.told > now || d.at != 0 && d.at <= now {
		return false
	}
	return d.tell() == nil
}
