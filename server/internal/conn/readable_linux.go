//go:build gc && go1.26 && !go1.27

package conn

import (
	"net"
	"reflect"
	"syscall"
	"time"
	_ "unsafe" // for go:linkname
)

// readable waits for a socket, without looking at it first. A read of net.Conn looks first, because Go's poller forgets with each read what
// it has seen: for a connection whose client waits for each answer that is a system call a request that finds nothing. Waiting is what net
// itself does after it, by the same function of the runtime. docs/decisions/0034-connections.md has the measurements.
//
// With other versions of Go, which may have neither this function nor these fields, readable_other.go looks first.
type readable struct {
	socket syscall.RawConn
	wait   func(fd uintptr)
}

// endSeenWithin bounds how long the end of a stream is overlooked that came with the last bytes: the poller reports both once. So are
// bytes behind TCP's urgent ones, where a read ends. A connection whose last request is longer ago is looked at first: it would be woken
// for each request.
const endSeenWithin = time.Second

//go:linkname pollWait internal/poll.runtime_pollWait
func pollWait(poller uintptr, mode int) int

// newReadable returns nil for what is no TCP connection of net's.
func newReadable(conn net.Conn) *readable {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	socket, err := tcp.SyscallConn()
	poller := pollerOf(tcp)
	if err != nil || poller == 0 {
		return nil
	}
	return &readable{socket, func(uintptr) { pollWait(poller, 'r') }}
}

// pollerOf returns what Go's poller knows a connection by, 0 if net does not keep it where it was in Go 1.26.
func pollerOf(tcp *net.TCPConn) uintptr {
	v := reflect.ValueOf(tcp)
	for _, field := range []string{"conn", "fd", "pfd", "pd", "runtimeCtx"} {
		if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
			return 0
		}
		v = v.FieldByName(field)
	}
	if v.Kind() != reflect.Uintptr {
		return 0
	}
	return uintptr(v.Uint())
}

// await returns when the socket can be read, when its deadline passes, and when it is closed. A read then says which. Two goroutines must
// not wait at once: the runtime would end the process.
func (r *readable) await() {
	_ = r.socket.Control(r.wait) // which keeps the poller from being given to another connection; fails if this one is closed
}
