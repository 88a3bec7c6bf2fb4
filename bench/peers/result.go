package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is what a measurement found, and what is needed to judge it.
type result struct {
	Date     time.Time         `json:"date"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"` // of the tools
	Settings runSettings       `json:"settings"`
	Peers    []peerInfo        `json:"peers"`
	Skipped  []skipped         `json:"skipped"`
	Rows     []*row            `json:"rows"`

	later []*result // measurements that replaced some of the rows
}

type machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	// Load is the load average of the minute before: what else the machine had to do.
	Load string `json:"load"`
}

type runSettings struct {
	Rounds      int   `json:"rounds"`
	Seconds     int   `json:"seconds"`
	WarmUp      int   `json:"warmup_seconds"`
	Connections int   `json:"connections"`
	Resident    int   `json:"resident"`
	Cores       cores `json:"cores"`
}

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
	Ratio    float64 `json:"ratio"` // of RPS to the ceiling's in the same round
	Busy     float64 `json:"server_core_share"`
	LoadBusy float64 `json:"wrk_core_share"`
	Foreign  float64 `json:"foreign_cores"` // what programs that have no part in this used meanwhile
	Requests int64   `json:"requests"`
}

func newSample(l *load, before, after used, rss int64) *sample {
	seconds, requests := l.seconds(), float64(l.Requests)
	cpu, kernel := after.cpu()-before.cpu(), after.kernel-before.kernel
	return &sample{
		RPS: digits(requests / seconds), P50: float64(l.P50), P99: float64(l.P99),
		CPU: digits(float64(cpu.Microseconds()) / requests), Kernel: digits(float64(kernel.Microseconds()) / requests),
		RSS:  digits(float64(rss) / (1 << 20)),
		Busy: digits(cpu.Seconds() / seconds), LoadBusy: digits(l.cpu.Seconds() / seconds), Requests: l.Requests,
	}
}

// digits leaves as many as the figures are good for, and a reader of the JSON wants.
func digits(f float64) float64 { return math.Round(f*1000) / 1000 }

func newResult(ctx context.Context, s *settings, c cores) *result {
	// The first number with a point in what a program says of itself; empty if it is not here.
	tool := func(name string, args ...string) string {
		out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // wrk -v ends with 1
		return versionForm.FindString(string(out))
	}
	return &result{
		Date:    time.Now().UTC().Truncate(time.Second),
		Machine: thisMachine(),
		Versions: map[string]string{
			"Go": strings.TrimPrefix(runtime.Version(), "go"), "Node": tool("node", "--version"), "Rust": tool("rustc", "--version"),
			"wrk": tool("wrk", "-v"), "Redis": tool("redis-server", "--version"),
		},
		Settings: runSettings{s.rounds, int(s.duration.Seconds()), int(s.warmUp.Seconds()), s.connections, s.resident, c},
	}
}

var versionForm = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU()}
	m.CPU = strings.TrimSpace(field("/proc/cpuinfo", "model name"))
	var kib float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f", &kib); err == nil {
		m.MemoryGiB = float64(int(kib/(1<<20)*10)) / 10
	}
	if out, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(out)), "-") // without what its builder added
	}
	if out, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(out), " ")
	}
	return m
}

// field is what follows "name:" in a file of /proc, empty if nothing does.
func field(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

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
		return median(all)
	}
	w.Median = sample{
		RPS:      pick(func(s *sample) float64 { return s.RPS }),
		P50:      pick(func(s *sample) float64 { return s.P50 }),
		P99:      pick(func(s *sample) float64 { return s.P99 }),
		CPU:      pick(func(s *sample) float64 { return s.CPU }),
		Kernel:   pick(func(s *sample) float64 { return s.Kernel }),
		RSS:      pick(func(s *sample) float64 { return s.RSS }),
		Ratio:    pick(func(s *sample) float64 { return s.Ratio }),
		Busy:     pick(func(s *sample) float64 { return s.Busy }),
		LoadBusy: pick(func(s *sample) float64 { return s.LoadBusy }),
		Foreign:  pick(func(s *sample) float64 { return s.Foreign }),
		Requests: int64(pick(func(s *sample) float64 { return float64(s.Requests) })),
	}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Clone(values)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// paired is the median over the rounds of what one peer did over what another did in the same round.
func (r *result) paired(peer, other, scenario, store string) (float64, bool) {
	a, b := r.row(peer, scenario, store), r.row(other, scenario, store)
	if a == nil || b == nil || len(a.Rounds) != len(b.Rounds) {
		return 0, false
	}
	var ratios []float64
	for i := range a.Rounds {
		ratios = append(ratios, a.Rounds[i].RPS/b.Rounds[i].RPS)
	}
	return median(ratios), true
}

func (r *result) write(file string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func readResult(file string) (*result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(result)
	return r, json.Unmarshal(data, r)
}
