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

// queueSize is how many bytes of the log wait for a slow reader: two thousand audit events and more. The batch that is being written
// may be as large again.
const queueSize = 1 << 20

// Writer stands between the log and a reader of it that may be slow, so that no request waits: a line that does not fit into the
// queue is dropped and counted, and once the log flows again a line in the place of those that are missing says how many they were.
// The others keep their order. Each Write is one line. Safe for concurrent use.
type Writer struct {
	to      io.Writer
	notice  *slog.Logger // writes into note
	note    bytes.Buffer // owned by run
	spare   []byte       // owned by run: the memory of the batch before
	torn    bool         // owned by run: what was written last ends in the middle of a line
	dropped atomic.Int64 // written by Write and run
	wake    chan struct{}
	done    chan struct{} // closed when run has ended

	mu     sync.Mutex
	queue  []byte // guarded by mu
	lines  int64  // guarded by mu: in queue
	lost   int64  // guarded by mu: lines dropped since the last that was written
	closed bool   // guarded by mu
}

// New returns a Writer in front of to. handler makes a handler with the log's format, for the line that says how many are missing.
// Close ends its goroutine.
func New(to io.Writer, handler func(io.Writer) slog.Handler) *Writer {
	w := &Writer{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.notice = slog.New(handler(&w.note))
	go w.run()
	return w
}

// Write takes a line. It never waits, and it never fails: the caller could do nothing about it.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	switch {
	case w.closed:
		w.dropped.Add(1)
	case w.lost > 0 || len(w.queue)+len(line) > queueSize:
		// A short line that would fit is dropped as well: it would stand before older ones that are missing.
		w.lost++
		w.dropped.Add(1)
	default:
		w.queue = append(w.queue, line...)
		w.lines++
	}
	w.mu.Unlock()
	w.signal()
	return len(line), nil
}

// Dropped returns how many lines were not written so far, because the reader was slow or has gone.
func (w *Writer) Dropped() int64 { return w.dropped.Load() }

// Close writes what is in the queue, but not beyond the time until, and reports whether all of it was written. What is logged after
// it is dropped.
func (w *Writer) Close(until time.Time) bool {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-w.done:
		return true
	case <-timer.C:
		return false
	}
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // run has not seen the last one yet, and will write all that there is
	}
}

// run writes whatever is queued, until Close.
func (w *Writer) run() {
	defer close(w.done)
	for range w.wake {
		w.mu.Lock()
		last := w.closed
		w.mu.Unlock()
		for w.flush() {
		}
		if last {
			return
		}
	}
}

// flush writes what is queued. It reports whether there was anything and all of it was written.
func (w *Writer) flush() bool {
	w.mu.Lock()
	batch, lines, lost := w.queue, w.lines, w.lost
	w.queue, w.lines, w.lost = w.spare[:0], 0, 0
	w.mu.Unlock()
	w.spare = batch
	if lines == 0 && lost == 0 {
		return false
	}
	if lost > 0 {
		w.note.Reset()
		w.notice.Warn("log lines were dropped, because they were not read as fast as written", "lines", lost)
		batch = append(batch, w.note.Bytes()...)
	}
	if w.torn { // so that what follows is a line of its own
		if _, err := w.to.Write([]byte{'\n'}); err != nil {
			w.missing(lines, lost)
			return false
		}
		w.torn = false
	}
	n, err := w.to.Write(batch)
	if err == nil {
		return true
	}
	// The reader has gone, or a disk is full. The next line is tried again, behind the number of those that are missing.
	written := min(lines, int64(bytes.Count(batch[:n], []byte{'\n'})))
	w.torn = n > 0 && batch[n-1] != '\n'
	w.missing(lines-written, lost)
	return false
}

// missing counts lines that could not be written, beside those that were dropped before and whose number could not be written either.
func (w *Writer) missing(lines, unsaid int64) {
	w.dropped.Add(lines)
	w.mu.Lock()
	w.lost += lines + unsaid
	w.mu.Unlock()
}
