//go:build !linux

package daemon

import (
	"context"
	"net"
	"syscall"
)

// listenClosed listens on a Unix socket whose file has no permissions. It is called while the program starts, before others make files.
func listenClosed(path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o777))
	return new(net.ListenConfig).Listen(context.Background(), "unix", path)
}
