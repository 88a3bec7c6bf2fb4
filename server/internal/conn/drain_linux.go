package conn

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dropSYN is a socket filter (BPF, over the TCP header) that drops what opens a connection: SYN without ACK.
var dropSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
}

// dropSYNs makes a TCP listener drop, as a bad link would, what opens a connection; those that are half open still come. Between
// a look into the queue and closing there is always time for one more connection, which closing resets although its client has
// sent a request. Who is dropped tries again after a second, and is refused.
func dropSYNs(ln net.Listener) (deaf bool) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return false // TLS around one
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		program := unix.SockFprog{Len: uint16(len(dropSYN)), Filter: &dropSYN[0]}
		deaf = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) == nil
	})
	return deaf
}

// acceptBacklog accepts, without waiting, what stands in the queue of a TCP listener.
func acceptBacklog(ln net.Listener) []net.Conn {
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

// hasUnread reports whether bytes have come that nobody has read yet.
func hasUnread(conn net.Conn) bool {
	for { // out of TLS and patience
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = outer.NetConn()
	}
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}
