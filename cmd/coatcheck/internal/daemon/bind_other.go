//go:build !linux

package daemon

import (
	"context"
	"net"
	"syscall"
)

// listenClosed listens on a Unix socket to which this program's user alone may connect. The umask is the whole process's, and this one
// takes nothing from the files that the store may make meanwhile, which have mode 0600.
func listenClosed(path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return new(net.ListenConfig).Listen(context.Background(), "unix", path)
}
