package conn

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dropSYN is a socket filter (BPF, over the TCP header) that drops segments with SYN and without ACK: new connections.
var dropSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
}

// dropSYNs makes a TCP listener drop new connections, and reports whether it could; handshakes in progress go on. Without it
// a connection could be established between acceptBacklog and closing, and closing would reset it although its client has
// sent a request. A client whose SYN was dropped tries again after a second, and is refused.
func dropSYNs(ln net.Listener) (dropping bool) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		program := unix.SockFprog{Len: uint16(len(dropSYN)), Filter: &dropSYN[0]}
		dropping = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) == nil
	})
	return dropping
}

// acceptBacklog accepts, without blocking, the connections in the backlog of a socket. It leaves those of other listeners alone:
// they are reset, or, where another process has the socket too, wait for that.
func acceptBacklog(ln net.Listener) []net.Conn {
	socket, ok := ln.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
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
			conn, err := net.FileConn(file) // duplicates the descriptor
			_ = file.Close()
			if err == nil {
				conns = append(conns, conn)
			}
		}
	})
	return conns
}

// hasUnread reports whether the socket's receive buffer holds bytes.
func hasUnread(conn net.Conn) bool { return onSocket(conn, unread) }

// hasUnreadOrShut is hasUnread. If there are no bytes it shuts the socket's sending half down before another can arrive, as
// far as that is possible.
func hasUnreadOrShut(conn net.Conn) bool {
	return onSocket(conn, func(fd int) bool {
		if unread(fd) {
			return true
		}
		_ = unix.Shutdown(fd, unix.SHUT_WR) // fails only if the connection has ended
		return false
	})
}

func unread(fd int) bool {
	n, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return n > 0
}

// onSocket returns what f says about the socket of a connection; false if the connection has none. It must not use RawConn.Read, see
// NetConn.
func onSocket(conn net.Conn, f func(fd int) bool) (result bool) {
	for { // unwraps tls.Conn and deadlineConn
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
	_ = raw.Control(func(fd uintptr) { result = f(int(fd)) }) // fails only if the connection is closed
	return result
}
