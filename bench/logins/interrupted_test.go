package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// TestMain makes the test's program the command, where the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_AS_COMMAND") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A command that is interrupted leaves no folder, in which users and their hashes would stay.
func TestInterrupted(t *testing.T) {
	program, err := testprogram.Shipped(t.TempDir())
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	made := func() bool {
		found, err := os.ReadDir(dir)
		return err == nil && len(found) > 0
	}
	cmd := exec.CommandContext(t.Context(), self, "timing", "-n", "100000", "-program", program)
	cmd.Env = append(os.Environ(), "BENCH_AS_COMMAND=1", "TMPDIR="+dir)
	require.NoError(t, cmd.Start())
	require.Eventually(t, made, time.Minute, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	assert.False(t, made())
}
