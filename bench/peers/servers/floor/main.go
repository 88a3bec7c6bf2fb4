// The floor: a server that reads what comes, looks for nothing in it but the end of a request, and writes the same bytes
// each time. With PEER_FLOOR=epoll it is a thread for each core and three system calls, and no program that uses these sockets
// can do less; with PEER_FLOOR=net it is a goroutine for each connection, which shows what Go's network poller costs.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
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
			defer conn.Close() //nolint:errcheck // the client is gone
			buf := make([]byte, 8192)
			for n := 0; ; {
				more, err := conn.Read(buf[n:])
				if err != nil || n+more == len(buf) {
					return
				}
				if n += more; !bytes.HasSuffix(buf[:n], end) {
					continue // wrk sends the next request when it has the answer, so nothing follows an end
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
				n = 0
			}
		}()
	}
}

// serveEpoll takes the descriptors away from Go's poller. This goroutine accepts connections and gives them in turn to the threads,
// one for each core.
func serveEpoll(ln *net.TCPListener, answer []byte) error {
	file, err := ln.File()
	if err != nil {
		return err
	}
	listener := int(file.Fd())
	pollers := make([]int, runtime.GOMAXPROCS(0))
	failed := make(chan error, len(pollers)+1)
	for i := range pollers {
		if pollers[i], err = syscall.EpollCreate1(0); err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread()
			failed <- servePoller(pollers[i], answer)
		}()
	}
	go func() { failed <- accept(listener, pollers) }()
	return <-failed
}

func accept(listener int, pollers []int) error {
	if err := syscall.SetNonblock(listener, false); err != nil {
		return err
	}
	for i := 0; ; i++ {
		conn, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(conn)}
		err = errors.Join(syscall.SetsockoptInt(conn, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
			syscall.EpollCtl(pollers[i%len(pollers)], syscall.EPOLL_CTL_ADD, conn, &event))
		if err != nil {
			return err
		}
	}
}

func servePoller(epoll int, answer []byte) error {
	events, buf := make([]syscall.EpollEvent, 256), make([]byte, 8192)
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
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
