package main

import (
	"context"
	"math"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// result is what a measurement found, and what is needed to judge it.
type result struct {
	Date     time.Time         `json:"date"`
	Machine  report.Machine    `json:"machine"`
	Versions map[string]string `json:"versions"` // of the tools
	Settings runSettings       `json:"settings"`
	Peers    []peerInfo        `json:"peers"`
	Skipped  []skipped         `json:"skipped"`
	Rows     []*row            `json:"rows"`

	later []*result // measurements that replaced some of the rows
}

type runSettings struct {
	Rounds      int          `json:"rounds"`
	Seconds     int          `json:"seconds"`
	WarmUp      int          `json:"warmup_seconds"`
	Connections int          `json:"connections"`
	Refreshing  int          `json:"refreshing_connections"`
	Sessions    int          `json:"sessions"`
	Resident    int          `json:"resident"`
	CPUs        process.CPUs `json:"cpus"`
}

// cores is how many the server had.
func (s *runSettings) cores() int { return len(s.CPUs.Server) }

type peerInfo struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Module  string `json:"module,omitempty"`
	Version string `json:"version"`
	Twin    bool   `json:"twin,omitempty"`
}

type skipped struct {
	Peer   string `json:"peer"`
	Store  string `json:"store"` // and the scenario, if it was left out of that one only
	Reason string `json:"reason"`
}

// row is one peer in one scenario: a sample a round, and the median of each figure.
type row struct {
	Peer     string    `json:"peer"`
	Scenario string    `json:"scenario"`
	Store    string    `json:"store"`
	Rounds   []*sample `json:"rounds"`
	Median   sample    `json:"median"`
}

// sample is one turn.
type sample struct {
	RPS      float64 `json:"rps"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	CPU      float64 `json:"cpu_us_per_request"` // of the server process, user and kernel
	Kernel   float64 `json:"kernel_us_per_request"`
	RSS      float64 `json:"peak_rss_mib"`
	Ratio    float64 `json:"ratio"` // of RPS to the ceiling's, or to that of the first row, in the same round
	Cores    float64 `json:"server_cores_used"`
	Load     float64 `json:"load_cores_used"`
	Foreign  float64 `json:"foreign_cores"` // cores that other programs used meanwhile
	Requests int64   `json:"requests"`
}

func (s *sample) foreign() float64 { return s.Foreign }

// newSample is what the load generator saw, and what the server used meanwhile.
func newSample(l *load, server process.CPU, rss int64) *sample {
	seconds, requests := l.seconds(), float64(l.Requests)
	return &sample{
		RPS: digits(requests / seconds), P50: float64(l.P50), P99: float64(l.P99),
		CPU: digits(float64(server.Total().Microseconds()) / requests), Kernel: digits(float64(server.Kernel.Microseconds()) / requests),
		RSS:   digits(float64(rss) / (1 << 20)),
		Cores: digits(server.Total().Seconds() / seconds), Load: digits(l.cpu.Seconds() / seconds), Requests: l.Requests,
	}
}

// digits rounds to three decimals, more than any of these figures is exact to.
func digits(f float64) float64 { return math.Round(f*1000) / 1000 }

func newResult(ctx context.Context, s *settings, cpus process.CPUs) *result {
	tool := func(name string, args ...string) string { return versionOf(ctx, name, args...) }
	return &result{
		Date:    time.Now().UTC().Truncate(time.Second),
		Machine: report.ThisMachine(),
		Versions: map[string]string{
			"Go": strings.TrimPrefix(runtime.Version(), "go"), "Node": tool("node", "--version"), "Rust": tool("rustc", "--version"),
			"wrk": tool("wrk", "-v"), "Redis": tool("redis-server", "--version"),
		},
		Settings: runSettings{
			s.rounds, int(s.duration.Seconds()), int(s.warmUp.Seconds()), s.connections, s.refreshing(), s.sessions, s.resident, cpus,
		},
	}
}

// versionOf is the first number with a point in what a program prints; empty if the program is not installed.
func versionOf(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // wrk -v ends with 1
	return versionForm.FindString(string(out))
}

var versionForm = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func (r *result) row(peer, scenario, store string) *row {
	for _, w := range r.Rows {
		if w.Peer == peer && w.Scenario == scenario && w.Store == store {
			return w
		}
	}
	return nil
}

func (r *result) add(peer, scenario, store string, one *sample) {
	w := r.row(peer, scenario, store)
	if w == nil {
		w = &row{Peer: peer, Scenario: scenario, Store: store}
		r.Rows = append(r.Rows, w)
	}
	w.Rounds = append(w.Rounds, one)
	pick := func(f func(*sample) float64) float64 {
		var all []float64
		for _, s := range w.Rounds {
			all = append(all, f(s))
		}
		return report.Median(all)
	}
	w.Median = sample{
		RPS:      pick(func(s *sample) float64 { return s.RPS }),
		P50:      pick(func(s *sample) float64 { return s.P50 }),
		P99:      pick(func(s *sample) float64 { return s.P99 }),
		CPU:      pick(func(s *sample) float64 { return s.CPU }),
		Kernel:   pick(func(s *sample) float64 { return s.Kernel }),
		RSS:      pick(func(s *sample) float64 { return s.RSS }),
		Ratio:    pick(func(s *sample) float64 { return s.Ratio }),
		Cores:    pick(func(s *sample) float64 { return s.Cores }),
		Load:     pick(func(s *sample) float64 { return s.Load }),
		Foreign:  pick(func(s *sample) float64 { return s.Foreign }),
		Requests: int64(pick(func(s *sample) float64 { return float64(s.Requests) })),
	}
}

// paired is the median over the rounds of a figure of one peer over that of another in the same round.
func (r *result) paired(peer, other, scenario, store string, figure func(*sample) float64) (float64, bool) {
	a, b := r.row(peer, scenario, store), r.row(other, scenario, store)
	if a == nil || b == nil || len(a.Rounds) != len(b.Rounds) {
		return 0, false
	}
	var ratios []float64
	for i := range a.Rounds {
		ratios = append(ratios, figure(a.Rounds[i])/figure(b.Rounds[i]))
	}
	return report.Median(ratios), true
}
