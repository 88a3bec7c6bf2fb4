package main

import (
	"bufio"
	"cmp"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/largerequests"
)

// DOS-14, by the kernel's count of the program's memory: connections that each sent the largest headers and trailers that they may,
// and then small requests, leave less than 64 KiB resident each, beside what the server had before. Go's heap grows to twice what is
// in use, which server.TestMemoryOfConnections counts. COATCHECK_CONNECTIONS says how many; docs/operations.md has the figures of 5,000.
func TestResidentMemoryAfterLargeRequests(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("COATCHECK_CONNECTIONS"), "500"))
	require.NoError(t, err)
	p := startShipped(t, n, append(unhurried, "--log-level=error", "--read-timeout=10m", "--trusted-origins=https://app.example")...)
	idle := p.resident(t)
	conns := p.connections(t, n)
	requests := largerequests.All(8 << 10)
	p.inParallel(t, n, func(i int) error {
		in := bufio.NewReaderSize(conns[i], 512)
		for _, text := range requests {
			if err := largerequests.RoundTrip(conns[i], in, text); err != nil {
				return err
			}
		}
		return nil
	})
	after := p.resident(t)
	p.inParallel(t, n, func(i int) error {
		return largerequests.RoundTrip(conns[i], bufio.NewReaderSize(conns[i], 512), largerequests.Small)
	})
	small := p.resident(t)
	t.Logf("resident: %.1f MiB when idle, %.1f MiB after the largest requests of %d connections, %.1f MiB after small ones: %.1f KiB each",
		mib(idle), mib(after), n, mib(small), float64(small-idle)/float64(n)/1024)
	const itself = 16 << 20 // what the program takes for its own, however many connections there are, once it has work to do
	assert.Less(t, small-idle, itself+n*64<<10)
}
