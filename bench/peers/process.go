package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds what is waited for: a start, an answer, an end.
const patience = 20 * time.Second

// process is a running server, pinned to a core.
type process struct {
	name    string
	address string
	log     string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// cores are where the server, wrk and Redis run. Redis shares wrk's core where there are only two: the server's own stays its
// own, and what it costs there is what is measured.
type cores struct{ Server, Load, Redis int }

func pickCores() (cores, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cores{}, err
	}
	var free []int
	for cpu := 0; cpu < len(set)*64 && len(free) < 3; cpu++ {
		if set.IsSet(cpu) {
			free = append(free, cpu)
		}
	}
	switch len(free) {
	case 0, 1:
		return cores{}, errors.New("there must be two cores, one for the server and one for wrk")
	case 2:
		return cores{free[0], free[1], free[1]}, nil
	}
	return cores{free[0], free[1], free[2]}, nil
}

// freeAddress returns a loopback address that nobody listens on. Each server is told its address, because not all of them can
// say which one they took.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// start runs a command on a core and waits until it accepts connections.
func start(ctx context.Context, s *settings, name, address string, core int, env, command []string) (*process, error) {
	logs := filepath.Join(s.work, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	p := &process{name: name, address: address, log: filepath.Join(logs, name+".log"), exited: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()                                                                          //nolint:errcheck // the child has its own
	p.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(core)}, command...)...) //nolint:noctx // stop ends it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Whatever ends this process ends its servers too. Its own group, so that a Ctrl-C reaches this process first.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // it is told to end, so how it ended says nothing
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not start: %w: %s", name, err, p.lastWords())
	}
	return p, nil
}

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", p.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *process) lastWords() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimSpace(data)
	return strings.ReplaceAll(string(data[max(0, len(data)-400):]), "\n", " | ")
}

// stop ends the process, by force if it does not end when it is asked to.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// used is the processor time that a process has used so far, in user and kernel mode.
type used struct {
	user, kernel time.Duration
}

func (u used) cpu() time.Duration { return u.user + u.kernel }

// used is of all threads.
func (p *process) used() (u used, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return u, err
	}
	// The name in brackets may hold blanks; the fields that count from there on are 14 and 15 of proc(5).
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	for i, into := range []*time.Duration{&u.user, &u.kernel} {
		ticks, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return u, err
		}
		*into = time.Duration(ticks) * time.Second / userHz
	}
	return u, nil
}

// machineCPU is the processor time that all programs of the machine have used.
func machineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system int64
	if _, err := fmt.Sscanf(string(data), "cpu %d %d %d", &user, &nice, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+nice+system) * time.Second / userHz, nil
}

// userHz is the unit of the kernel's processor times, the same on every Linux that Go runs on.
const userHz = 100

// peakRSS is the most memory that the process ever had resident, in bytes.
func (p *process) peakRSS() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmHWM in /proc")
}

// startRedis starts a Redis that keeps nothing, on a free port.
func startRedis(ctx context.Context, s *settings, core int) (*process, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("redis-server is not installed")
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	return start(ctx, s, "redis-server", address, core, nil, []string{
		"redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--daemonize", "no",
	})
}

// flush empties the Redis: no peer finds what another left.
func flush(p *process) error {
	conn, err := net.DialTimeout("tcp", p.address, patience) //nolint:noctx // it has a timeout
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answer was read
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("FLUSHALL\r\n")); err != nil {
		return err
	}
	reply := make([]byte, 5)
	if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != "+OK\r\n" {
		return fmt.Errorf("redis-server: FLUSHALL: %q %w", reply, err)
	}
	return nil
}
