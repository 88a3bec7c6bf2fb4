package systemd_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/systemd"
)

func TestMessages(t *testing.T) {
	names := []string{filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		names = append(names, "@coatcheck-test-"+strconv.Itoa(os.Getpid()))
	}
	for _, name := range names {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		require.NoError(t, err)
		defer socket.Close() //nolint:errcheck // the test is over
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(time.Minute)))
		said := func() string {
			text := make([]byte, 200)
			n, err := socket.Read(text)
			require.NoError(t, err)
			return string(text[:n])
		}
		m := systemd.Find([]string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=3000000", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid())})
		assert.Equal(t, 1500*time.Millisecond, m.WatchdogEvery())
		require.NoError(t, m.Ready())
		assert.Equal(t, "READY=1", said())
		require.NoError(t, m.Reloading())
		assert.Regexp(t, `^RELOADING=1(\nMONOTONIC_USEC=[1-9][0-9]*)?$`, said())
		require.NoError(t, m.Alive())
		assert.Equal(t, "WATCHDOG=1", said())
		require.NoError(t, m.Stopping())
		assert.Equal(t, "STOPPING=1", said())
	}
}

func TestFind(t *testing.T) {
	for name, environ := range map[string][]string{
		"nothing": nil, "an empty name": {"NOTIFY_SOCKET="}, "a relative name": {"NOTIFY_SOCKET=notify"}, "a vsock": {"NOTIFY_SOCKET=vsock:2:1"},
		"a watchdog alone": {"WATCHDOG_USEC=1000000"},
	} {
		m := systemd.Find(environ)
		assert.Nil(t, m, name)
		assert.NoError(t, m.Ready(), name)
		assert.Zero(t, m.WatchdogEvery(), name)
	}
	const socket = "NOTIFY_SOCKET=/nowhere/notify"
	for want, environ := range map[time.Duration][]string{
		time.Second:      {socket, "WATCHDOG_USEC=2000000"},
		0:                {socket, "WATCHDOG_USEC=2000000", "WATCHDOG_PID=1"}, // another process is asked to
		-1:               {socket, "WATCHDOG_USEC=-5"},
		time.Microsecond: {socket, "WATCHDOG_USEC=2"},
	} {
		assert.Equal(t, max(0, want), systemd.Find(environ).WatchdogEvery(), environ)
	}
	assert.Error(t, systemd.Find([]string{socket}).Ready())
}
