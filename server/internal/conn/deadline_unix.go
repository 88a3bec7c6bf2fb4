//go:build unix

package conn

import "syscall"

const canTry = true

// readFD and writeFD are read(2) and write(2), once, on a socket that does not block.
func readFD(fd uintptr, b []byte) (int, error) { return syscall.Read(int(fd), b) }

func writeFD(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
