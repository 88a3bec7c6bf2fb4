//go:build real

package browsertest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A browser that is closed and started again, after the token's end, goes on with the session.
func TestDeviceStartsAgain(t *testing.T) {
	for name, open := range openStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := serveNodes(t, nil, open(t)...)
			dir := t.TempDir()
			b, end := newDeviceBrowser(n, dir)
			b.isBound()
			end()
			n.goesOn(dir)
		})
	}
}

// So does a browser that was killed, if its profile had the session and its name by then.
func TestDeviceIsKilled(t *testing.T) {
	t.Parallel() // Chromium takes half a minute
	n := serveNodes(t, nil, memory(t))
	dir := t.TempDir()
	b, _ := newDeviceBrowser(n, dir)
	b.isBound()
	require.Eventually(t, func() bool { // Chromium writes its cookies every half minute
		return inProfile(dir, "Device Bound Sessions", b.name()) && inProfile(dir, "Cookies", "__Host-coatcheck-name")
	}, 2*patience, 20*time.Millisecond, "%v", b.said)
	b.kill()
	n.goesOn(dir)
}

// goesOn starts a browser with a profile after the token's end, and sees that it renews the token.
func (n *nodes) goesOn(profile string) {
	n.Helper()
	n.clock.step(tooOld)
	b, _ := newDeviceBrowser(n, profile)
	b.expire()
	b.at("/auth/devices")
	assert.Equal(n, "ann", b.me())
	assert.Equal(n, 1, n.events("device_proved"))
}

// inProfile reports whether a database of a profile has a text, which Chromium writes there some time after it has learnt it.
func inProfile(profile, database, text string) bool {
	kept, err := os.ReadFile(filepath.Join(profile, "Default", database))
	return err == nil && bytes.Contains(kept, []byte(text))
}
