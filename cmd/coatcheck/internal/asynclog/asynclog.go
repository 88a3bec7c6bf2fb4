// Package asynclog writes the log in the background, so that a slow reader of the log does not hold up the program.
package asynclog

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueSize is how many bytes of the log may wait for a slow reader: more than two thousand audit events. The batch that is
	// being written may be as large again.
	queueSize = 1 << 20
	// keptSize is how many more bytes there are for the lines of Kept alone.
	keptSize = 1 << 20
)

// Writer queues lines for a log whose reader may be slow, so that no request waits: a line that does not fit into the queue
// is dropped and counted, and once the log can be written again, a line behind those that waited says how many are missing.
// The other lines keep their order. Each Write is one line. Safe for concurrent use.
type Writer struct {
	to      io.Writer
	notice  *slog.Logger // writes into note
	note    bytes.Buffer // owned by run
	spare   []byte       // owned by run: the memory of the previous batch
	torn    bool         // owned by run: the last write ended in the middle of a line
	failure error        // owned by run: why lines could not be written since the last notice, if that was it
	dropped atomic.Int64 // written by Write and run
	wake    chan struct{}
	done    chan struct{} // closed when run has ended

	mu     sync.Mutex
	queue  []byte // guarded by mu
	lines  int64  // guarded by mu: number of lines in queue
	lost   int64  // guarded by mu: lines dropped since the last line that was written
	closed bool   // guarded by mu
}

// New returns a Writer that writes to the writer to. handler makes a handler with the log's format, for the line that says
// how many lines are missing. Close ends its goroutine.
func New(to io.Writer, handler func(io.Writer) slog.Handler) *Writer {
	w := &Writer{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.notice = slog.New(handler(&w.note))
	go w.run()
	return w
}

// Write takes a line. It never waits, and it never fails: the caller could do nothing about it.
func (w *Writer) Write(line []byte) (int, error) { return w.take(line, false) }

// Kept returns a writer for lines that lines written otherwise must not push out: it has room of its own beside theirs.
func (w *Writer) Kept() io.Writer { return keptLines{w} }

type keptLines struct{ w *Writer }

func (k keptLines) Write(line []byte) (int, error) { return k.w.take(line, true) }

func (w *Writer) take(line []byte, kept bool) (int, error) {
	w.mu.Lock()
	room := queueSize
	if kept {
		room += keptSize
	}
	switch {
	case w.closed:
		w.dropped.Add(1)
	case !kept && w.lost > 0 || len(w.queue)+len(line) > room:
		// A short line that would fit is dropped as well, because it would stand before older lines that are missing.
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

// Close writes what is in the queue, until the given time at the latest, and reports whether all of it was written. Lines
// that are logged later are dropped.
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
	default: // run has not seen the last wake-up yet, and will write everything in the queue
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

// flush writes the queue. It reports whether there was anything to write and all of it was written.
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
		batch = append(batch, w.account(lost)...)
	}
	if w.torn { // so that the next line is a line of its own
		if _, err := w.to.Write([]byte{'\n'}); err != nil {
			w.missing(lines, lost, err)
			return false
		}
		w.torn = false
	}
	n, err := w.to.Write(batch)
	if err == nil {
		w.failure = nil
		return true
	}
	// The reader has gone, or a disk is full. The next line is tried again, after the number of the missing lines.
	written := min(lines, int64(bytes.Count(batch[:n], []byte{'\n'})))
	w.torn = n > 0 && batch[n-1] != '\n'
	w.missing(lines-written, lost, err)
	return false
}

// account returns the line that says how many are missing, and why.
func (w *Writer) account(lost int64) []byte {
	w.note.Reset()
	if w.failure != nil {
		w.notice.Warn("log lines were dropped, because they could not be written", "lines", lost, "err", w.failure)
	} else {
		w.notice.Warn("log lines were dropped, because they were not read as fast as written", "lines", lost)
	}
	return w.note.Bytes()
}

// missing counts lines that could not be written, for the reason why, and unsaid ones: lines dropped before whose number could
// not be written either.
func (w *Writer) missing(lines, unsaid int64, why error) {
	w.failure = why
	w.dropped.Add(lines)
	w.mu.Lock()
	w.lost += lines + unsaid
	w.mu.Unlock()
}
