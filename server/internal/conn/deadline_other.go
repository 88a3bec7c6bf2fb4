//go:build !unix

package conn

import "syscall"

// canTry is false: no deadlineConn calls readFD and writeFD.
const canTry = false

func readFD(uintptr, []byte) (int, error) { return 0, syscall.ENOTSUP }

func writeFD(uintptr, []byte) (int, error) { return 0, syscall.ENOTSUP }
