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

// deadlineConn is a connection that keeps its own time. fasthttp would look at the clock and tell the network poller of a deadline
// three times a request, though most of what it reads and writes need not be waited for: here the system call is made first,
// and only who is about to wait looks at the clock. The poller hears only of a deadline that comes before the one it knows, so
// of one in seconds; when that has passed and no longer counts, it is told of the one that does (decision 34
// has the measurement).
//
// Of a connection that is not a socket of Go's own nothing can be tried: one that wraps a socket may do more than it. There the
// poller hears of each new end before the first call, because TLS below would take an end that has passed for its own.
//
// It belongs to the goroutine that serves it, but for interrupt and Close.
type deadlineConn struct {
	net.Conn
	raw         syscall.RawConn // nil: it cannot be tried
	reads       deadline
	writes      deadline
	received    bool        // something has come since expect
	writeFailed bool        // a write has failed
	interrupted atomic.Bool // written by interrupt and stay

	// What tryRead and tryWrite are about. They are made once, because a closure for each call would be an allocation.
	onReadable, onWritable func(fd uintptr) bool
	in, out                []byte
	n                      int
	err                    error
}

func newDeadlineConn(conn net.Conn) *deadlineConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return newDeadlineConnOn(conn, c)
	case *net.UnixConn:
		return newDeadlineConnOn(conn, c)
	}
	return newDeadlineConnOn(conn, nil)
}

// newDeadlineConnOn is newPatient of a connection that does what its socket does; nil: that is not known.
func newDeadlineConnOn(conn net.Conn, socket syscall.Conn) *deadlineConn {
	p := &deadlineConn{Conn: conn}
	p.reads.set, p.writes.set = conn.SetReadDeadline, conn.SetWriteDeadline
	if socket != nil && canTry {
		if raw, err := socket.SyscallConn(); err == nil {
			p.raw, p.onReadable, p.onWritable = raw, p.tryRead, p.tryWrite
		}
	}
	return p
}

// NetConn is the connection below, as with crypto/tls.
func (p *deadlineConn) NetConn() net.Conn { return p.Conn }

// setTimeouts begins new allowances: what is read, and what is written, from now on may take so long, from when it is first waited for.
// Zero: as long as it likes.
func (p *deadlineConn) setTimeouts(read, write time.Duration) {
	p.received = false
	p.reads.begin(read)
	p.writes.begin(write)
}

// start lets the time of both run from now, for what does not read and write through p.
func (p *deadlineConn) start() error { return errors.Join(p.reads.tell(), p.writes.tell()) }

// interruptRead ends a read that waits, or the next one that is about to. One that comes when the read has just told the poller of
// another deadline is lost, so whoever means it says it again.
func (p *deadlineConn) interruptRead() {
	p.interrupted.Store(true)
	_ = p.SetReadDeadline(time.Unix(1, 0)) // a connection that cannot be told is closed already
}

// resumeRead takes an interrupt back. What is read next may take so long.
func (p *deadlineConn) resumeRead(d time.Duration) {
	p.interrupted.Store(false)
	p.reads.begin(d)
	_ = p.reads.tell() // as above
}

func (p *deadlineConn) Read(b []byte) (int, error) {
	for {
		n, err := p.readOnce(b)
		if n > 0 {
			p.received = true
		}
		if n > 0 || err == nil || p.raw == nil || p.interrupted.Load() || !p.reads.superseded(err) {
			return n, err
		}
	}
}

func (p *deadlineConn) readOnce(b []byte) (int, error) {
	if p.raw == nil || len(b) == 0 {
		if err := p.reads.sync(); err != nil {
			return 0, err
		}
		return p.Conn.Read(b)
	}
	p.in, p.n, p.err = b, 0, nil
	err := p.raw.Read(p.onReadable)
	if err == nil {
		err = p.err
	}
	return p.n, err
}

// tryRead is what the poller calls now, and when there may be something to read. It reports whether the read is over.
func (p *deadlineConn) tryRead(fd uintptr) bool {
	n, err := readFD(fd, p.in)
	switch {
	case err == nil && n > 0:
		p.n = n
	case err == nil:
		p.err = io.EOF
	case errors.Is(err, syscall.EINTR):
		return p.tryRead(fd)
	case errors.Is(err, syscall.EAGAIN):
		p.err = p.reads.wait()
		return p.err != nil
	default:
		p.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	}
	return true
}

func (p *deadlineConn) Write(b []byte) (n int, err error) {
	for {
		some, err := p.writeOnce(b[n:])
		if n += some; err == nil || p.raw == nil || !p.writes.superseded(err) {
			p.writeFailed = p.writeFailed || err != nil
			return n, err
		}
	}
}

func (p *deadlineConn) writeOnce(b []byte) (int, error) {
	if p.raw == nil || len(b) == 0 {
		if err := p.writes.sync(); err != nil {
			return 0, err
		}
		return p.Conn.Write(b)
	}
	p.out, p.n, p.err = b, 0, nil
	err := p.raw.Write(p.onWritable)
	if err == nil {
		err = p.err
	}
	return p.n, err
}

// tryWrite is readNow for what is left to write.
func (p *deadlineConn) tryWrite(fd uintptr) bool {
	for p.n < len(p.out) {
		n, err := writeFD(fd, p.out[p.n:])
		switch {
		case err == nil:
			p.n += n
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			p.err = p.writes.wait()
			return p.err != nil
		default:
			p.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
			return true
		}
	}
	return true
}

// deadline bounds how long something may take that a connection reads, or writes. The zero value bounds nothing. Times are since
// epoch.
type deadline struct {
	max  time.Duration // from when it is first waited for; 0: no bound
	by   time.Duration // when it is over; 0: nobody has waited yet
	told time.Duration // the deadline that the poller knows; 0: none
	set  func(time.Time) error
}

var epoch = time.Now()

func (s *deadline) begin(most time.Duration) { s.max, s.by = most, 0 }

// end is when it is over, counted from now if nobody has waited yet.
func (s *deadline) end() time.Duration {
	if s.max > 0 && s.by == 0 {
		now := time.Since(epoch)
		s.by = now + min(s.max, math.MaxInt64-now)
	}
	return s.by
}

// wait is called by who is about to wait. An earlier end that the poller knows is let pass: see goesOn.
func (s *deadline) wait() error {
	if s.told != 0 && s.told < s.end() {
		return nil
	}
	return s.sync()
}

// tellNew tells the poller of the end, unless it knows.
func (s *deadline) sync() error {
	if s.told == s.end() {
		return nil
	}
	return s.tell()
}

func (s *deadline) tell() error {
	s.told = s.end()
	if s.told == 0 {
		return s.set(time.Time{})
	}
	return s.set(epoch.Add(s.told))
}

// superseded reports whether err comes from an end that the poller was told of and that does not count any more; then it knows the
// one that does.
func (s *deadline) superseded(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := time.Since(epoch)
	if s.told == 0 || s.told > now || s.by != 0 && s.by <= now {
		return false
	}
	return s.tell() == nil
}
