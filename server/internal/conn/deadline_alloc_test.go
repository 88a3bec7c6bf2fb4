//go:build !race

package conn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of all reads that find bytes and writes that fit the socket's buffer the first set a deadline, and none allocates.
func TestReadsAndWritesAllocateNothing(t *testing.T) {
	conn, client := accepted(t)
	below := &recorder{Conn: conn}
	c := newDeadlineConn(below)
	c.socket = true
	defer func() { _ = c.Close() }()
	b := make([]byte, 100)
	exchange := func() {
		c.setTimeouts(time.Minute, time.Minute)
		n, err := c.Read(b[:3])
		if n != 3 || err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
		if n, err = c.Write(b); n != len(b) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
	}
	const runs = 100
	_, err := client.Write(make([]byte, 3*(runs+1))) // AllocsPerRun makes one more
	require.NoError(t, err)
	eventually(t, func() bool { return hasUnread(conn) })
	assert.Zero(t, testing.AllocsPerRun(runs, exchange))
	reads, writes := below.times()
	assert.Equal(t, 1, reads)
	assert.Equal(t, 1, writes)
}

// Nor does waiting for the next request.
func TestAwaitAllocatesNothing(t *testing.T) {
	conn, client := accepted(t)
	c := newDeadlineConn(conn)
	defer func() { _ = c.Close() }()
	sent, b := make([]byte, 1), make([]byte, 2)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		c.setTimeouts(time.Minute, time.Minute)
		c.awaitNext()
		if _, err := client.Write(sent); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(b); n != 1 || err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
	}))
}
