package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

func TestSpoolKeepsOrderAndLosesNothing(t *testing.T) {
	var out output
	s := newSpool(&out, asJSON)
	const writers, each = 8, 2000
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				_, err := fmt.Fprintf(s, "%d %d\n", w, i)
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	require.True(t, s.close(time.Now().Add(patience)))
	assert.Zero(t, s.Dropped())
	var next [writers]int
	for _, line := range out.lines() {
		var w, i int
		_, err := fmt.Sscanf(line, "%d %d", &w, &i)
		require.NoError(t, err, line)
		require.Equal(t, next[w], i, "of writer %d", w)
		next[w]++
	}
	for w := range next {
		assert.Equal(t, each, next[w])
	}
}

// gate is a reader that reads when it is told to.
type gate struct {
	output
	open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.output.Write(b)
}

func TestSpoolDropsAndSaysSo(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	s := newSpool(g, asJSON)
	line := func(i int) string { return fmt.Sprintf("%06d%s\n", i, strings.Repeat("x", 1000)) }
	const lines = 5000
	for i := range lines {
		_, err := io.WriteString(s, line(i))
		require.NoError(t, err)
	}
	assert.False(t, s.close(time.Now().Add(10*time.Millisecond)), "nobody reads")
	close(g.open)
	<-s.done
	got := g.lines()
	kept := got[:len(got)-1]
	assert.Less(t, len(kept)*1007, 2*spoolSize+2000, "the memory is bounded")
	assert.Greater(t, len(kept)*1007, spoolSize-2000)
	for i := range kept {
		require.Equal(t, line(i), kept[i]+"\n", "the oldest are kept, in order")
	}
	var notice struct{ Lines int }
	require.NoError(t, json.Unmarshal([]byte(got[len(got)-1]), &notice))
	assert.Equal(t, lines-len(kept), notice.Lines)
	assert.EqualValues(t, notice.Lines, s.Dropped())
	_, err := io.WriteString(s, "too late\n")
	require.NoError(t, err)
	assert.EqualValues(t, notice.Lines+1, s.Dropped())
}

// failing is a disk that is full for a while.
type failing struct {
	mu   sync.Mutex
	full bool         // guarded by mu
	buf  bytes.Buffer // guarded by mu
}

func (f *failing) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return 0, errors.New("full")
	}
	return f.buf.Write(b)
}

func TestSpoolGoesOnAfterErrors(t *testing.T) {
	f := &failing{full: true}
	s := newSpool(f, asJSON)
	_, err := io.WriteString(s, "one\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Dropped() == 1 }, patience, time.Millisecond)
	f.mu.Lock()
	f.full = false
	f.mu.Unlock()
	_, err = io.WriteString(s, "two\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.buf.Len() > 0 }, patience, time.Millisecond)
	_, err = io.WriteString(s, "three\n")
	require.NoError(t, err)
	require.True(t, s.close(time.Now().Add(patience)))
	text := f.buf.String()
	assert.Contains(t, text, `"lines":2`)
	assert.True(t, strings.HasSuffix(text, "}\nthree\n"), text)
}

// short is a disk with room for some bytes only, until there is more.
type short struct {
	room int
	buf  bytes.Buffer
}

func (s *short) Write(b []byte) (int, error) {
	n, _ := s.buf.Write(b[:min(len(b), s.room)])
	if s.room -= n; n < len(b) {
		return n, errors.New("full")
	}
	return n, nil
}

// A line that a full disk cut off is not continued by the next one, and only what is missing is counted.
func TestSpoolAfterATornLine(t *testing.T) {
	out := &short{room: len("one\ntw")}
	s := &spool{to: out, wake: make(chan struct{}, 1)} // without its goroutine: the test says when it writes
	s.notice = slog.New(asJSON(&s.note))
	say(s, "one\n")
	say(s, "two\n")
	assert.False(t, s.flush())
	assert.EqualValues(t, 1, s.Dropped())
	out.room = 1 << 20
	say(s, "three\n")
	assert.True(t, s.flush())
	say(s, "four\n")
	assert.True(t, s.flush())
	assert.Regexp(t, `^one\ntw\n\{.*"lines":2\}\nfour\n$`, out.buf.String(), "two, and three, which would stand before the notice")
}

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
