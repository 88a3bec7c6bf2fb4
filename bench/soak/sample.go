package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// series are what is sampled, in the order of the plot. A series without an allowance is shown and not judged: latency on a shared
// machine says more about the machine than about the server.
var series = []struct {
	name, unit string
	allow      *allowance
}{
	{"RSS", "MiB", &allowance{share: 0.1, floor: 4}},
	{"heap that lives", "MiB", &allowance{share: 0.1, floor: 1}},
	{"goroutines", "", &allowance{share: 0.1, floor: 5}},
	{"file descriptors", "", &allowance{share: 0.1, floor: 5}},
	{"sessions", "", &allowance{share: 0.1, floor: 50}},
	{"requests", "/s", nil},
	{"p50", "ms", nil},
	{"p99", "ms", nil},
}

// The indexes of two series: sessions, and requests a second.
const countSeries, rateSeries = 4, 5

// sample is a value for each series, at so many seconds after the start.
type sample struct {
	At     float64   `json:"at"`
	Values []float64 `json:"values"`
}

// sampler takes samples of a server.
type sampler struct {
	pid      int
	admin    string
	http     *http.Client
	sessions func(ctx context.Context) (float64, error)
	tally    *tally

	last     time.Time
	requests int
}

func (s *sampler) sample(ctx context.Context, at time.Duration) (sample, error) {
	got := sample{At: at.Seconds()}
	for _, look := range []func(context.Context) (float64, error){s.rss, s.heap, s.goroutines, s.descriptors, s.sessions} {
		v, err := look(ctx)
		if err != nil {
			return got, err
		}
		got.Values = append(got.Values, v)
	}
	p50, p99 := s.tally.latency()
	got.Values = append(got.Values, s.rate(), p50, p99)
	return got, nil
}

func (s *sampler) rate() float64 {
	s.tally.mu.Lock()
	n := s.tally.requests
	s.tally.mu.Unlock()
	now := time.Now()
	rate := float64(n-s.requests) / now.Sub(s.last).Seconds()
	s.last, s.requests = now, n
	return rate
}

func (s *sampler) rss(context.Context) (float64, error) {
	bytes, err := process.Resident(s.pid)
	return float64(bytes) / (1 << 20), err
}

func (s *sampler) descriptors(context.Context) (float64, error) {
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.pid), "fd"))
	return float64(len(open)), err
}

var (
	nextGC      = regexp.MustCompile(`(?m)^# NextGC = (\d+)`)
	allRoutines = regexp.MustCompile(`^goroutine profile: total (\d+)`)
	liveRecords = regexp.MustCompile(`(?m)^coatcheck_sessions(?:\{[^}]*\})? (\S+)`)
)

// heap is the size of the live heap at the last collection: with GOGC at 100 half of the size at which the next one begins. The
// allocated size would not do, because it rises and falls between two collections.
func (s *sampler) heap(ctx context.Context) (float64, error) {
	goal, err := s.ask(ctx, "/debug/pprof/heap?debug=1", nextGC)
	return goal / 2 / (1 << 20), err
}

func (s *sampler) goroutines(ctx context.Context) (float64, error) {
	return s.ask(ctx, "/debug/pprof/goroutine?debug=1", allRoutines)
}

// inMemory is how many sessions the memory store has.
func (s *sampler) inMemory(ctx context.Context) (float64, error) {
	return s.ask(ctx, "/metrics", liveRecords)
}

func (s *sampler) ask(ctx context.Context, path string, what *regexp.Regexp) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return number(path, what, text)
}

func number(from string, what *regexp.Regexp, text []byte) (float64, error) {
	found := what.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("%s does not have %s: %.200s", from, what, text)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
