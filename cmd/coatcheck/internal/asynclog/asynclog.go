// Package asynclog keeps a slow reader of the log from holding up whoever writes it.
package asynclog

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// queueSize is how many bytes of the log wait for a reader who is slow: two thousand audit events and more. As much again
// may be on its way.
const queueSize = 1 << 20

// Writer stands between the log and whoever reads it, so that no request waits for him: a line that does not fit is dropped
// and counted, and once the log flows again a line in the place of those that are missing says how many they were. The
// others keep their order. Each Write is one line.
type Writer struct {
	to      io.Writer
	notice  *slog.Logger // writes into note
	note    bytes.Buffer // owned by run
	spare   []byte       // owned by run: the space of the batch before
	torn    bool         // owned by run: what was written last ends in the middle of a line
	dropped atomic.Int64 // written by Write and run
	wake    chan struct{}
	done    chan struct{}

	mu     sync.Mutex
	queue  []byte // guarded by mu
	lines  int64  // guarded by mu: in queue
	lost   int64  // guarded by mu: lines dropped since the last that was written
	closed bool   // guarded by mu
}

// New returns a Writer that writes to w. handler makes the handler that has the log's format, for its own line.
func New(w io.Writer, handler func(io.Writer) slog.Handler) *Writer {
	s := &Writer{to: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.notice = slog.New(handler(&s.note))
	go s.run()
	return s
}

// Write takes a line and never waits. It never fails: whoever logs could do nothing about it.
func (s *Writer) Write(line []byte) (int, error) {
	s.mu.Lock()
	switch {
	case s.closed:
		s.dropped.Add(1)
	case s.lost > 0 || len(s.queue)+len(line) > queueSize:
		// Also a short line that would fit: it would stand before older ones that are missing.
		s.lost++
		s.dropped.Add(1)
	default:
		s.queue = append(s.queue, line...)
		s.lines++
	}
	s.mu.Unlock()
	s.signal()
	return len(line), nil
}

// Dropped returns how many lines were not written so far, because the reader was slow or has gone.
func (s *Writer) Dropped() int64 { return s.dropped.Load() }

// Close writes what is still there, for as long as until says, and reports whether all of it was written. What is logged
// afterwards is dropped.
func (s *Writer) Close(until time.Time) bool {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

func (s *Writer) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // run has not seen the last one yet, and will look at all there is
	}
}

func (s *Writer) run() {
	defer close(s.done)
	for range s.wake {
		s.mu.Lock()
		last := s.closed
		s.mu.Unlock()
		for s.flush() {
		}
		if last {
			return
		}
	}
}

// flush writes what is queued. It reports whether there was anything, and it went.
func (s *Writer) flush() bool {
	s.mu.Lock()
	batch, lines, lost := s.queue, s.lines, s.lost
	s.queue, s.lines, s.lost = s.spare[:0], 0, 0
	s.mu.Unlock()
	s.spare = batch
	if lines == 0 && lost == 0 {
		return false
	}
	if lost > 0 {
		s.note.Reset()
		s.notice.Warn("log lines were dropped, because they were not read as fast as written", "lines", lost)
		batch = append(batch, s.note.Bytes()...)
	}
	if s.torn { // so that what follows is a line of its own
		if _, err := s.to.Write([]byte{'\n'}); err != nil {
			s.missing(lines, lost)
			return false
		}
		s.torn = false
	}
	n, err := s.to.Write(batch)
	if err == nil {
		return true
	}
	// The reader has gone, or a disk is full; the next line tries again, after saying how many are missing.
	written := min(lines, int64(bytes.Count(batch[:n], []byte{'\n'})))
	s.torn = n > 0 && batch[n-1] != '\n'
	s.missing(lines-written, lost)
	return false
}

// missing notes lines that could not be written, beside those whose number could not be told.
func (s *Writer) missing(lines, untold int64) {
	s.dropped.Add(lines)
	s.mu.Lock()
	s.lost += lines + untold
	s.mu.Unlock()
}
