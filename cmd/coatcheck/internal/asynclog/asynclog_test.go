package asynclog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; nothing waits that long unless it is broken.
const patience = 2 * time.Minute

func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

func TestKeepsOrderAndLosesNothing(t *testing.T) {
	var out testoutput.Buffer
	s := New(&out, asJSON)
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
	require.True(t, s.Close(time.Now().Add(patience)))
	assert.Zero(t, s.Dropped())
	var next [writers]int
	for _, line := range out.Lines() {
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

// gate is a reader that reads when it is told to, and reports that a Write waits for it.
type gate struct {
	testoutput.Buffer
	waits chan struct{} // a value for each Write that has begun
	open  chan struct{}
}

func newGate() *gate { return &gate{waits: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) Write(b []byte) (int, error) {
	g.waits <- struct{}{}
	<-g.open
	return g.Buffer.Write(b)
}

func TestDropsAndSaysSo(t *testing.T) {
	g := newGate()
	s := New(g, asJSON)
	line := func(i int) string { return fmt.Sprintf("%06d%s\n", i, strings.Repeat("x", 1000)) }
	const lines = 5000
	write(t, s, line(0))
	<-g.waits // from here on nothing leaves the queue
	for i := 1; i < lines; i++ {
		write(t, s, line(i))
	}
	assert.False(t, s.Close(time.Now().Add(10*time.Millisecond)), "nobody reads")
	close(g.open)
	<-s.done
	got := g.Lines()
	kept := got[:len(got)-1]
	assert.Equal(t, 1+queueSize/len(line(0)), len(kept), "the line that is being written, and a full queue")
	for i := range kept {
		require.Equal(t, line(i), kept[i]+"\n", "the oldest are kept, in order")
	}
	var notice struct{ Lines int }
	require.NoError(t, json.Unmarshal([]byte(got[len(got)-1]), &notice))
	assert.Equal(t, lines-len(kept), notice.Lines)
	assert.Contains(t, got[len(got)-1], "were not read as fast as written")
	assert.EqualValues(t, notice.Lines, s.Dropped())
	write(t, s, "too late\n")
	assert.EqualValues(t, notice.Lines+1, s.Dropped())
}

// Lines that are kept have room of their own: a flood of others, before them and between them, pushes out none of them.
func TestKeptLinesAreNotPushedOut(t *testing.T) {
	g := newGate()
	s := New(g, asJSON)
	kept := s.Kept()
	write(t, s, "first\n")
	<-g.waits // from here on nothing leaves the queue
	flood := strings.Repeat("x", 1000) + "\n"
	const events, each = 2000, 5
	for i := range events {
		for range each {
			write(t, s, flood)
		}
		_, err := fmt.Fprintf(kept, "event %d\n", i)
		require.NoError(t, err)
	}
	close(g.open)
	require.True(t, s.Close(time.Now().Add(patience)))
	next, others, lost := 0, 0, 0
	for _, line := range g.Lines() {
		var notice struct{ Lines int }
		switch {
		case strings.HasPrefix(line, "event "):
			require.Equal(t, fmt.Sprintf("event %d", next), line)
			next++
		case strings.HasPrefix(line, "x"):
			others++
		case json.Unmarshal([]byte(line), &notice) == nil:
			lost += notice.Lines
		}
	}
	assert.Equal(t, events, next)
	assert.Equal(t, events*each, others+lost)
	assert.Positive(t, lost)
}

// Lines that are kept are bounded, too.
func TestKeptLinesAreBounded(t *testing.T) {
	g := newGate()
	s := New(g, asJSON)
	write(t, s, "first\n")
	<-g.waits
	line := strings.Repeat("x", 1000) + "\n"
	const lines = 10_000
	for range lines {
		_, err := io.WriteString(s.Kept(), line)
		require.NoError(t, err)
	}
	assert.EqualValues(t, lines-(queueSize+keptSize)/len(line), s.Dropped())
	close(g.open)
	require.True(t, s.Close(time.Now().Add(patience)))
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

func TestGoesOnAfterErrors(t *testing.T) {
	f := &failing{full: true}
	s := New(f, asJSON)
	write(t, s, "one\n")
	require.Eventually(t, func() bool { return s.Dropped() == 1 }, patience, time.Millisecond)
	f.mu.Lock()
	f.full = false
	f.mu.Unlock()
	write(t, s, "two\n")
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.buf.Len() > 0 }, patience, time.Millisecond)
	write(t, s, "three\n")
	require.True(t, s.Close(time.Now().Add(patience)))
	text := f.buf.String()
	assert.Contains(t, text, `because they could not be written","lines":2,"err":"full"`)
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
func TestAfterATornLine(t *testing.T) {
	out := &short{room: len("one\ntw")}
	s := &Writer{to: out, wake: make(chan struct{}, 1)} // without its goroutine: the test says when it writes
	s.notice = slog.New(asJSON(&s.note))
	write(t, s, "one\n")
	write(t, s, "two\n")
	assert.False(t, s.flush())
	assert.EqualValues(t, 1, s.Dropped())
	out.room = 1 << 20
	write(t, s, "three\n")
	assert.True(t, s.flush())
	write(t, s, "four\n")
	assert.True(t, s.flush())
	assert.Regexp(t, `^one\ntw\n\{.*"lines":2,"err":"full"\}\nfour\n$`, out.buf.String(), "two, and three, which would stand before the notice")
}

// write writes a line, which never fails.
func write(t *testing.T, s *Writer, line string) {
	t.Helper()
	_, err := io.WriteString(s, line)
	require.NoError(t, err)
}
