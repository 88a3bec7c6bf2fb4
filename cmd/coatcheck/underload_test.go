package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hammer sends requests until nobody listens any more, whatever readiness says, and counts those that a connection was opened
// for and that got no answer.
type hammer struct {
	addr string

	mu       sync.Mutex
	answered int     // guarded by mu
	late     int     // guarded by mu: answered after readiness went red
	red      bool    // guarded by mu
	lost     []error // guarded by mu
}

const hammerLogin = "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + `{"user_id":"u"}`

// run sends the request over and over until a connection is refused. A kept connection is used as long as the server keeps
// it; fresh opens one for each request.
func (h *hammer) run(request string, fresh bool) {
	var conn net.Conn
	var in *bufio.Reader
	for {
		if conn == nil {
			var err error
			conn, err = net.DialTimeout("tcp", h.addr, patience) //nolint:noctx // bounded by the server's end
			if errors.Is(err, syscall.ECONNREFUSED) {
				return
			}
			if err != nil {
				h.lose(fmt.Errorf("dial: %w", err))
				return
			}
			in = bufio.NewReader(conn)
		}
		last, err := exchange(conn, in, request)
		if err != nil {
			h.lose(err)
		} else {
			h.answer()
		}
		if err != nil || last || fresh {
			_ = conn.Close() // the answer is here, or lost
			conn = nil
		}
	}
}

// exchange sends a request and reads its answer; last: the server will close the connection.
func exchange(conn net.Conn, in *bufio.Reader, request string) (last bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d", resp.StatusCode)
	}
	return resp.Close, nil
}

func (h *hammer) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answered
}

func (h *hammer) answer() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered++
	if h.red {
		h.late++
	}
}

func (h *hammer) lose(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = append(h.lost, err)
}

// OPS-01: clients that go on as if nothing was said lose nothing. A request whose connection was accepted is answered; after
// that connections are refused. A busy machine is what makes it hard: `make stop` does it many times.
func TestNoRequestIsCutOff(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("COATCHECK_STOPS"), "1"))
	require.NoError(t, err)
	for round := range rounds {
		t.Run(fmt.Sprint(round), stopUnderLoad)
	}
}

func stopUnderLoad(t *testing.T) {
	p := start(t, append(unhurried, "--log-level=error")...)
	h := &hammer{addr: strings.TrimPrefix(p.url, "http://")}
	const get = "GET /auth/me HTTP/1.1\r\nHost: localhost\r\n\r\n"
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() { h.run(get, false) })
		clients.Go(func() { h.run(get, true) })
		clients.Go(func() { h.run(hammerLogin, false) })
		clients.Go(func() { h.run(hammerLogin, true) })
	}
	require.Eventually(t, func() bool { return h.count() > 500 }, patience, time.Millisecond)
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool { return p.ready(t) == http.StatusServiceUnavailable }, patience, time.Millisecond)
	h.mu.Lock()
	h.red = true
	h.mu.Unlock()
	clients.Wait()
	assert.Zero(t, p.wait(t), "all was done")
	assert.Empty(t, h.lost, "of %d requests", h.answered)
	assert.Positive(t, h.late, "readiness goes red before anything else ends")
	t.Logf("%d answered, %d of them after readiness went red, %d lost", h.answered, h.late, len(h.lost))
}
