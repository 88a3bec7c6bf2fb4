package daemon

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// listenClosed listens on a Unix socket whose file has no permissions. On Linux the file takes those that its descriptor had before,
// so that the umask, which is the whole process's, stays as it is.
func listenClosed(path string) (net.Listener, error) {
	closed := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0) })
		return errors.Join(err, failed)
	}}
	return closed.Listen(context.Background(), "unix", path)
}
