package hashproc_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Each thread of the other process runs when nothing else wants the core, also those that it started for a hash.
func TestGivesWay(t *testing.T) {
	p, _ := poolOf(t, "serve")
	little(p, "a")
	process, _ := p.Process()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", process))
	require.NoError(t, err)
	require.NotEmpty(t, threads)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(t, err)
		a, err := unix.SchedGetAttr(id, 0)
		require.NoError(t, err)
		assert.EqualValues(t, unix.SCHED_IDLE, a.Policy, "thread %d", id)
	}
}
