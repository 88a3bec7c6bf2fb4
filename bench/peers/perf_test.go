package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSortStacks(t *testing.T) {
	const samples = `
	ffffffff81a0 tcp_sendmsg
	ffffffff8124 __x64_sys_write
	          4021 internal/runtime/syscall.Syscall6
	          4b10 internal/poll.(*FD).Write
	          5c00 github.com/valyala/fasthttp.(*Server).serveConn

	        40aa10 crypto/internal/fips140/sha256.block
	        61bb20 github.com/coatcheck/coatcheck.Token.ID
	        70cc30 github.com/coatcheck/coatcheck/server.(*middleware).handle
	        5c1234 github.com/valyala/fasthttp.(*Server).serveConn

	        409999 time.runtimeNow
	        4b2222 internal/poll.setDeadlineImpl
	        4b3333 net.(*conn).SetReadDeadline
	        5c1234 github.com/valyala/fasthttp.(*Server).serveConn

	        43aaaa runtime.findRunnable
	        43bbbb runtime.mcall

	ffffffff81b0 tcp_recvmsg
	ffffffff8128 __x64_sys_read
	          4021 internal/runtime/syscall.Syscall6
	          71bb syscall.Syscall
	          71cc github.com/coatcheck/coatcheck/server/internal/conn.readFD
	          5c00 github.com/valyala/fasthttp.(*Server).serveConn

	        409999 runtime.nanotime1
	        71dd20 github.com/coatcheck/coatcheck/server/internal/conn.(*trackedConn).Read
	        5c1234 github.com/valyala/fasthttp.(*Server).serveConn

	ffffffff8300 asm_sysvec_apic_timer_interrupt
	          5d00 github.com/valyala/fasthttp.(*RequestHeader).parse
`
	parts, n, err := sortStacks([]byte(samples))
	require.NoError(t, err)
	require.Equal(t, 7, n)
	got := map[string]float64{}
	for _, p := range parts {
		got[p.name] = p.share
	}
	assert.Equal(t, map[string]float64{
		kernelWrite: 1. / 7,
		kernelRead:  1. / 7,
		"coatcheck: the session (SHA-256 included)": 1. / 7,
		deadlines:  1. / 7,
		connection: 1. / 7,
		"Go: scheduler, network poller, collector":    1. / 7,
		"kernel: interrupts, scheduling and the rest": 1. / 7,
	}, got)
}
