//go:build !unix

package conn

import "syscall"

const canTry = false

func readFD(uintptr, []byte) (int, error) { return 0, syscall.ENOTSUP }

func writeFD(uintptr, []byte) (int, error) { return 0, syscall.ENOTSUP }
