package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The scripts that tell wrk what to send, and what both begin with.
var (
	//go:embed wrk/clock.lua
	clockScript string
	//go:embed wrk/cycle.lua
	cycleScript string
	//go:embed wrk/refresh.lua
	refreshScript string
)

// loginUsers is how many users log in, in turn. So many that none comes near coatcheck's limit of sessions per user.
const loginUsers = 10_000

// load is what wrk saw.
type load struct {
	Requests     int64  `json:"requests"`
	Microseconds int64  `json:"microseconds"`
	Bytes        int64  `json:"bytes"`
	P50          int64  `json:"p50"` // microseconds
	P99          int64  `json:"p99"`
	Errors       int64  `json:"errors"`
	Kinds        string `json:"kinds"` // of errors

	cpu time.Duration // what wrk used itself
}

func (l *load) seconds() float64 { return float64(l.Microseconds) / 1e6 }

// prepareWrk writes the scripts into the work directory.
func prepareWrk(s *settings) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return fmt.Errorf("wrk is not installed: make bench-peers installs it where apt-get is")
	}
	for name, text := range map[string]string{"cycle.lua": cycleScript, "refresh.lua": refreshScript} {
		if err := os.WriteFile(filepath.Join(s.work, name), []byte(clockScript+text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// drive loads the server at address for a time, from one core.
func drive(ctx context.Context, s *settings, scenario, address string, core int, cookies []string, d time.Duration) (*load, error) {
	file := filepath.Join(s.work, "cookies.txt")
	if err := os.WriteFile(file, []byte(strings.Join(cookies, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(file) //nolint:errcheck // the next one overwrites it
	threads, script, path := 1, "cycle.lua", "/auth/"+scenario
	if scenario == refresh {
		threads, script = s.connections, "refresh.lua"
	}
	ctx, cancel := context.WithTimeout(ctx, d+3*patience) // the script of a million requests takes its time to begin
	defer cancel()
	// A slow answer is an answer: it shows in the p99.
	cmd := exec.CommandContext(ctx, "taskset", "-c", strconv.Itoa(core), "wrk", "--latency", "--timeout", "20s",
		"-t", strconv.Itoa(threads), "-c", strconv.Itoa(s.connections), "-d", fmt.Sprintf("%ds", int(d.Seconds())),
		"-s", filepath.Join(s.work, script), "http://"+address+path)
	cmd.Env = append(os.Environ(), "PEER_SCENARIO="+scenario, "PEER_COOKIES="+file, "PEER_USER_AGENT="+userAgent,
		"PEER_USERS="+strconv.Itoa(loginUsers))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("wrk: %w: %s", err, out)
	}
	text := strings.TrimSpace(string(out))
	var l load
	if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), &l); err != nil {
		return nil, fmt.Errorf("wrk said\n%s\n%w", out, err)
	}
	l.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return &l, nil
}
