// The floor: a server that reads what comes, looks for nothing in it but the end of a request, and writes the same bytes
// each time. With PEER_FLOOR=epoll it is one thread and three system calls, and no program that uses these sockets can do
// less; with PEER_FLOOR=net it is a goroutine for each connection, which is what Go's network poller costs on top.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

func main() {
	answer := peer.Answers()["GET /auth/me"].Bytes()
	ln, ok := peer.Listen().(*net.TCPListener)
	if !ok {
		peer.Must(errors.New("not a TCP listener"))
	}
	switch kind := os.Getenv("PEER_FLOOR"); kind {
	case "epoll":
		peer.Must(serveEpoll(ln, answer))
	case "net":
		peer.Must(serveNet(ln, answer))
	default:
		peer.Must(fmt.Errorf("PEER_FLOOR=%q: epoll or net", kind))
	}
}

var end = []byte("\r\n\r\n")

func serveNet(ln net.Listener, answer []byte) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close() //nolint:errcheck // whoever is at the other end has gone
			buf := make([]byte, 8192)
			for n := 0; ; {
				more, err := conn.Read(buf[n:])
				if err != nil || n+more == len(buf) {
					return
				}
				if n += more; !bytes.HasSuffix(buf[:n], end) {
					continue // wrk sends the next request when it has the answer, so nothing comes behind an end
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
				n = 0
			}
		}()
	}
}

// serveEpoll takes the descriptors away from Go's poller.
func serveEpoll(ln *net.TCPListener, answer []byte) error {
	file, err := ln.File()
	if err != nil {
		return err
	}
	listener := int(file.Fd())
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	watch := func(fd int) error {
		return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
	}
	if err := watch(listener); err != nil {
		return err
	}
	events, buf := make([]syscall.EpollEvent, 256), make([]byte, 8192)
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == listener {
				conn, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK)
				if err != nil {
					return err
				}
				if err := errors.Join(syscall.SetsockoptInt(conn, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1), watch(conn)); err != nil {
					return err
				}
				continue
			}
			// A request of wrk's comes in one piece, and an answer fits the socket's buffer.
			n, err := syscall.Read(fd, buf)
			if err == nil && n > 0 && bytes.HasSuffix(buf[:n], end) {
				_, err = syscall.Write(fd, answer)
			}
			if err != nil || n <= 0 {
				_ = syscall.Close(fd)
			}
		}
	}
}
