//go:build !race

package conn

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is there, and what the socket takes, costs neither a deadline nor an allocation.
func TestReadyReadsAndWritesAllocateNothing(t *testing.T) {
	conn, client := accepted(t)
	below := &told{Conn: conn}
	p := newDeadlineConnOn(below, conn.(*net.TCPConn))
	defer func() { _ = p.Close() }()
	if p.raw == nil {
		require.False(t, canTry)
		return
	}
	b := make([]byte, 100)
	exchange := func() {
		p.setTimeouts(time.Minute, time.Minute)
		n, err := p.Read(b[:3])
		if n != 3 || err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
		if n, err = p.Write(b); n != len(b) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
	}
	const runs = 100
	_, err := client.Write(make([]byte, 3*(runs+1))) // AllocsPerRun makes one more
	require.NoError(t, err)
	require.Eventually(t, func() bool { return hasUnread(conn) }, 10*time.Second, time.Millisecond)
	assert.Zero(t, testing.AllocsPerRun(runs, exchange))
	reads, writes := below.times()
	assert.Zero(t, reads)
	assert.Zero(t, writes)
}
