//go:build real

package browsertest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
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
			b.waitsKept(dir)
			end()
			b, _ = newDeviceBrowser(n, dir)
			b.expire()
			n.clock.step(tooOld)
			b.at("/auth/devices")
			assert.Equal(t, "ann", b.me())
			assert.Equal(t, 1, n.events("device_proved"))
		})
	}
}

// waitsKept waits until the browser's profile has the bound session. Chromium writes it, in plain text, some time after the
// registration, and not when it ends.
func (b *deviceBrowser) waitsKept(profile string) {
	b.Helper()
	name := []byte(b.name())
	b.waits(func() bool {
		kept, err := os.ReadFile(filepath.Join(profile, "Default", "Device Bound Sessions"))
		return err == nil && bytes.Contains(kept, name)
	})
}
