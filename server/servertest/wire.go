package servertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// request is written as it stands: nothing is added but Host, unless there is one, and the length of a body.
type request struct {
	method, path string
	head         []string // lines like "Name: value"
	body         string
}

func (r request) text(host string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", r.method, r.path)
	lower := strings.ToLower("\n" + strings.Join(r.head, "\n"))
	if !strings.Contains(lower, "\nhost:") {
		b.WriteString("Host: " + host + "\r\n")
	}
	for _, line := range r.head {
		b.WriteString(line + "\r\n")
	}
	if r.body != "" && !strings.Contains(lower, "\ntransfer-encoding:") {
		b.WriteString("Content-Length: " + strconv.Itoa(len(r.body)) + "\r\n")
	}
	b.WriteString("\r\n" + r.body)
	return b.String()
}

type response struct {
	status int
	header http.Header
	body   string
	close  bool
}

// patience is how long a test waits for bytes that must come.
const patience = 20 * time.Second

// wire sends requests to an address over kept connections.
type wire struct {
	addr string

	mu   sync.Mutex
	idle []*wireConn // guarded by mu
}

type wireConn struct {
	net.Conn
	in *bufio.Reader
}

func newWire(addr net.Addr) *wire { return &wire{addr: addr.String()} }

// send uses a kept connection or a new one. It is safe for concurrent use.
func (w *wire) send(req request) (response, error) {
	c, err := w.take()
	if err != nil {
		return response{}, err
	}
	resp, err := c.roundTrip(req.method, req.text(w.addr))
	if err != nil || resp.close {
		_ = c.Close()
		return resp, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, c)
	return resp, nil
}

func dialTCP(addr string) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, patience) //nolint:noctx // requests are sent from goroutines of no test's context
}

func (w *wire) take() (*wireConn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return c, nil
	}
	return w.dial()
}

func (w *wire) dial() (*wireConn, error) {
	c, err := dialTCP(w.addr)
	if err != nil {
		return nil, err
	}
	return &wireConn{c, bufio.NewReader(c)}, nil
}

// open is dial for a test that holds the connection itself.
func (w *wire) open(t testing.TB) *wireConn {
	t.Helper()
	c, err := w.dial()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.idle {
		_ = c.Close()
	}
	w.idle = nil
}

func (c *wireConn) roundTrip(method, text string) (response, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return response{}, err
	}
	return c.read(method)
}

// read reads the answer to a request of that method.
func (c *wireConn) read(method string) (response, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return response{}, err
	}
	body, err := io.ReadAll(got.Body)
	_ = got.Body.Close()
	return response{got.StatusCode, got.Header, string(body), got.Close}, err
}

// statuses reads answers until the server closes the connection or is silent for a while, and reports which it was.
func (c *wireConn) statuses(silence time.Duration) (all []int, closed bool) {
	for {
		_ = c.SetReadDeadline(time.Now().Add(silence))
		if _, err := c.in.Peek(1); err != nil {
			var nerr net.Error
			return all, !errors.As(err, &nerr) || !nerr.Timeout()
		}
		resp, err := c.read("GET")
		if err != nil {
			return all, true
		}
		all = append(all, resp.status)
	}
}
