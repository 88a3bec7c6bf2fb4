package shardstore_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/shardstore"
)

// Verify opens no file for writing: a backup, or the file system that it is on, may be read-only. The system is asked how the files
// were opened, because root may open any file for writing, and tests often run as root.
func TestVerifyOpensToReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir)
	add(t, s, "ada", t0, time.Hour)
	require.NoError(t, s.Snapshot())
	require.NoError(t, s.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 3, "lock, snapshot and journal")
	for _, file := range files {
		require.NoError(t, os.Chmod(file, 0o400))
	}
	require.NoError(t, os.Chmod(dir, 0o500))                      //nolint:gosec // a folder
	t.Cleanup(func() { assert.NoError(t, os.Chmod(dir, 0o700)) }) //nolint:gosec // a folder

	watch, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, syscall.Close(watch)) })
	_, err = syscall.InotifyAddWatch(watch, dir, syscall.IN_CLOSE_NOWRITE|syscall.IN_CLOSE_WRITE)
	require.NoError(t, err)
	_, err = shardstore.Verify(dir)
	require.NoError(t, err)

	read := make(map[string]bool)
	events := make([]byte, 64<<10)
	n, err := syscall.Read(watch, events)
	require.NoError(t, err)
	for b := events[:n]; len(b) > 0; {
		mask, length := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[syscall.SizeofInotifyEvent:syscall.SizeofInotifyEvent+length]), "\x00")
		assert.Zero(t, mask&syscall.IN_CLOSE_WRITE, "%s was open for writing", name)
		if length > 0 { // else it is the folder
			read[name] = true
		}
		b = b[syscall.SizeofInotifyEvent+length:]
	}
	assert.Len(t, read, 3)
}

// Opening a named pipe waits for a writer.
func TestVerifyOfANamedPipe(t *testing.T) {
	for _, name := range []string{"lock", "journal-00000001", "snapshot-00000001"} {
		dir := t.TempDir()
		s := onDisk(t, dir)
		require.NoError(t, s.Close())
		pipe := filepath.Join(dir, name)
		_ = os.Remove(pipe) // the snapshot is not there
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
		verified := make(chan error, 1)
		go func() {
			_, err := shardstore.Verify(dir)
			verified <- err
		}()
		select {
		case err := <-verified:
			require.ErrorContains(t, err, pipe)
			require.ErrorContains(t, err, "not a file")
		case <-time.After(10 * time.Second):
			require.Fail(t, "Verify waits", name)
		}
	}
}
