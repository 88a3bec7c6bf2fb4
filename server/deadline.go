package server

import (
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patient is a connection that troubles Go's network poller as little as it can with deadlines. fasthttp sets three for each
// request, each a few seconds after the last; with each the poller takes a lock and moves a timer. Here a later one is only
// noted: when the poller reports that an earlier one has passed, which is once in seconds, it is told of the one that counts.
// No deadline comes earlier or later for it. Decision 34 has the measurement: 9.7 µs of processor a request before, 9.0 with it.
type patient struct {
	net.Conn
	read, write deadline
}

func newPatient(conn net.Conn) *patient {
	p := &patient{Conn: conn}
	for _, d := range []*deadline{&p.read, &p.write} {
		d.asked.Store(never)
		d.told.Store(never)
	}
	return p
}

// NetConn is the connection below, as with crypto/tls.
func (p *patient) NetConn() net.Conn { return p.Conn }

func (p *patient) SetReadDeadline(t time.Time) error { return p.read.ask(t, p.Conn.SetReadDeadline) }

func (p *patient) SetWriteDeadline(t time.Time) error { return p.write.ask(t, p.Conn.SetWriteDeadline) }

func (p *patient) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

func (p *patient) Read(b []byte) (n int, err error) {
	for {
		n, err = p.Conn.Read(b)
		if n > 0 || err == nil || !p.read.premature(err) {
			return n, err
		}
		if err := p.read.tell(p.Conn.SetReadDeadline); err != nil {
			return 0, err
		}
	}
}

func (p *patient) Write(b []byte) (n int, err error) {
	for {
		some, err := p.Conn.Write(b[n:])
		if n += some; err == nil || !p.write.premature(err) {
			return n, err
		}
		if err := p.write.tell(p.Conn.SetWriteDeadline); err != nil {
			return n, err
		}
	}
}

// deadline is one in nanoseconds since epoch. As long as nobody is in tell, told is not after asked.
type deadline struct {
	asked, told atomic.Int64
	mu          sync.Mutex // held while the poller is told
}

const never = math.MaxInt64

var epoch = time.Now()

// ask tells the poller only of what comes before all that it knows.
func (d *deadline) ask(t time.Time, set func(time.Time) error) error {
	asked := int64(never)
	if !t.IsZero() {
		asked = int64(t.Sub(epoch))
	}
	d.asked.Store(asked)
	if asked >= d.told.Load() {
		return nil
	}
	return d.tell(set)
}

// premature reports whether err comes from a deadline that is no longer the one that counts.
func (d *deadline) premature(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && d.asked.Load() > int64(time.Since(epoch))
}

func (d *deadline) tell(set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		asked := d.asked.Load()
		var t time.Time
		if asked != never {
			t = epoch.Add(time.Duration(asked))
		}
		if err := set(t); err != nil {
			return err
		}
		d.told.Store(asked)
		if d.asked.Load() >= asked { // an earlier one may have been asked for meanwhile
			return nil
		}
	}
}
