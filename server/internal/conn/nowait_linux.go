//go:build !race && !386

package conn

import (
	"syscall"
	"unsafe"
)

const canTry = true

// readFD and writeFD are recv(2) and send(2) on a socket that does not wait, once. b is not empty. Telling Go's scheduler that
// a system call begins and ends costs 100 ns, a third of an empty read, and is for calls that may take long; read(2) and
// write(2), which are for files too, take the kernel 3 % longer (decision 34).
func readFD(fd uintptr, b []byte) (int, syscall.Errno) {
	return call(syscall.SYS_RECVFROM, fd, b, 0)
}

func writeFD(fd uintptr, b []byte) (int, syscall.Errno) {
	return call(syscall.SYS_SENDTO, fd, b, syscall.MSG_NOSIGNAL)
}

func call(number, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	//nolint:gosec // b stays where it is until the call is over (unsafe.Pointer, rule 4)
	n, _, errno := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	return int(n), errno
}
