package conn

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// countedListener counts the reads of its connections that found bytes.
type countedListener struct {
	net.Listener
	reads atomic.Int64
}

type countedConn struct {
	net.Conn
	reads *atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, &l.reads}, nil
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

// A request that arrives whole is read by one system call, and a larger one by two.
func TestReadsOfARequest(t *testing.T) {
	ln := &countedListener{Listener: listenLocal(t)}
	start(t, newServer(Options{}), ln, nil)
	client := connect(t, ln)
	in := bufio.NewReader(client)
	for size, reads := range map[int]int64{100: 1, aheadBytes: 1, aheadBytes + 1: 2, 3 * aheadBytes: 2} {
		head := getHead + "Host: x\r\na: "
		for range 3 {
			ln.reads.Store(0)
			_, err := io.WriteString(client, head+strings.Repeat("x", size-len(head)-4)+"\r\n\r\n")
			require.NoError(t, err)
			require.Equal(t, "ok", body(t, in))
			assert.Equal(t, reads, ln.reads.Load(), "a request of %d bytes", size)
		}
	}
}

// body reads a response and returns its body.
func body(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(text)
}

// A listener may return bytes together with the end, as one that speaks TLS does with the client's close_notify, and nothing without an
// error. The request is answered, and the connection then ended.
func TestBytesWithTheEnd(t *testing.T) {
	for _, size := range []int{100, 3 * aheadBytes} {
		here, there := net.Pipe()
		ln := pipes{listenLocal(t), make(chan net.Conn, 1)}
		ln.ends <- &lastConn{Conn: there, text: getHead + "Host: x\r\na: " + strings.Repeat("x", size) + "\r\n\r\n"}
		served := make(chan error, 1)
		s := newServer(Options{})
		s.http.ReadBufferSize = 8 << 10
		go func() { served <- s.Serve(ln) }()
		require.Equal(t, "ok", body(t, bufio.NewReader(here)))
		_, err := io.Copy(io.Discard, here)
		require.NoError(t, err)
		close(ln.ends)
		require.NoError(t, <-served)
		require.NoError(t, ln.Close())
	}
}

// lastConn returns the last bytes of its text with io.EOF, and after that nothing and no error.
type lastConn struct {
	net.Conn
	text string
}

func (c *lastConn) Read(b []byte) (int, error) {
	if c.text == "" {
		return 0, nil
	}
	n := copy(b, c.text)
	if c.text = c.text[n:]; c.text == "" {
		return n, io.EOF
	}
	return n, nil
}

// pipes is a listener whose connections are the ends of pipes, so that a test decides in which pieces bytes arrive.
type pipes struct {
	net.Listener
	ends chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.ends
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// However requests are cut into pieces, the handler gets each of them as it was sent.
func TestRequestsInPieces(t *testing.T) {
	post := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("b", n))
	}
	long := getHead + "Host: x\r\na: " + strings.Repeat("x", 3*aheadBytes) + "\r\n\r\n"
	requests := []string{getHead + "Host: x\r\n\r\n", post(1), long, post(3 * aheadBytes), post(aheadBytes), long, getHead + "Host: x\r\n\r\n"}
	want := []string{"0", "1", "0", "3072", "1024", "0", "0"}
	all := strings.Join(requests, "")

	s := New(&fasthttp.Server{
		Handler:        func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(fmt.Sprint(len(ctx.PostBody()))) },
		ReadBufferSize: 8 << 10,
	}, Options{Log: slog.New(slog.DiscardHandler)})
	ln := pipes{listenLocal(t), make(chan net.Conn)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	for _, size := range []int{1, 2, 3, aheadBytes - 1, aheadBytes, aheadBytes + 1, 5 * aheadBytes, len(all)} {
		here, there := net.Pipe()
		ln.ends <- there
		go func() {
			for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if _, err := io.WriteString(here, rest[:min(size, len(rest))]); err != nil {
					return
				}
			}
		}()
		in := bufio.NewReader(here)
		for i := range requests {
			require.Equal(t, want[i], body(t, in), "request %d in pieces of %d bytes", i, size)
		}
		require.NoError(t, here.Close())
	}
	close(ln.ends)
	require.NoError(t, <-served)
	require.NoError(t, ln.Close())
}
