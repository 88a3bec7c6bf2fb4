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
	origin := strings.Repeat(`"`, 240)
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			client := &http.Client{Transport: new(http.Transport), Timeout: patience}
			defer client.CloseIdleConnections()
			for i := range each {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/auth/logout", http.NoBody)
				if !assert.NoError(t, err) {
					return
				}
				req.Header.Set("Origin", fmt.Sprintf("%d-%d%s", n, i, origin))
				resp, err := client.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
				assert.NoError(t, resp.Body.Close())
				assert.Equal(t, http.StatusForbidden, resp.StatusCode)
			}
		})
	}
	all.Wait()
	_, _, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"u"}`)
	assert.Equal(t, "u", p.whose(t, cookie))

	events, lost := 0, -1
	scan := bufio.NewScanner(r)
	for lost < 0 && scan.Scan() {
		var line struct {
			Event string
			Lines int
		}
		require.NoError(t, json.Unmarshal(scan.Bytes(), &line), scan.Text())
		if line.Event == "cross_site_refused" {
			events++
		}
		if line.Lines > 0 {
			lost = line.Lines
		}
	}
	require.NoError(t, scan.Err())
	assert.Equal(t, clients*each+1, events+lost, "each is there or counted, the login too")

	// It flows again.
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
	r, w, err := os.Pipe()
	require.NoError(t, err)
	// Full from the start.
	require.NoError(t, w.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = w.Write(make([]byte, 1<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	p := startWith(t, w, "--shutdown-timeout=1s")
	require.NoError(t, w.Close())
	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	assert.Less(t, time.Since(began), patience/2)
	require.NoError(t, r.Close())
}
