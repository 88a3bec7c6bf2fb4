package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A TERM ends the server whatever was signalled before it: here several HUPs arrive, which are merged, while a re-read waits for a
// file that does not come.
func TestTermIsNotLostAfterHups(t *testing.T) {
	t.Parallel()
	const key = "a-key-of-more-than-thirty-two-characters\n"
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(key), 0o600))
	p := start(t, "--login=trusted", "--login-key-file", file)

	// A pipe takes the place of the file. The server waits in it until the writer closes it.
	pipe := file + ".pipe"
	hang := func() (writer *os.File) {
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
		require.NoError(t, os.Rename(pipe, file))
		p.signal(t, syscall.SIGHUP)
		require.Eventually(t, func() bool {
			var err error
			writer, err = os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0) // it fails until somebody reads
			return err == nil
		}, patience, time.Millisecond)
		for range 8 {
			p.signal(t, syscall.SIGHUP)
			awaitSignalsTaken(t, p.cmd.Process.Pid)
		}
		return writer
	}
	writer := hang()
	require.NoError(t, os.WriteFile(pipe, []byte(key), 0o600))
	require.NoError(t, os.Rename(pipe, file))
	_, err := writer.WriteString(key)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	p.logged(t, "re-read keys")

	writer = hang()
	defer writer.Close() //nolint:errcheck // nobody reads it any more
	p.signal(t, syscall.SIGTERM)
	assert.Equal(t, exitOK, p.wait(t), p.stderr)
	// The one that held the server up, and one for those that waited meanwhile; a last one may have been on its way to them.
	assert.LessOrEqual(t, strings.Count(p.stderr.String(), "re-read keys"), 3, "the eight HUPs were merged")
}

// awaitSignalsTaken waits until the process has no signal pending in the kernel, or has ended.
func awaitSignalsTaken(t *testing.T, id int) {
	t.Helper()
	require.Eventually(t, func() bool { return hasEnded(id) || pendingSignals(id) == 0 }, patience, time.Millisecond)
}

// pendingSignals returns those that the kernel has not delivered to the process yet, as bits from that of signal 1 on.
func pendingSignals(id int) (bits uint64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
	if err != nil {
		return 0
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)`).FindAllSubmatch(status, -1) {
		if n, err := strconv.ParseUint(string(m[1]), 16, 64); err == nil {
			bits |= n
		}
	}
	return bits
}

// hasEnded reports whether the process is gone, or is one that only its parent remembers.
func hasEnded(id int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
