//go:build !race

package conn

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A read that finds bytes and a write that fits the socket's buffer set no deadline and allocate nothing.
func TestReadyReadsAndWritesAllocateNothing(t *testing.T) {
	conn, client := accepted(t)
	below := &recorder{Conn: conn}
	c := newSocketConn(below, conn.(*net.TCPConn))
	defer func() { _ = c.Close() }()
	if c.raw == nil {
		require.False(t, canTry)
		return
	}
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
	assert.Zero(t, reads)
	assert.Zero(t, writes)
}
