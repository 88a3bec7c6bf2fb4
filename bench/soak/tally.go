package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// tally counts what the visitors did and saw.
type tally struct {
	mu        sync.Mutex
	requests  int             // guarded by mu, like all below
	refused   int             // 503 while Redis was away
	kinds     map[string]int  // actions, by name
	took      []time.Duration // of the answers since the last sample
	wrong     int
	firstFew  []string
	outage    bool
	outageEnd time.Time
}

// settle is how long after the start of Redis a 503 is still allowed: rueidis waits between its attempts to connect.
const settle = 10 * time.Second

func newTally() *tally { return &tally{kinds: make(map[string]int)} }

func (t *tally) did(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds[what]++
}

func (t *tally) answered(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	t.took = append(t.took, took)
}

// away notes that the store is stopped, or running again.
func (t *tally) away(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outage, t.outageEnd = on, time.Now().Add(settle)
}

// unavailable counts a 503 and reports whether it was allowed: whether a request sent at that time could meet a stopped store.
func (t *tally) unavailable(sent time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.outage && sent.After(t.outageEnd) {
		return false
	}
	t.refused++
	return true
}

func (t *tally) fault(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrong++
	if len(t.firstFew) < 20 {
		t.firstFew = append(t.firstFew, time.Now().UTC().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
	}
}

// latency returns the median and the 99th percentile of the answers since the last call, in milliseconds.
func (t *tally) latency() (p50, p99 float64) {
	t.mu.Lock()
	took := t.took
	t.took = make([]time.Duration, 0, len(took))
	t.mu.Unlock()
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return ms(report.Quantile(took, 0.5)), ms(report.Quantile(took, 0.99))
}
