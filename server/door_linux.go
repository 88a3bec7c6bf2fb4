package server

import (
	"net"
	"os"
	"syscall"
)

// drain accepts, without waiting, what stands in the queue of a TCP listener.
func drain(ln net.Listener) []net.Conn {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil // TLS around one: its queue is reset, as it was before
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var conns []net.Conn
	_ = raw.Control(func(fd uintptr) {
		for {
			nfd, _, err := syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			file := os.NewFile(uintptr(nfd), "accepted")
			conn, err := net.FileConn(file) // a copy
			_ = file.Close()
			if err == nil {
				conns = append(conns, conn)
			}
		}
	})
	return conns
}
