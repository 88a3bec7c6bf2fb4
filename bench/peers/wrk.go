package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// The scripts for wrk, and the part that both begin with.
var (
	//go:embed wrk/clock.lua
	clockScript string
	//go:embed wrk/cycle.lua
	cycleScript string
	//go:embed wrk/refresh.lua
	refreshScript string
)

// loginUsers is how many users log in, in turn.
const loginUsers = 10_000

// load is what a load generator measured.
type load struct {
	Requests     int64  `json:"requests"`
	Microseconds int64  `json:"microseconds"`
	Bytes        int64  `json:"bytes"`
	P50          int64  `json:"p50"` // microseconds
	P99          int64  `json:"p99"`
	Errors       int64  `json:"errors"`
	Kinds        string `json:"kinds"` // of errors

	cpu time.Duration // what the generator itself used
}

func (l *load) seconds() float64 { return float64(l.Microseconds) / 1e6 }

// prepareWrk writes the scripts into the work directory.
func prepareWrk(s *settings) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not installed: make bench-peers installs it where apt-get is")
	}
	for name, text := range map[string]string{"cycle.lua": cycleScript, "refresh.lua": refreshScript} {
		if err := os.WriteFile(filepath.Join(s.work, name), []byte(clockScript+text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeCookies writes the cookies into a file for a load generator, a line each.
func writeCookies(s *settings, cookies []string) (file string, err error) {
	file = filepath.Join(s.work, "cookies.txt")
	return file, os.WriteFile(file, []byte(strings.Join(cookies, "\n")+"\n"), 0o600)
}

// drive loads the server at address for a time with wrk, which has a thread for each CPU of the load.
func (m *measurement) drive(ctx context.Context, scenario, address string, cookies []string, d time.Duration) (*load, error) {
	file, err := writeCookies(m.settings, cookies)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file) //nolint:errcheck // the next one overwrites it
	threads, connections, script := len(m.cpus.Load), m.connections, "cycle.lua"
	if scenario == refresh {
		connections = m.refreshing()
		threads, script = connections, "refresh.lua"
	}
	ctx, cancel := context.WithTimeout(ctx, d+3*process.Patience) // the script of a million requests takes its time to begin
	defer cancel()
	out, cpu, err := process.Run(ctx, process.Command{
		// The timeout is long: a slow answer is an answer, and shows in the p99.
		Args: []string{
			"wrk", "--latency", "--timeout", "20s", "-t", strconv.Itoa(threads), "-c", strconv.Itoa(connections),
			"-d", fmt.Sprintf("%ds", int(d.Seconds())), "-s", filepath.Join(m.work, script), "http://" + address + "/auth/" + scenario,
		},
		Env: []string{
			"PEER_SCENARIO=" + scenario, "PEER_COOKIES=" + file, "PEER_USER_AGENT=" + userAgent,
			"PEER_USERS=" + strconv.Itoa(m.users), "PEER_THREADS=" + strconv.Itoa(threads),
		},
		CPUs: m.cpus.Load,
	})
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(out))
	l := &load{cpu: cpu.Total()}
	if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), l); err != nil {
		return nil, fmt.Errorf("wrk said\n%s\n%w", out, err)
	}
	return l, nil
}

// refreshing is how many connections refresh is measured with. wrk needs a thread for each of them, and with many more threads
// than CPUs it measures the kernel's scheduler.
func (s *settings) refreshing() int { return min(s.connections, max(64, s.cores)) }
