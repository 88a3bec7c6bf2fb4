package conn

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told is a connection that notes the deadlines that it is told of.
type told struct {
	net.Conn
	mu          sync.Mutex
	read, write []time.Time // guarded by mu
}

func (c *told) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = append(c.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *told) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = append(c.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *told) times() (reads, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.read), len(c.write)
}

// accepted is a connection, and its other end.
func accepted(t *testing.T) (conn, client net.Conn) {
	t.Helper()
	ln := listenLocal(t)
	client = connect(t, ln)
	conn, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return conn, client
}

// onPatients runs a test on a connection whose socket is tried first, and on one whose socket cannot be had.
func onDeadlineConns(t *testing.T, test func(t *testing.T, p *deadlineConn, below *told, client net.Conn)) {
	for _, try := range []bool{true, false} {
		t.Run(map[bool]string{true: "tried", false: "not tried"}[try], func(t *testing.T) {
			conn, client := accepted(t)
			below := &told{Conn: conn}
			p := newDeadlineConn(below)
			if try {
				p = newDeadlineConnOn(below, conn.(*net.TCPConn))
			}
			require.Equal(t, try && canTry, p.raw != nil)
			t.Cleanup(func() { _ = p.Close() })
			test(t, p, below, client)
		})
	}
}

// A wait has the time that it was given, from when it began; the poller is troubled only with an earlier end than it knows.
func TestDeadlines(t *testing.T) {
	const soon = 20 * time.Millisecond
	onDeadlineConns(t, func(t *testing.T, p *deadlineConn, below *told, client net.Conn) {
		b := make([]byte, 1)
		arrive := func() {
			t.Helper()
			done := make(chan error, 1)
			go func() {
				time.Sleep(soon / 10) // so that it is waited for
				_, err := client.Write([]byte("x"))
				done <- err
			}()
			n, err := p.Read(b)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.NoError(t, <-done)
		}
		for range 3 {
			p.setTimeouts(time.Hour, time.Hour) // idle
			arrive()
		}
		reads, _ := below.times()
		if p.raw != nil {
			assert.Equal(t, 1, reads, "the later ends are only noted")
		} else {
			assert.Equal(t, 3, reads, "TLS below would take one that has passed for its own")
		}
		for range 3 {
			p.setTimeouts(time.Minute, time.Minute) // a request
			arrive()
			arrive()
		}
		more, _ := below.times()
		if p.raw != nil {
			assert.Equal(t, 1, more-reads, "the first of the earlier ends")
		} else {
			assert.Equal(t, 3, more-reads, "two reads of one request share an end")
		}

		start := time.Now()
		p.setTimeouts(soon, soon)
		_, err := p.Read(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.GreaterOrEqual(t, time.Since(start), soon)
		_, err = p.Read(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it is over for as long as nothing new is expected")

		start = time.Now()
		n, err := p.Write(make([]byte, 64<<20)) // more than the socket takes
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Less(t, n, 64<<20)
		assert.GreaterOrEqual(t, time.Since(start), soon)

		for _, long := range []time.Duration{time.Hour, 0, math.MaxInt64} {
			p.setTimeouts(long, long)
			arrive() // the end that has passed counts no more
			p.setTimeouts(soon, soon)
			_, err = p.Read(b)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	})
}

// A connection that wraps a socket, and does more than it, is not bypassed.
func TestDeadlineConnUsesTheWrapper(t *testing.T) {
	conn, client := accepted(t)
	p := newDeadlineConn(shouting{conn.(*net.TCPConn)})
	defer func() { _ = p.Close() }()
	_, err := client.Write([]byte("a"))
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = p.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "A", string(b))
}

// shouting is such a connection.
type shouting struct{ *net.TCPConn }

func (c shouting) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	copy(b, bytes.ToUpper(b[:n]))
	return n, err
}

// One who drips gets the time of one wait for all of them.
func TestBytesShareOneDeadline(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, p *deadlineConn, _ *told, client net.Conn) {
		const soon = 50 * time.Millisecond
		stop := make(chan struct{})
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(soon / 10):
					_, _ = client.Write([]byte("x"))
				}
			}
		}()
		p.setTimeouts(soon, soon)
		var err error
		for n := 0; err == nil; n++ {
			_, err = p.Read(make([]byte, 1))
			require.Less(t, n, 1000)
		}
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		close(stop)
		<-dripped
	})
}

// A write that an end of before interrupts goes on where it was.
func TestWriteResumesAfterASupersededDeadline(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, p *deadlineConn, below *told, client net.Conn) {
		text := make([]byte, 16<<20)
		for i := range text {
			text[i] = byte(i % 251)
		}
		p.setTimeouts(time.Minute, time.Minute)
		p.writes.told = 1 // what it was told of has passed
		require.NoError(t, below.Conn.SetWriteDeadline(time.Now().Add(5*time.Millisecond)))
		written := make(chan error, 1)
		go func() {
			_, err := p.Write(text)
			written <- err
			_ = p.Close()
		}()
		require.Eventually(t, func() bool { _, writes := below.times(); return writes == 1 }, 10*time.Second, time.Millisecond,
			"the poller's deadline passed while nobody read")
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.NoError(t, <-written)
		assert.True(t, bytes.Equal(text, got))
	})
}

// An interrupt ends a read that waits, and the next one that is about to; who stays after all reads on.
func TestReadIsInterrupted(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, p *deadlineConn, below *told, client net.Conn) {
		failed := make(chan error, 1)
		read := func() {
			_, err := p.Read(make([]byte, 1))
			failed <- err
		}
		interrupted := func() {
			t.Helper()
			select {
			case err := <-failed:
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			case <-time.After(10 * time.Second):
				require.Fail(t, "it reads on")
			}
		}
		p.setTimeouts(time.Hour, time.Hour)
		go read()
		require.Eventually(t, func() bool { reads, _ := below.times(); return reads == 1 }, 10*time.Second, time.Millisecond)
		p.interruptRead()
		interrupted()
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		go read()
		interrupted()
		p.resumeRead(0)
		n, err := p.Read(make([]byte, 1))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	})
}

// The end, and what went wrong, are told as any connection tells them.
func TestDeadlineConnErrors(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, p *deadlineConn, _ *told, client net.Conn) {
		require.NoError(t, client.(*net.TCPConn).CloseWrite())
		_, err := p.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, client.(*net.TCPConn).SetLinger(0))
		require.NoError(t, client.Close())
		require.Eventually(t, func() bool { _, err = p.Write(make([]byte, 1)); return err != nil }, 10*time.Second, time.Millisecond)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		assert.True(t, errors.Is(op, syscall.ECONNRESET) || errors.Is(op, syscall.EPIPE), op)
		require.NoError(t, p.Close())
		_, err = p.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = p.Write(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
