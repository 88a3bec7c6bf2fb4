package openload

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// conn is a connection with at most one request on its way.
type conn struct {
	fd   int
	due  int64 // of the request on its way, in nanoseconds from the start
	free int64 // since when there is none
	buf  []byte
	n    int // bytes of the response in buf
}

// worker is a thread's share of the load: every Threads-th request, and some of the connections. Times are nanoseconds from the
// start.
type worker struct {
	Config
	nth   int
	epoll int
	conns []conn
	idle  []int // a queue of connections without a request, the one that waited longest at first
	first int   // of idle
	count int   // in idle
	start time.Time

	next     int // of the worker's requests
	answered int
	total    int

	latency, late []int64 // of the requests that count
	waited        int
	bytes         int64
	last          int64 // when the last response was read, be it one that counts or not
}

// Limits after which a run fails: that long no response comes, or that long after the last request was due some are unanswered.
const (
	patience = 10 * time.Second
	behind   = time.Minute
)

func newWorker(c Config, nth int) (w *worker, err error) {
	to, err := netip.ParseAddrPort(c.Address)
	if err != nil {
		return nil, err
	}
	all := int(c.Rate * (c.WarmUp + c.Duration).Seconds())
	w = &worker{Config: c, nth: nth, total: (all - nth + c.Threads - 1) / c.Threads}
	w.latency, w.late = make([]int64, 0, w.total), make([]int64, 0, w.total)
	if w.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	w.conns = make([]conn, (c.Connections-nth+c.Threads-1)/c.Threads)
	for i := range w.conns {
		w.conns[i] = conn{fd: -1, buf: make([]byte, 8192)}
		w.idle = append(w.idle, i)
	}
	w.count = len(w.idle)
	for i := range w.conns {
		if err := w.connect(i, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}); err != nil {
			w.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return w, nil
}

func (w *worker) connect(i int, to syscall.Sockaddr) (err error) {
	c := &w.conns[i]
	if c.fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
	return errors.Join(
		syscall.Connect(c.fd, to), syscall.SetNonblock(c.fd, true),
		syscall.SetsockoptInt(c.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.EpollCtl(w.epoll, syscall.EPOLL_CTL_ADD, c.fd, &event))
}

func (w *worker) close() {
	for _, c := range w.conns {
		_ = syscall.Close(c.fd) // -1 where there is none
	}
	_ = syscall.Close(w.epoll)
}

// now is the time since the start.
func (w *worker) now() int64 { return int64(time.Since(w.start)) }

// dueAt is when the worker's i-th request is due.
func (w *worker) dueAt(i int) int64 {
	return int64(float64(i*w.Threads+w.nth) * 1e9 / w.Rate)
}

// run sends what is due and reads what has come, until all requests are answered.
func (w *worker) run(start time.Time) error {
	w.start = start
	events := make([]syscall.EpollEvent, 64)
	for limit := w.dueAt(w.total) + behind.Nanoseconds(); w.answered < w.total; {
		if err := w.send(); err != nil {
			return err
		}
		n, err := poll(w.epoll, events)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if err := w.read(int(e.Fd)); err != nil {
				return err
			}
			if err := w.send(); err != nil { // what became due meanwhile does not wait for the other responses
				return err
			}
		}
		now := w.now()
		switch {
		case w.next > w.answered && now > w.last+patience.Nanoseconds() && now > w.dueAt(w.answered)+patience.Nanoseconds():
			return fmt.Errorf("%d requests are without a response, and none has come for %v", w.next-w.answered, patience)
		case now > limit:
			return fmt.Errorf("the server does not keep up: %v after the last of %d requests was due, %d have a response", behind, w.total, w.answered)
		}
	}
	return nil
}

// send sends the requests that are due, as far as connections are free.
func (w *worker) send() error {
	for w.next < w.total && w.count > 0 {
		due, now := w.dueAt(w.next), w.now()
		if now < due {
			return nil
		}
		c := &w.conns[w.idle[w.first]]
		w.first, w.count = (w.first+1)%len(w.idle), w.count-1
		if due >= w.WarmUp.Nanoseconds() {
			w.late = append(w.late, now-max(due, c.free))
			if c.free > due {
				w.waited++
			}
		}
		c.due, c.n = due, 0
		request := w.Requests[(w.next*w.Threads+w.nth)%len(w.Requests)]
		n, err := write(c.fd, request)
		if err == nil && n != len(request) {
			err = fmt.Errorf("%d of a request's %d bytes were written", n, len(request))
		}
		if err != nil {
			return err
		}
		w.next++
	}
	return nil
}

// read reads what has come on a connection. A whole response makes it free.
func (w *worker) read(i int) error {
	c := &w.conns[i]
	n, err := read(c.fd, c.buf[c.n:])
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.New("the server closed a connection, or a response is longer than 8 KiB")
	}
	c.n += n
	length, err := lengthOf(c.buf[:c.n])
	if err != nil || length == 0 || c.n < length {
		return err
	}
	if c.n > length {
		return fmt.Errorf("%d bytes follow a response", c.n-length)
	}
	now := w.now()
	if c.due >= w.WarmUp.Nanoseconds() {
		w.latency = append(w.latency, now-c.due)
		w.bytes += int64(length)
	}
	c.free, w.last = now, now
	w.idle[(w.first+w.count)%len(w.idle)] = i
	w.count++
	w.answered++
	return nil
}

var (
	ok         = []byte("HTTP/1.1 200 ")
	headersEnd = []byte("\r\n\r\n")
	nameOf     = []byte("content-length:")
)

// lengthOf is how many bytes the response that b begins with has, or 0 if b does not have all of its headers yet.
func lengthOf(b []byte) (int, error) {
	if len(b) >= len(ok) && !bytes.HasPrefix(b, ok) {
		return 0, fmt.Errorf("a response is not 200: %.200q", b)
	}
	end := bytes.Index(b, headersEnd)
	if end < 0 {
		return 0, nil
	}
	for headers := b[:end]; len(headers) > 0; {
		line := headers
		if i := bytes.IndexByte(headers, '\n'); i >= 0 {
			line, headers = headers[:i], headers[i+1:]
		} else {
			headers = nil
		}
		if len(line) > len(nameOf) && bytes.EqualFold(line[:len(nameOf)], nameOf) {
			body, err := strconv.Atoi(string(bytes.TrimSpace(line[len(nameOf):])))
			return end + len(headersEnd) + body, err
		}
	}
	return 0, fmt.Errorf("a response has no Content-Length: %.200q", b[:end])
}

// The system calls below never block, so Go's scheduler, which prepares for calls that do, need not hear of them.

func write(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return result(n, errno)
}

func read(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return result(n, errno)
}

// poll returns the connections that have something to read, without waiting for any.
func poll(epoll int, events []syscall.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno == syscall.EINTR {
		return 0, nil
	}
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
