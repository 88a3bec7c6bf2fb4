//go:build unix && (!linux || race || 386)

package conn

import (
	"errors"
	"syscall"
)

const canTry = true

// readFD and writeFD are read(2) and write(2), once. In this form the race detector knows that what is read was written before.
func readFD(fd uintptr, b []byte) (int, syscall.Errno) { return number(syscall.Read(int(fd), b)) }

func writeFD(fd uintptr, b []byte) (int, syscall.Errno) { return number(syscall.Write(int(fd), b)) }

func number(n int, err error) (int, syscall.Errno) {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return 0, errno
	}
	return n, 0
}
