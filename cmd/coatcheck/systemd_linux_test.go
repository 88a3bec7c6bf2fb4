package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The service manager hears of the start when the server answers, of a re-read from its beginning to its end, of its life in
// between, and of the stop.
func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cc") // a socket's name must be short
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	name := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer socket.Close() //nolint:errcheck // the test is over
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	next := func() string {
		text := make([]byte, 300)
		n, err := socket.Read(text)
		require.NoError(t, err)
		return string(text[:n])
	}
	p := startIn(t, []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=40000"})
	require.Equal(t, "READY=1", next())
	assert.Equal(t, 200, p.ready(t))
	require.Equal(t, "WATCHDOG=1", next())

	p.signal(t, syscall.SIGHUP)
	after := func() string { // the next that is no sign of life
		for {
			if text := next(); text != "WATCHDOG=1" {
				return text
			}
		}
	}
	assert.Regexp(t, regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`), after())
	assert.Equal(t, "READY=1", after())
	p.signal(t, syscall.SIGTERM)
	assert.Equal(t, "STOPPING=1", after())
	assert.Equal(t, exitOK, p.wait(t))
}

// A manager that is not there does not keep the server from running.
func TestServiceManagerIsGone(t *testing.T) {
	t.Parallel()
	p := startIn(t, []string{"NOTIFY_SOCKET=/nowhere/notify", "WATCHDOG_USEC=40000"})
	p.logged(t, "the service manager was not told")
	assert.Equal(t, 200, p.ready(t))
	p.signal(t, syscall.SIGTERM)
	assert.Equal(t, exitOK, p.wait(t))
	assert.False(t, strings.Contains(p.stderr.String(), "panic"))
}

// serve says what others can do with its files, and serves.
func TestServeWarnsOfOpenFiles(t *testing.T) {
	t.Parallel()
	file := keyFile(t, 0o644)
	p := start(t, "--admin-key-file", file, "--ttl=24h")
	p.logged(t, "every user of this machine can read "+file)
	p.logged(t, "is above the default of --max-lifetime")
	assert.Contains(t, p.stdout.String(), "give this one a cookie of its own with --cookie-name")
}
