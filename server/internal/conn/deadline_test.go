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

// recorder is a connection that records the deadlines that are set.
type recorder struct {
	net.Conn
	mu          sync.Mutex
	read, write []time.Time // guarded by mu
}

func (c *recorder) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = append(c.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *recorder) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = append(c.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *recorder) times() (reads, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.read), len(c.write)
}

// accepted returns the server's and the client's end of a connection.
func accepted(t *testing.T) (conn, client net.Conn) {
	t.Helper()
	ln := listenLocal(t)
	client = connect(t, ln)
	conn, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return conn, client
}

// onDeadlineConns runs a test on a connection that is known to be no more than its socket, and on one that may be more.
func onDeadlineConns(t *testing.T, test func(t *testing.T, c *deadlineConn, below *recorder, client net.Conn)) {
	for _, socket := range []bool{true, false} {
		t.Run(map[bool]string{true: "socket", false: "wrapper"}[socket], func(t *testing.T) {
			conn, client := accepted(t)
			below := &recorder{Conn: conn}
			c := newDeadlineConn(below)
			require.False(t, c.socket)
			c.socket = socket
			t.Cleanup(func() { _ = c.Close() })
			test(t, c, below, client)
		})
	}
}

// A timeout counts from the first read, or from when a write waits. The poller hears only of deadlines that are earlier than the one it has.
func TestDeadlines(t *testing.T) {
	const soon = 20 * time.Millisecond
	onDeadlineConns(t, func(t *testing.T, c *deadlineConn, below *recorder, client net.Conn) {
		b := make([]byte, 1)
		arrive := func() {
			t.Helper()
			done := make(chan error, 1)
			go func() {
				time.Sleep(soon / 10) // so that the read mostly blocks
				_, err := client.Write([]byte("x"))
				done <- err
			}()
			n, err := c.Read(b)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.NoError(t, <-done)
		}
		told := 0                                                         // how often the poller has been told
		for _, timeout := range []time.Duration{time.Hour, time.Minute} { // idle, and a request: an earlier deadline
			c.setTimeouts(timeout, timeout)
			arrive()
			told++
			for range 3 {
				c.setTimeouts(timeout, timeout)
				arrive()
				arrive()
			}
			if !c.socket {
				told += 3
			}
			reads, _ := below.times()
			assert.Equal(t, told, reads, "with a socket later deadlines stay with us; else two reads of one request share one, because TLS inside would take one that has passed for its own")
		}

		start := time.Now()
		c.setTimeouts(soon, soon)
		_, err := c.Read(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.GreaterOrEqual(t, time.Since(start), soon)
		_, err = c.Read(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a deadline that has passed stays passed")

		start = time.Now()
		n, err := c.Write(make([]byte, 64<<20)) // more than the socket takes
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Less(t, n, 64<<20)
		assert.GreaterOrEqual(t, time.Since(start), soon)

		for _, long := range []time.Duration{time.Hour, 0, math.MaxInt64} {
			c.setTimeouts(long, long)
			arrive() // the deadline that has passed no longer counts
			c.setTimeouts(soon, soon)
			_, err = c.Read(b)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	})
}

// A write that need not wait tells the poller once of a quarter of its timeout, so that a later one that waits is met by it soon.
func TestWritesAreGuarded(t *testing.T) {
	conn, _ := accepted(t)
	below := &recorder{Conn: conn}
	c := newDeadlineConn(below)
	c.socket = true
	defer func() { _ = c.Close() }()
	before := time.Now()
	for range 3 {
		c.setTimeouts(0, time.Hour)
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	require.Len(t, below.write, 1)
	quarter := below.write[0].Add(-15 * time.Minute)
	assert.False(t, quarter.Before(before) || quarter.After(time.Now()), quarter)
}

// A connection that wraps a socket, and does more than the socket does, is not bypassed.
func TestDeadlineConnUsesTheWrapper(t *testing.T) {
	conn, client := accepted(t)
	c := newDeadlineConn(shouting{conn.(*net.TCPConn)})
	defer func() { _ = c.Close() }()
	_, err := client.Write([]byte("a"))
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = c.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "A", string(b))
}

// shouting reads upper case.
type shouting struct{ *net.TCPConn }

func (c shouting) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	copy(b, bytes.ToUpper(b[:n]))
	return n, err
}

// A client that sends a byte at a time gets no more time for it.
func TestBytesShareOneDeadline(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, c *deadlineConn, _ *recorder, client net.Conn) {
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
		c.setTimeouts(soon, soon)
		var err error
		for n := 0; err == nil; n++ {
			_, err = c.Read(make([]byte, 1))
			require.Less(t, n, 1000)
		}
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		close(stop)
		<-dripped
	})
}

// A write that an earlier deadline interrupts goes on where it was.
func TestWriteResumesAfterASupersededDeadline(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, c *deadlineConn, below *recorder, client net.Conn) {
		text := make([]byte, 16<<20)
		for i := range text {
			text[i] = byte(i % 251)
		}
		c.setTimeouts(time.Minute, time.Minute)
		c.writes.told, c.writes.guarded = 1, true // as if the poller had a deadline that has passed
		require.NoError(t, below.Conn.SetWriteDeadline(time.Now().Add(5*time.Millisecond)))
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(text)
			written <- err
			_ = c.Close()
		}()
		eventually(t, func() bool { _, writes := below.times(); return writes == 1 },
			"the poller's deadline passed while the client did not read")
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.NoError(t, <-written)
		assert.True(t, bytes.Equal(text, got))
	})
}

// An interrupt ends a read that is blocked, or the next one that blocks, until resumeRead.
func TestReadIsInterrupted(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, c *deadlineConn, below *recorder, client net.Conn) {
		failed := make(chan error, 1)
		read := func() {
			_, err := c.Read(make([]byte, 1))
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
		c.setTimeouts(time.Hour, time.Hour)
		go read()
		eventually(t, func() bool { reads, _ := below.times(); return reads == 1 })
		c.interruptRead()
		interrupted()
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		go read()
		interrupted()
		c.resumeRead(0)
		n, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	})
}

// The end and errors are returned as by any net.Conn.
func TestDeadlineConnErrors(t *testing.T) {
	onDeadlineConns(t, func(t *testing.T, c *deadlineConn, _ *recorder, client net.Conn) {
		require.NoError(t, client.(*net.TCPConn).CloseWrite())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, client.(*net.TCPConn).SetLinger(0))
		require.NoError(t, client.Close())
		eventually(t, func() bool { _, err = c.Write(make([]byte, 1)); return err != nil })
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		assert.True(t, errors.Is(op, syscall.ECONNRESET) || errors.Is(op, syscall.EPIPE), op)
		require.NoError(t, c.Close())
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Write(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
