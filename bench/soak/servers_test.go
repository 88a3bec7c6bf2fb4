package main

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// A node that runs and has no session leaves nothing to count: a run on Redis ends well only then.
func TestNodeWithoutSessionsHasNoKeys(t *testing.T) {
	runtime.LockOSThread() // the servers end with this thread, see process.Start
	defer runtime.UnlockOSThread()
	s := settings{server: filepath.Join(t.TempDir(), "coatcheck"), out: t.TempDir(), store: "redis"}
	text, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", s.server, "./cmd/coatcheck").CombinedOutput()
	require.NoError(t, err, "%s", text)
	r, err := startRedis(t.Context(), s)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Stop()) }()
	node, _, _, err := serve(t.Context(), s, "redis://"+r.address)
	require.NoError(t, err)
	defer func() { assert.NoError(t, node.Stop()) }()
	require.Eventually(t, func() bool {
		probes, err := process.AskRedis(t.Context(), r.address, `EVAL "return #redis.call('KEYS', '*:r:probe')" 0`)
		return err == nil && probes == ":1"
	}, process.Patience, 50*time.Millisecond, "the node tries a write")
	require.Eventually(t, func() bool { // when what its start has left for five seconds is gone
		left, err := r.keys(t.Context())
		return err == nil && left == 0
	}, process.Patience, 50*time.Millisecond)
	_, err = process.AskRedis(t.Context(), r.address, "SET other 1")
	require.NoError(t, err)
	left, err := r.keys(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1.0, left)
}
