package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

// dial opens a connection to the public listener.
func (p *process) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // it may be closed already
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// half sends a login without the end of its body, and returns when the server has read its headers: the request is in flight until the
// rest is sent.
func (p *process) half(t *testing.T) (conn net.Conn, rest string) {
	t.Helper()
	const body = `{"user_id":"user-42"}`
	conn = p.dial(t)
	_, err := fmt.Fprintf(conn, "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	require.NoError(t, err)
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	answer := make([]byte, len(interim))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, interim, string(answer))
	_, err = io.WriteString(conn, body[:5])
	require.NoError(t, err)
	return conn, body[5:]
}

// unhurried are flags with which no timeout of the server ends what a test is about, not even on a busy machine.
var unhurried = []string{"--read-timeout=10m", "--idle-timeout=10m", "--shutdown-timeout=10m"}

func TestStopOrder(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, unhurried...)
			inFlight, rest := p.half(t)
			idle := p.dial(t)
			idleAnswers := bufio.NewReader(idle)
			_, err := io.WriteString(idle, "GET /auth/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(idleAnswers, nil)
			require.NoError(t, err)
			_, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, p.ready(t))

			p.signal(t, sig)
			require.Eventually(t, func() bool { return p.ready(t) == http.StatusServiceUnavailable }, patience, time.Millisecond,
				"readiness goes red")
			_, err = idleAnswers.ReadByte()
			assert.ErrorIs(t, err, io.EOF, "the idle connection is closed")
			require.Eventually(t, func() bool {
				conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), patience) //nolint:noctx // the test's context ends too late to matter here
				if err == nil {
					_ = conn.Close() // only whether it opened counts
				}
				return err != nil
			}, patience, 5*time.Millisecond, "accepting stops")
			assert.False(t, p.ended(), "a request is in flight")
			_, err = io.WriteString(inFlight, rest)
			require.NoError(t, err)
			resp, err = http.ReadResponse(bufio.NewReader(inFlight), nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusOK, resp.StatusCode, "the request in flight is answered")
			assert.Zero(t, p.wait(t), "and nothing waits for a timeout")
		})
	}
}

// Clients that watch readiness, as load balancers do, lose no request. Connections are accepted for a quarter of a second after
// it went red; on a busy machine clients may take longer to turn away, and what is refused then says nothing.
func TestNoRequestIsLost(t *testing.T) {
	t.Parallel()
	for range 5 {
		refused, noticed := stopWatched(t)
		if refused == 0 || t.Failed() {
			return
		}
		// One client may be held up between looking and dialling, but hardly half of them while the watcher is not.
		require.False(t, refused >= 4 && noticed < 100*time.Millisecond, "%d clients were refused, and red was seen after %v", refused, noticed)
	}
	require.Fail(t, "connections were refused at each of five stops")
}

// stopWatched stops a server under eight clients that turn away once readiness is red, and returns how many of them were refused a
// connection, and how long after the last green red was seen.
func stopWatched(t *testing.T) (refused int64, noticed time.Duration) {
	t.Helper()
	p := start(t, append(unhurried, "--log-level=error")...)
	var red atomic.Bool
	var served, turnedAway atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: new(http.Transport)}
			defer client.CloseIdleConnections()
			for !red.Load() {
				resp, err := client.Get(p.url + "/auth/me") //nolint:noctx // bounded by the server's end
				if errors.Is(err, syscall.ECONNREFUSED) {
					turnedAway.Add(1)
					return
				}
				if !assert.NoError(t, err) {
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
				assert.NoError(t, resp.Body.Close())
				assert.Equal(t, http.StatusOK, resp.StatusCode)
				served.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return served.Load() > 500 }, patience, time.Millisecond)
	green := time.Now()
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool {
		asked := time.Now()
		if p.ready(t) != http.StatusOK {
			return true
		}
		green = asked
		return false
	}, patience, time.Millisecond)
	noticed = time.Since(green)
	red.Store(true)
	clients.Wait()
	assert.Zero(t, p.wait(t))
	return turnedAway.Load(), noticed
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := start(t, unhurried...)
	p.half(t)
	p.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool { return p.ready(t) == http.StatusServiceUnavailable }, patience, time.Millisecond)
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { // those of the first second are the same stop
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	}, patience, 50*time.Millisecond)
	assert.Equal(t, exitFailed, p.wait(t))
	p.logged(t, "a second signal ended the server at once")
}

func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, "--shutdown-timeout=400ms", "--read-timeout=10m")
	p.half(t)
	p.signal(t, syscall.SIGTERM)
	assert.Equal(t, exitFailed, p.wait(t))
	p.logged(t, "requests were cut off after --shutdown-timeout 400ms")
}

func TestHangUpIsNoEnd(t *testing.T) {
	t.Parallel()
	p := start(t, unhurried...)
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "re-read keys, users, certificates and --sessions-not-before")
	assert.Equal(t, http.StatusOK, p.ready(t))
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
}

// The same in this process, so that TestMain sees whether a goroutine stays behind.
func TestServeLeavesNothingBehind(t *testing.T) {
	for _, admin := range []string{"127.0.0.1:0", "off"} {
		signals := daemon.NewSignals()
		var stdout, stderr testoutput.Buffer
		code := make(chan int, 1)
		go func() {
			code <- run([]string{"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=" + admin}, nil, signals, nil, &stdout, &stderr)
		}()
		require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "Try it") }, patience, time.Millisecond)
		signals.Stop <- syscall.SIGTERM
		select {
		case got := <-code:
			assert.Equal(t, exitOK, got, stderr.String())
		case <-time.After(patience):
			require.Fail(t, "serve does not end")
		}
	}
}
