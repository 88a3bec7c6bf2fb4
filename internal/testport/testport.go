// Package testport finds ports for the programs that tests start.
package testport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Free returns a port of 127.0.0.1 on which nothing listens. No other test of this user, with the same TMPDIR, is given it before
// this one has ended, whatever process it is in. It is below the range that Linux, unless told otherwise, gives to outgoing
// connections and to listeners on port 0.
func Free(t testing.TB) int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("coatcheck-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		// A lock and not the port itself: the program is to have that.
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || !free(port) {
			_ = lock.Close()
			continue
		}
		t.Cleanup(func() { _ = lock.Close() }) // which gives it back
		return port
	}
	t.Fatal("no port is free")
	return 0
}

func free(port int) bool {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = ln.Close() // nothing was sent
	return true
}

// Address returns 127.0.0.1 with a port from Free.
func Address(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(Free(t))
}
