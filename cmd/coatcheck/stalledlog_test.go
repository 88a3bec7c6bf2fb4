package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pipe that nobody reads holds up no request; once it is read, the log says how much of it is missing.
func TestAStalledLogStopsNobody(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p := startWith(t, w, "--log-format=json")
	require.NoError(t, w.Close())

	// Enough for the pipe, what waits for it and what is on its way, several times.
	const clients, each = 8, 1000
	name := strings.Repeat(`\"`, 240)
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			client := &http.Client{Transport: new(http.Transport), Timeout: patience}
			defer client.CloseIdleConnections()
			for i := range each {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/auth/login",
					strings.NewReader(fmt.Sprintf(`{"user_id":"%d-%d%s"}`, n, i, name)))
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
				assert.NoError(t, resp.Body.Close())
				assert.Equal(t, http.StatusOK, resp.StatusCode)
			}
		})
	}
	all.Wait()
	_, _, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"u"}`)
	assert.Equal(t, "u", p.whose(t, cookie))

	// Each is there or counted. On a busy machine there may be several notices.
	events, lost := 0, 0
	scan := bufio.NewScanner(r)
	require.NoError(t, r.SetReadDeadline(time.Now().Add(patience)))
	for events+lost < clients*each+1 && scan.Scan() {
		var line struct {
			Event string
			Lines int
		}
		require.NoError(t, json.Unmarshal(scan.Bytes(), &line), scan.Text())
		if line.Event == "login" {
			events++
		}
		lost += line.Lines
	}
	require.NoError(t, scan.Err())
	assert.Equal(t, clients*each+1, events+lost)
	assert.Positive(t, lost)

	// The log is written again.
	go p.ask(t, "POST", "/auth/login", "", `{"user_id":"later"}`)
	for scan.Scan() && !strings.Contains(scan.Text(), "later") {
		assert.NotContains(t, scan.Text(), `"lines"`)
	}
	require.NoError(t, scan.Err())
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	require.NoError(t, r.Close())
}

// The end does not wait for a log that nobody reads longer than it may take at all.
func TestAStalledLogDelaysTheEndNoLonger(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	fillPipe(t, w)
	p := startWith(t, w, "--shutdown-timeout=5s")
	require.NoError(t, w.Close())
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	require.NoError(t, r.Close())
}

// fillPipe writes until the pipe takes nothing more.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	for {
		require.NoError(t, w.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		if n, err := w.Write(make([]byte, 4096)); n == 0 {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}
