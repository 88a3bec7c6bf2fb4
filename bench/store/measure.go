package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/shardstore"
)

// memory is what holding n sessions costs. Times are nanoseconds for each operation.
type memory struct {
	Subject           string
	N, Bytes          int
	Over              float64 // bytes for each session above its record
	GC                float64 // milliseconds of a full collection, the median of five
	Load1, Load2      float64 // by one goroutine and by two
	Create, Swap, End float64
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// walk is the session of a turn, in an order that defeats the prefetcher.
func walk(turn, n int) int { return int(uint64(turn) * 0x9E3779B97F4A7C15 >> 11 % uint64(n)) }

const operations = 300_000

func measureMemory(name string, n, bytes int) (memory, error) {
	i := slices.IndexFunc(subjects, func(s subject) bool { return s.name == name })
	if i < 0 {
		return memory{}, fmt.Errorf("no store is called %q", name)
	}
	empty := heap() // some stores allocate all of their memory at the start
	s, err := subjects[i].make(n, bytes)
	if err != nil {
		return memory{}, err
	}
	m := memory{Subject: name, N: n, Bytes: bytes}
	if err := fill(s, n, bytes, 30*time.Minute); err != nil {
		return m, err
	}
	m.Over = (float64(heap())-float64(empty))/float64(n) - float64(bytes)
	var gcs []float64
	for range 5 {
		began := time.Now()
		runtime.GC()
		gcs = append(gcs, float64(time.Since(began).Microseconds())/1000)
	}
	m.GC = report.Median(gcs)
	if m.Load1, err = loads(s, n, 1); err != nil {
		return m, err
	}
	if m.Load2, err = loads(s, n, 2); err != nil {
		return m, err
	}
	err = writes(s, n, bytes, &m)
	return m, err
}

// fill creates n sessions whose records have so many bytes.
func fill(s store, n, bytes int, ttl time.Duration) error {
	var rec coatcheck.Record
	for i := range n {
		if err := write(&rec, i, 1, bytes, ttl); err != nil {
			return err
		}
		if err := s.create(i, &rec); err != nil {
			return err
		}
	}
	return nil
}

func loads(s store, n, goroutines int) (ns float64, err error) {
	const each = 1_000_000
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	began := time.Now()
	for g := range goroutines {
		running.Go(func() {
			var buf coatcheck.Record
			for i := range each {
				if err := s.load(walk(i+g*each, n), &buf); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	running.Wait()
	ns = float64(time.Since(began).Nanoseconds()) / float64(each*goroutines)
	if err := failed.Load(); err != nil {
		return ns, *err
	}
	return ns, nil
}

func writes(s store, n, bytes int, m *memory) error {
	var rec coatcheck.Record
	for _, op := range []struct {
		ns      *float64
		version uint64
		do      func(i int) error
	}{
		{&m.Create, 1, func(i int) error { return s.create(i, &rec) }},
		{&m.Swap, 2, func(i int) error { return s.swap(i, &rec) }},
		{&m.End, 2, s.end},
	} {
		var spent time.Duration
		for i := range operations {
			if err := write(&rec, n+i, op.version, bytes, 30*time.Minute); err != nil {
				return err
			}
			began := time.Now()
			if err := op.do(n + i); err != nil {
				return err
			}
			spent += time.Since(began)
		}
		*op.ns = float64(spent.Nanoseconds()) / operations
	}
	return nil
}

// storm is the latency of a Load from when it was due, in nanoseconds, and how many sessions the janitor removed meanwhile.
type storm struct {
	What           string
	P50, P99, P999 int64
	Loads, Expired int
}

// measureStorm loads live sessions at a steady 20,000 a second, first while nothing else happens and then while a million other
// sessions expire within a second.
func measureStorm(n int) ([]storm, error) {
	const expiring = 1_000_000
	s, err := newCoatcheck(shardstore.Options{})
	if err != nil {
		return nil, err
	}
	n = max(n, expiring/5)
	if err := fill(s, n, 128, time.Hour); err != nil {
		return nil, err
	}
	var rec coatcheck.Record
	storms := time.Now().Add(25 * time.Second)
	for i := range expiring {
		at := storms.Add(time.Duration(i) * time.Microsecond)
		if err := write(&rec, n+i, 1, 128, at.Sub(now)); err != nil {
			return nil, err
		}
		if err := s.create(n+i, &rec); err != nil {
			return nil, err
		}
	}
	if time.Now().After(storms.Add(-6 * time.Second)) {
		return nil, fmt.Errorf("the sessions expire before the quiet measurement begins: this machine is too slow for 25 s")
	}
	runtime.GC()
	quiet, err := latency(s, n, "quiet", 4*time.Second)
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Until(storms))
	before := s.Len()
	stormy, err := latency(s, n, "a million expire", 3*time.Second)
	stormy.Expired = before - s.Len()
	return []storm{quiet, stormy}, err
}

func latency(s coat, n int, what string, span time.Duration) (storm, error) {
	var buf coatcheck.Record
	began := time.Now()
	took, err := steadily(func() time.Duration { return time.Since(began) }, span, 50*time.Microsecond, func(i int) error {
		return s.Load(context.Background(), key(walk(i, n)), coatcheck.ID{1}, now, &buf)
	})
	at := func(share float64) int64 { return report.Quantile(took, share) }
	return storm{What: what, P50: at(.5), P99: at(.99), P999: at(.999), Loads: len(took)}, err
}

// steadily does something as often as it is due within a span, and returns how long after it was due each was done, in nanoseconds: one
// that has to wait for the one before it is late, too.
func steadily(clock func() time.Duration, span, every time.Duration, do func(i int) error) (late []int64, err error) {
	late = make([]int64, 0, span/every)
	began := clock()
	for i := range int(span / every) {
		due := began + time.Duration(i)*every
		for clock() < due { //nolint:revive // a sleep ends later than a load takes
		}
		if err := do(i); err != nil {
			return late, err
		}
		late = append(late, (clock() - due).Nanoseconds())
	}
	return late, nil
}

// restored is how long a store of a million sessions takes to start again, in seconds.
type restored struct {
	Sessions int
	MiB      float64
	Seconds  float64
}

func measureRestore() (r restored, err error) {
	const n = 1_000_000
	dir, err := os.MkdirTemp("", "bench-store")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := newCoatcheck(shardstore.Options{Dir: dir})
	if err != nil {
		return r, err
	}
	if err := fill(s, n, 128, time.Hour); err != nil {
		return r, err
	}
	stats := s.Stats()
	r.MiB = float64(stats.JournalBytes+stats.SnapshotBytes) / (1 << 20)
	if err := s.Close(); err != nil {
		return r, err
	}
	runtime.GC()
	began := time.Now()
	if s, err = newCoatcheck(shardstore.Options{Dir: dir}); err != nil {
		return r, err
	}
	r.Seconds, r.Sessions = time.Since(began).Seconds(), s.Len()
	return r, s.Close()
}
