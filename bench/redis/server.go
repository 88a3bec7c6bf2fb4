package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// process takes the place of the *testing.T that redistest expects. It has only the methods that redistest uses.
type process struct {
	testing.TB
	mu       sync.Mutex
	cleanups []func()    // guarded by mu
	ended    atomic.Bool // what was made is being undone
}

func (*process) Helper()                     {}
func (p *process) Fatal(args ...any)         { p.fail(fmt.Sprint(args...)) }
func (p *process) Fatalf(f string, a ...any) { p.fail(fmt.Sprintf(f, a...)) }

// fail panics, unless it was the end that made something fail: whoever called that says why.
func (p *process) fail(text string) {
	if p.ended.Load() {
		select {}
	}
	panic(text)
}

func (p *process) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *process) TempDir() string {
	p.mu.Lock() // an end that comes now waits, and finds the folder
	defer p.mu.Unlock()
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		panic(err)
	}
	p.cleanups = append(p.cleanups, func() { _ = os.RemoveAll(dir) }) // nothing depends on it
	return dir
}

// end undoes what was made. A second call, by whom a signal has interrupted, waits for the first one.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended.Store(true)
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
	p.cleanups = nil
}

// spent is what Redis has used up to a moment.
type spent struct {
	cpu      float64            // seconds of the whole process
	commands map[string]command // by name
}

type command struct{ calls, usec float64 }

// readSpent asks Redis. The question costs some microseconds, which thousands of operations share.
func readSpent(server *redistest.Server) spent {
	s := spent{commands: map[string]command{}}
	for line := range strings.SplitSeq(server.Must("INFO", "cpu"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			s.cpu += number(value)
		}
	}
	for line := range strings.SplitSeq(server.Must("INFO", "commandstats"), "\r\n") {
		name, values, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !ok {
			continue
		}
		var c command
		for pair := range strings.SplitSeq(values, ",") {
			switch key, value, _ := strings.Cut(pair, "="); key {
			case "calls":
				c.calls = number(value)
			case "usec":
				c.usec = number(value)
			}
		}
		s.commands[name] = c
	}
	return s
}

func number(s string) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		panic(err)
	}
	return f
}

// per returns what was spent since before for each of n operations: microseconds of the process, and the commands.
func (s spent) per(n int, before spent) cost {
	c := cost{cpu: (s.cpu - before.cpu) * 1e6 / float64(n), commands: map[string]command{}}
	for name, now := range s.commands {
		was := before.commands[name]
		if now.calls > was.calls && name != "info" {
			c.commands[name] = command{(now.calls - was.calls) / float64(n), (now.usec - was.usec) / float64(n)}
		}
	}
	return c
}
