// Package process starts the programs that the commands of bench measure, ends them, and reads from /proc what they use.
//
// Files: process.go (a program's start and end), run.go (a program that runs to its end), redis.go (a Redis server), usage.go
// (processor time and memory), cpus_linux.go (which CPUs the server and the load get).
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Patience bounds each wait for a program: for its start, for an answer, for its end.
const Patience = 30 * time.Second

// Command is a program to start.
type Command struct {
	Args []string // the program and its arguments
	Env  []string // added to the environment of this process
	CPUs []int    // the CPUs that the program may use, set with taskset; empty: all of them
	Log  string   // the file for the program's output; its directory is made
}

// Process is a program that Start has started.
type Process struct {
	log    string
	cmd    *exec.Cmd
	exited chan struct{} // closed once the program has ended
}

// Start starts a program. It ends when this process ends, however that happens, and it is in a process group of its own, so that
// a Ctrl-C reaches this process alone, which can then end the program in order.
func Start(c Command) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil { //nolint:gosec // logs of a measurement
		return nil, err
	}
	out, err := os.Create(c.Log)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the program has a descriptor of its own
	args := pinned(c.CPUs, c.Args)
	p := &Process{log: c.Log, cmd: exec.Command(args[0], args[1:]...), exited: make(chan struct{})} //nolint:noctx // Stop ends it
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // Stop reads the status
	}()
	return p, nil
}

// pinned returns the command line that runs args on these CPUs.
func pinned(cpus []int, args []string) []string {
	if len(cpus) == 0 {
		return args
	}
	list := make([]string, len(cpus))
	for i, cpu := range cpus {
		list[i] = strconv.Itoa(cpu)
	}
	return append([]string{"taskset", "-c", strings.Join(list, ",")}, args...)
}

// PID is the program's process ID: taskset becomes the program that it starts.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the program to end, with SIGTERM, kills it if it has not ended within Patience, and returns an error if its exit
// status is not 0. A nil Process has nothing to stop.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // the program may have ended already
	select {
	case <-p.exited:
	case <-time.After(Patience):
		_ = p.cmd.Process.Kill() // the next line waits for the end
		<-p.exited
	}
	if p.cmd.ProcessState.ExitCode() != 0 {
		return fmt.Errorf("%s ended with %v: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, p.LogTail())
	}
	return nil
}

// AwaitListener waits until the program accepts connections at the address.
func (p *Process) AwaitListener(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var d net.Dialer
	return p.await(ctx, func() error {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// AwaitLog waits until the program's output matches the pattern, and returns the match and its groups.
func (p *Process) AwaitLog(ctx context.Context, pattern *regexp.Regexp) (found []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	err = p.await(ctx, func() error {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		if found = pattern.FindStringSubmatch(string(text)); found == nil {
			return fmt.Errorf("its output does not match %s", pattern)
		}
		return nil
	})
	return found, err
}

// await calls check again until it succeeds, the program ends or the context does.
func (p *Process) await(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			err = errors.New("it has ended")
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
			continue
		}
		return fmt.Errorf("%s does not start: %w: %s", filepath.Base(p.cmd.Path), err, p.LogTail())
	}
}

// LogTail is the end of the program's output, in one line.
func (p *Process) LogTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return strings.ReplaceAll(string(text[max(0, len(text)-400):]), "\n", " | ")
}

// FreeAddress returns an address of the loopback interface at which nothing listens. A server that cannot say which port it
// took has to be told one.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // the listener is closed at once
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
