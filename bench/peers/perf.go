package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// part is a share of a server's processor time.
type part struct {
	name  string
	share float64
}

// sampled drives a peer once more while perf samples its stacks, kernel included, and returns what they were about. It is a
// turn of its own because sampling costs time.
func (m *measurement) sampled(ctx context.Context, p *peer) ([]part, error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return nil, errors.New("perf is not installed: make layers installs it where apt-get is")
	}
	server, err := m.start(ctx, p, "")
	if err != nil {
		return nil, err
	}
	defer server.stop()
	cookies, _, err := m.sessions(p, server.address, me)
	if err != nil {
		return nil, err
	}
	if _, err := drive(ctx, m.settings, me, server.address, m.cores.Load, cookies, m.warmUp); err != nil {
		return nil, err
	}
	// Where the machine is busy perf takes its time to begin: then once more, for longer.
	for d := m.duration; ; d *= 2 {
		stacks, err := m.record(ctx, server, cookies, d)
		if err != nil {
			return nil, err
		}
		parts, n, err := sortStacks(stacks)
		if err != nil || n >= enoughSamples {
			return parts, err
		}
		if d > 8*m.duration {
			return nil, fmt.Errorf("perf took %d samples in %v, %d are wanted", n, d, enoughSamples)
		}
	}
}

// enoughSamples make a percent of them a figure.
const enoughSamples = 2000

// record drives the server for a time and returns the stacks that perf saw meanwhile.
func (m *measurement) record(ctx context.Context, server *process, cookies []string, d time.Duration) ([]byte, error) {
	data := filepath.Join(m.work, "perf.data")
	// The software clock: virtual machines often have no counters. perf runs beside wrk.
	perf := exec.CommandContext(ctx, "taskset", "-c", strconv.Itoa(m.cores.Load), "perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g",
		"-p", strconv.Itoa(server.cmd.Process.Pid), "-o", data)
	perf.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := perf.Start(); err != nil {
		return nil, err
	}
	_, failed := drive(ctx, m.settings, me, server.address, m.cores.Load, cookies, d)
	failed = errors.Join(failed, perf.Process.Signal(os.Interrupt))
	_ = perf.Wait() // it ends by the signal
	if failed != nil {
		return nil, failed
	}
	stacks, err := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "ip,sym").Output()
	if err != nil {
		return nil, fmt.Errorf("perf script: %w", err)
	}
	return stacks, nil
}

// sortStacks counts samples by what they are about. A sample is a paragraph of lines, the innermost frame first: an address
// and a function.
func sortStacks(text []byte) (parts []part, samples int, err error) {
	counts := map[string]int{}
	var stack []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	count := func() {
		if len(stack) > 0 {
			counts[about(stack)]++
			samples++
		}
		stack = stack[:0]
	}
	for lines.Scan() {
		address, function, found := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch {
		case !found:
			count()
		case strings.HasPrefix(address, "ffff"):
			stack = append(stack, kernelMark+function)
		default:
			stack = append(stack, function)
		}
	}
	count()
	for name, n := range counts {
		parts = append(parts, part{name, float64(n) / float64(samples)})
	}
	slices.SortFunc(parts, func(a, b part) int { return int(1e9 * (b.share - a.share)) })
	return parts, samples, lines.Err()
}

// kernelMark begins the name of a kernel's function.
const kernelMark = "[kernel] "

// about says what a stack was doing: by the system call that it is in, else by the innermost function that belongs to anybody.
func about(stack []string) string {
	if strings.HasPrefix(stack[0], kernelMark) {
		return inKernel(stack)
	}
	for _, rule := range [...]struct{ contains, name string }{{"SetReadDeadline", deadlines}, {"SetWriteDeadline", deadlines}, {"SetDeadline", deadlines}} {
		if slices.ContainsFunc(stack, func(f string) bool { return strings.Contains(f, rule.contains) }) {
			return rule.name
		}
	}
	for _, f := range stack {
		for _, rule := range userRules {
			if strings.Contains(f, rule.contains) {
				return rule.name
			}
		}
	}
	return "Go: scheduler, network poller, collector"
}

const (
	deadlines   = "deadlines of the connection"
	ownTime     = "coatcheck: the connection's lazy deadlines"
	kernelWrite = "kernel: write or send, the way to the other socket included"
	kernelRead  = "kernel: read or recv"
)

// userRules are tried in order on each function, from the innermost outwards.
var userRules = []struct{ contains, name string }{
	{"coatcheck/shardstore.", "coatcheck: the store"},
	{"coatcheck/server/internal/conn.", ownTime},
	{"coatcheck/server.", "coatcheck: cookie, middleware, view, headers"},
	{"coatcheck/coatcheck.", "coatcheck: the session (SHA-256 included)"},
	{"gofiber/fiber", "Fiber: context and router"},
	{"fasthttp.(*RequestHeader)", "fasthttp: parsing the request"},
	{"fasthttp.(*headerScanner)", "fasthttp: parsing the request"},
	{"fasthttp.(*Request)", "fasthttp: parsing the request"},
	{"fasthttp.(*ResponseHeader)", "fasthttp: building the response"},
	{"fasthttp.(*Response)", "fasthttp: building the response"},
	{"valyala/fasthttp.", "fasthttp: the connection's loop"},
	{"internal/poll.", "Go: read and write of a connection"},
	{"net.(*conn)", "Go: read and write of a connection"},
}

func inKernel(stack []string) string {
	for _, rule := range [...]struct{ contains, name string }{
		{"sys_write", kernelWrite},
		{"sys_sendto", kernelWrite},
		{"sys_read", kernelRead},
		{"sys_recvfrom", kernelRead},
		{"sys_epoll", "kernel: epoll"},
		{"sys_futex", "kernel: futex"},
		{"sys_nanosleep", "kernel: sleeping"},
	} {
		if slices.ContainsFunc(stack, func(f string) bool { return strings.HasPrefix(f, kernelMark) && strings.Contains(f, rule.contains) }) {
			return rule.name
		}
	}
	return "kernel: interrupts, scheduling and the rest"
}

// parts is the table of where the time of a request goes.
func (r *result) parts(parts []part) string {
	cpu := r.row("coatcheck-resident", me, memory).Median.CPU
	var b strings.Builder
	b.WriteString("| part of a request to coatcheck | share | µs |\n| --- | ---: | ---: |\n")
	rest := 1.0
	for _, p := range parts {
		if p.share < 0.005 {
			continue
		}
		rest -= p.share
		fmt.Fprintf(&b, "| %s | %.1f %% | %.2f |\n", p.name, 100*p.share, cpu*p.share)
	}
	fmt.Fprintf(&b, "| everything below half a percent | %.1f %% | %.2f |\n", 100*max(0, rest), cpu*max(0, rest))
	return b.String()
}
