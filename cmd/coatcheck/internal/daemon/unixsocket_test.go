package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listenTwice := func(want string) {
		t.Helper()
		_, err := listenAt("unix:" + path)
		require.ErrorContains(t, err, want)
	}
	ln, err := listenAt("unix:" + path + "?mode=0600")
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	listenTwice("somebody listens at " + path)
	require.NoError(t, ln.Close())
	assert.NoFileExists(t, path, "it is removed at a stop")

	ln, err = listenAt("unix:" + path)
	require.NoError(t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	require.NoError(t, ln.Close())
	require.FileExists(t, path)
	ln, err = listenAt("unix:" + path)
	require.NoError(t, err, "a socket on which nobody listens is replaced")
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	require.NoError(t, ln.Close())

	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	listenTwice("is no socket")
	assert.FileExists(t, path)
	_, err = listenAt("unix:" + path + "2?owner=nobody-of-that-name")
	require.ErrorContains(t, err, "nobody-of-that-name")
	assert.NoFileExists(t, path+"2")
}

// Somebody who may write to the folder can put a link in the socket's place. What it leads to keeps its mode and its owner.
func TestLinkInTheSocketsPlace(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "shadow")
	require.NoError(t, os.WriteFile(target, nil, 0o600))
	require.NoError(t, os.Symlink(target, filepath.Join(dir, "s")))
	require.Error(t, handOver(config.UnixSocket{Path: filepath.Join(dir, "s"), Mode: 0o666}, 1, 1))
	info, err := os.Stat(target)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.EqualValues(t, os.Getuid(), info.Sys().(*syscall.Stat_t).Uid)
}

func TestSocketThatWasLeft(t *testing.T) {
	assert.True(t, isLeft(0o660, syscall.ECONNREFUSED))
	assert.True(t, isLeft(0, syscall.EACCES), "its server was killed before it set the mode")
	assert.False(t, isLeft(0o600, syscall.EACCES), "somebody else's")
	assert.False(t, isLeft(0, syscall.EAGAIN), "its backlog is full")
}

// At no moment does the file allow more than it is to allow in the end, whatever the umask.
func TestUnixSocketIsNeverOpenToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	defer syscall.Umask(syscall.Umask(0))
	ln, err := listenClosed(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, info.Mode().Perm(), "it is to be made accessible once its owner is right")
	require.NoError(t, ln.Close())

	var seen atomic.Uint32
	done, watched := make(chan struct{}), make(chan struct{})
	stop := sync.OnceFunc(func() { close(done) })
	defer stop()
	go func() {
		defer close(watched)
		for {
			select {
			case <-done:
				return
			default:
			}
			if info, err := os.Stat(path); err == nil {
				seen.Or(uint32(info.Mode().Perm()))
			}
		}
	}()
	for range 300 {
		ln, err := listenAt("unix:" + path + "?mode=0600")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return seen.Load() != 0 }, time.Minute, time.Millisecond, "the file is never seen")
		require.NoError(t, ln.Close())
	}
	stop()
	<-watched
	assert.Zero(t, seen.Load()&^0o600, "%o", seen.Load())
}

func TestConnectionsForDescriptors(t *testing.T) {
	for _, tt := range []struct {
		login, store string
		want         int
	}{
		{"users", "memory", 112},
		{"webhook", "memory", 176},
		{"oidc", "memory", 176},
		{"oidc", "redis://127.0.0.1", 240},
	} {
		assert.Equal(t, tt.want, reservedFor(&config.Config{Login: tt.login, Store: tt.store}), tt)
	}
	for name, tt := range map[string]struct {
		given       int
		descriptors uint64
		reserved    int
		want        int
		fewer       bool
	}{
		"what they allow": {descriptors: 300, reserved: 112, want: 188},
		"no limit":        {descriptors: 1 << 63, reserved: 100, want: 1<<30 - 100},
		"just the least":  {descriptors: 128, reserved: 112, want: leastConns},
		"too few":         {descriptors: 127, reserved: 112, want: leastConns, fewer: true},
		"none":            {descriptors: 24, reserved: 112, want: leastConns, fewer: true},
		"given":           {given: 188, descriptors: 300, reserved: 112, want: 188},
		"too many given":  {given: 189, descriptors: 300, reserved: 112, want: 189, fewer: true},
		"few and given":   {given: 4, descriptors: 24, reserved: 112, want: 4, fewer: true},
	} {
		var out bytes.Buffer
		d := &daemon{Options: Options{Config: new(config.Config)}, log: slog.New(slog.NewTextHandler(&out, nil))}
		d.Config.Server.MaxConns = tt.given
		d.fitConnections(tt.descriptors, tt.reserved)
		assert.Equal(t, tt.want, d.Config.Server.MaxConns, name)
		assert.Equal(t, tt.fewer, strings.Contains(out.String(), "too few descriptors"), "%s: %s", name, &out)
	}
}
