package server

import (
	"io"
	"net"
	"os"
	"sync"
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

func patientPair(t *testing.T) (*patient, *told, net.Conn) {
	t.Helper()
	ln := listenLocal(t)
	client := connect(t, ln)
	conn, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	below := &told{Conn: conn}
	p := newPatient(below)
	t.Cleanup(func() { _ = p.Close() })
	return p, below, client
}

// What fasthttp asks for with each request reaches the poller once.
func TestLaterDeadlinesAreOnlyNoted(t *testing.T) {
	p, below, _ := patientPair(t)
	now := time.Now()
	for i := range 10 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		require.NoError(t, p.SetReadDeadline(at.Add(time.Hour))) // idle
		require.NoError(t, p.SetReadDeadline(at.Add(time.Minute)))
		require.NoError(t, p.SetWriteDeadline(at.Add(time.Minute)))
	}
	require.NoError(t, p.SetReadDeadline(time.Time{}))
	assert.Len(t, below.read, 2, "the first, and the earlier one after it")
	assert.Len(t, below.write, 1)
	allocations := testing.AllocsPerRun(100, func() { _ = p.SetReadDeadline(now.Add(2 * time.Hour)) })
	assert.Zero(t, allocations)
}

func TestDeadlinesPassWhenTheyShould(t *testing.T) {
	const soon = 20 * time.Millisecond
	for name, ask := range map[string][]time.Duration{
		"the only one":        {soon},
		"an earlier one":      {time.Hour, soon},
		"a later one":         {soon / 2, soon},
		"one after the other": {soon / 4, soon / 2, time.Hour, soon},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, _ := patientPair(t)
			start := time.Now()
			for _, d := range ask {
				require.NoError(t, p.SetDeadline(start.Add(d)))
			}
			_, err := p.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.GreaterOrEqual(t, time.Since(start), soon)

			n, err := p.Write(make([]byte, 64<<20)) // more than the socket takes
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.Less(t, n, 64<<20)
		})
	}
}

// A write that a deadline of before interrupts goes on where it was.
func TestPatientWriteLosesNothing(t *testing.T) {
	p, below, client := patientPair(t)
	require.NoError(t, p.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
	require.NoError(t, p.SetWriteDeadline(time.Now().Add(time.Minute)))
	text := make([]byte, 16<<20)
	for i := range text {
		text[i] = byte(i % 251)
	}
	written := make(chan error, 1)
	go func() {
		_, err := p.Write(text)
		written <- err
		_ = p.Close()
	}()
	require.Eventually(t, func() bool {
		below.mu.Lock()
		defer below.mu.Unlock()
		return len(below.write) == 2
	}, 10*time.Second, time.Millisecond, "the first deadline passed while nobody read")
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.NoError(t, <-written)
	assert.Equal(t, text, got)
}

// A deadline that somebody else sets ends a read that waits, as with any connection.
func TestPatientReadIsInterrupted(t *testing.T) {
	p, _, _ := patientPair(t)
	require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Minute)))
	failed := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 1))
		failed <- err
	}()
	require.NoError(t, p.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded)
}

// Two who ask at once: the poller knows of no deadline after the one that counts.
func TestDeadlinesAskedForAtOnce(t *testing.T) {
	for range 200 {
		p, _, _ := patientPair(t)
		var askers sync.WaitGroup
		now := time.Now()
		for i := range 4 {
			askers.Go(func() {
				for j := range 50 {
					_ = p.SetReadDeadline(now.Add(time.Duration(1+(i*7+j*13)%50) * time.Minute))
				}
			})
		}
		askers.Wait()
		require.LessOrEqual(t, p.read.told.Load(), p.read.asked.Load())
		require.NoError(t, p.Close())
	}
}
