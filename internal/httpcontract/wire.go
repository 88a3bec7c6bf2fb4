package httpcontract

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

// Request is written as it stands: only Host, unless there is one, and the length of a body are added.
type Request struct {
	Method, Path string
	Head         []string // lines like "Name: value"
	Body         string
}

// Text returns the request's bytes, for a host.
func (r Request) Text(host string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", r.Method, r.Path)
	lower := strings.ToLower("\n" + strings.Join(r.Head, "\n"))
	if !strings.Contains(lower, "\nhost:") {
		b.WriteString("Host: " + host + "\r\n")
	}
	for _, line := range r.Head {
		b.WriteString(line + "\r\n")
	}
	if r.Body != "" && !strings.Contains(lower, "\ntransfer-encoding:") {
		b.WriteString("Content-Length: " + strconv.Itoa(len(r.Body)) + "\r\n")
	}
	b.WriteString("\r\n" + r.Body)
	return b.String()
}

// maySplit reports whether a server may read more than one request out of it: a line feed at the end of a line ends the
// head early, and what stands behind is answered as a request of its own, to whoever uses the connection next.
func (r Request) maySplit() bool {
	return strings.Contains(r.Method+r.Path+strings.Join(r.Head, ""), "\n")
}

// Response is the answer to a Request.
type Response struct {
	Status int
	Header http.Header
	Body   string
	Close  bool // the connection ends with this response
}

// Patience is how long a test waits for bytes that must come.
const Patience = 20 * time.Second

// Wire sends requests to an address over kept connections.
type Wire struct {
	Addr string

	mu   sync.Mutex
	idle []*Conn // guarded by mu
}

// Conn is a connection that a test writes raw bytes to.
type Conn struct {
	net.Conn
	In *bufio.Reader
}

// NewWire returns a client of an address.
func NewWire(addr net.Addr) *Wire { return &Wire{Addr: addr.String()} }

// Send uses a kept connection or a new one. It is safe for concurrent use.
func (w *Wire) Send(req Request) (Response, error) {
	c, err := w.take()
	if err != nil {
		return Response{}, err
	}
	resp, err := c.RoundTrip(req.Method, req.Text(w.Addr))
	if err != nil || resp.Close || req.maySplit() {
		_ = c.Close()
		return resp, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, c)
	return resp, nil
}

// DialTCP connects to an address.
func DialTCP(addr string) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, Patience) //nolint:noctx // requests are sent from goroutines of no test's context
}

func (w *Wire) take() (*Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return c, nil
	}
	return w.dial()
}

func (w *Wire) dial() (*Conn, error) {
	c, err := DialTCP(w.Addr)
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReader(c)}, nil
}

// Open returns a connection for a test that holds the connection itself.
func (w *Wire) Open(t testing.TB) *Conn {
	t.Helper()
	c, err := w.dial()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Close closes the kept connections.
func (w *Wire) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.idle {
		_ = c.Close()
	}
	w.idle = nil
}

// RoundTrip writes a request of that method and reads the answer.
func (c *Conn) RoundTrip(method, text string) (Response, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return Response{}, err
	}
	return c.Read(method)
}

// Read reads the answer to a request of that method.
func (c *Conn) Read(method string) (Response, error) {
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	got, err := http.ReadResponse(c.In, &http.Request{Method: method})
	if err != nil {
		return Response{}, err
	}
	body, err := io.ReadAll(got.Body)
	_ = got.Body.Close()
	return Response{Status: got.StatusCode, Header: got.Header, Body: string(body), Close: got.Close}, err
}

// Statuses reads answers until the server closes the connection or is silent for a while, and reports which it was.
func (c *Conn) Statuses(silence time.Duration) (all []int, closed bool) {
	for {
		_ = c.SetReadDeadline(time.Now().Add(silence))
		if _, err := c.In.Peek(1); err != nil {
			var nerr net.Error
			return all, !errors.As(err, &nerr) || !nerr.Timeout()
		}
		resp, err := c.Read("GET")
		if err != nil {
			return all, true
		}
		all = append(all, resp.Status)
	}
}
