// Package openload sends requests at a fixed rate, whether or not the server keeps up with it: an open model. The latency of an
// answer counts from when its request was due, so that a request that had to wait behind a slow one shows what it waited.
//
// A thread for each CPU polls its connections without ever sleeping, because the timers of an operating system are late by tens
// of microseconds. How late the generator itself was is measured with every request.
package openload

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// Config is what to send.
type Config struct {
	Address     string   // an IPv4 address and a port
	Requests    [][]byte // whole requests, sent in turn
	Rate        float64  // requests a second, of all threads together
	Connections int
	Threads     int
	WarmUp      time.Duration // how long requests are sent before they count
	Duration    time.Duration // how long they count
}

// Result has the figures of the requests that count.
type Result struct {
	Requests int64   `json:"requests"`
	Bytes    int64   `json:"bytes"` // of the responses
	Seconds  float64 `json:"seconds"`
	// Latency is from when a request was due to when its response was read.
	Latency Quantiles `json:"latency_us"`
	// Late is the generator's own error: from when a request could be sent, which is when it was due and a connection was free, to
	// when it was sent.
	Late Quantiles `json:"late_us"`
	// Waited is the share of the requests that were due while no connection was free. It is the server's doing.
	Waited float64 `json:"waited"`
}

// Quantiles are of durations, in microseconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func quantiles(ns []int64) Quantiles {
	slices.Sort(ns)
	at := func(share float64) float64 { return float64(report.Quantile(ns, share)) / 1000 }
	return Quantiles{at(0.5), at(0.99), at(0.999), at(1)}
}

// Run sends the requests and waits for all responses. Any response but 200 is an error, and so is a server that answers nothing for
// ten seconds, or is still not done a minute after the last request was due.
func Run(c Config) (Result, error) {
	if c.Rate <= 0 || c.Threads < 1 || c.Connections < c.Threads || len(c.Requests) == 0 || c.Duration <= 0 {
		return Result{}, fmt.Errorf("a rate, a duration, requests, and a connection for each of the threads are needed: rate %v, %v, %d requests, %d connections, %d threads",
			c.Rate, c.Duration, len(c.Requests), c.Connections, c.Threads)
	}
	// All memory of the workers is allocated before they begin, and the garbage collector is off, because it would only delay them.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	workers := make([]*worker, c.Threads)
	for i := range workers {
		w, err := newWorker(c, i)
		if err != nil {
			return Result{}, err
		}
		defer w.close()
		workers[i] = w
	}
	start := time.Now().Add(50 * time.Millisecond)
	failed := make(chan error, len(workers))
	for _, w := range workers {
		go func() {
			runtime.LockOSThread()
			failed <- w.run(start)
		}()
	}
	for range workers {
		if err := <-failed; err != nil {
			return Result{}, err
		}
	}
	return sum(c, workers)
}

func sum(c Config, workers []*worker) (Result, error) {
	var r Result
	var latency, late []int64
	var waited int
	var last int64
	for _, w := range workers {
		latency, late = append(latency, w.latency...), append(late, w.late...)
		waited += w.waited
		r.Bytes += w.bytes
		last = max(last, w.last)
	}
	if len(latency) == 0 {
		return r, fmt.Errorf("no request was due in %v at %v a second", c.Duration, c.Rate)
	}
	r.Requests = int64(len(latency))
	r.Seconds = time.Duration(last - c.WarmUp.Nanoseconds()).Seconds()
	r.Waited = float64(waited) / float64(len(latency))
	r.Latency, r.Late = quantiles(latency), quantiles(late)
	return r, nil
}
