package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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

// patience bounds what is waited for: a start, an end.
const patience = 30 * time.Second

// process is a program that runs for us.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// launch starts a program whose output goes to the file.
func launch(log, program string, args ...string) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil { //nolint:gosec // reports are for everybody
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()                                                               //nolint:errcheck // the child has its own
	p := &process{cmd: exec.Command(program, args...), exited: make(chan struct{})} //nolint:noctx // stop ends it
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Whatever ends this process ends those too. A group of their own, so that a Ctrl-C does not reach them.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // stop reads the exit code
	}()
	return p, nil
}

// stop asks the process to end, and reports how it did.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill() // it is waited for next
		<-p.exited
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %v", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
	}
	return nil
}

// serve starts coatcheck on free ports and returns its two addresses.
func serve(s settings, store string) (p *process, url, admin string, err error) {
	log := filepath.Join(s.out, s.store+"-server.log")
	args := append([]string{
		"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=warn", "--store=" + store,
		// A machine that stands still for a moment is not what is looked for.
		"--redis-timeout=2s",
	}, rules.flags()...)
	if p, err = launch(log, s.server, args...); err != nil {
		return nil, "", "", err
	}
	found, err := p.await(log, regexp.MustCompile(`listens on (http://\S+)(?s:.*)admin API on (http://\S+)`))
	if err != nil {
		return nil, "", "", err
	}
	return p, found[1], found[2], nil
}

// await waits until the log has what is looked for.
func (p *process) await(log string, what *regexp.Regexp) ([]string, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		if found := what.FindStringSubmatch(string(text)); found != nil {
			return found, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), text)
		default:
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s does not start: %s", filepath.Base(p.cmd.Path), text), p.stop())
		}
	}
}

// redis is a redis-server that keeps its data over a restart.
type redis struct {
	*process
	dir  string
	log  string
	port string
}

func startRedis(s settings) (*redis, error) {
	dir, err := os.MkdirTemp("", "soak-redis-")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err = errors.Join(err, ln.Close()); err != nil {
		return nil, err
	}
	r := &redis{dir: dir, log: filepath.Join(s.out, "redis.log"), port: port}
	return r, r.start()
}

func (r *redis) start() (err error) {
	r.process, err = launch(r.log, "redis-server", "--bind", "127.0.0.1", "--port", r.port, "--dir", r.dir,
		"--appendonly", "yes", "--appendfsync", "no", "--save", "", "--daemonize", "no")
	if err != nil {
		return fmt.Errorf("redis-server (make tools installs it): %w", err)
	}
	_, err = r.await(r.log, regexp.MustCompile(`Ready to accept connections`))
	return err
}

// keys asks Redis how many there are.
func (r *redis) keys(ctx context.Context) (n float64, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+r.port)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // the answer was read
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, "DBSIZE\r\n"); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(strings.TrimPrefix(line, ":")), 64)
}
