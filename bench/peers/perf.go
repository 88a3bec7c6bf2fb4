package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// part is a share of a server's processor time.
type part struct {
	name  string
	share float64
}

// sampled drives a peer once more while perf samples its stacks, the kernel's included, and returns which parts of a request
// they belong to. It is a turn of its own because sampling costs time.
func (m *measurement) sampled(ctx context.Context, p *peer) ([]part, error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return nil, errors.New("perf is not installed: make layers installs it where apt-get is")
	}
	address, server, err := m.start(ctx, p)
	if err != nil {
		return nil, err
	}
	defer server.Stop() //nolint:errcheck // the samples count, not how the server ends
	cookies, _, err := m.sessions(p, address, me)
	if err != nil {
		return nil, err
	}
	if _, err := m.drive(ctx, me, address, cookies, m.warmUp); err != nil {
		return nil, err
	}
	// On a busy machine perf needs time to begin. Then the sampling is repeated, for longer.
	for d := m.duration; ; d *= 2 {
		stacks, err := m.record(ctx, server.PID(), address, cookies, d)
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

// enoughSamples is the number of samples from which a share of one percent means something.
const enoughSamples = 2000

// record drives the server for a time and returns the stacks that perf saw meanwhile.
func (m *measurement) record(ctx context.Context, server int, address string, cookies []string, d time.Duration) ([]byte, error) {
	data := filepath.Join(m.work, "perf.data")
	// The software clock: virtual machines often have no counters. perf runs beside wrk.
	perf, err := process.Start(process.Command{
		Args: []string{"perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-p", strconv.Itoa(server), "-o", data},
		CPUs: m.cpus.Load, Log: m.log("perf"),
	})
	if err != nil {
		return nil, err
	}
	_, err = m.drive(ctx, me, address, cookies, d)
	_ = perf.Stop() // perf writes its file, and then ends by the signal
	if err != nil {
		return nil, err
	}
	stacks, _, err := process.Run(ctx, process.Command{Args: []string{"perf", "script", "-i", data, "-F", "ip,sym"}})
	return stacks, err
}

// sortStacks counts samples by the part of a request that they belong to. A sample is a paragraph of lines, the innermost frame first: an address
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

// about names the part of a request that a stack belongs to: by the system call that it is in, else by the innermost function
// for which there is a rule.
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
	connection  = "coatcheck: the connection (deadlines, limits)"
	kernelWrite = "kernel: write or send, the way to the other socket included"
	kernelRead  = "kernel: read or recv"
)

// userRules are tried in order on each function, from the innermost outwards.
var userRules = []struct{ contains, name string }{
	{"coatcheck/shardstore.", "coatcheck: the store"},
	{"coatcheck/server/internal/conn.", connection},
	{"coatcheck/server.", "coatcheck: cookie, middleware, view, headers"},
	{"coatcheck/fibersession.", "coatcheck: cookie, middleware, view, headers"},
	{"coatcheck/internal/cookie.", "coatcheck: cookie, middleware, view, headers"},
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
