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
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/login"
)

// target is a coatcheck with a users file, in a process of its own.
type target struct {
	address string // host and port
	cmd     *exec.Cmd
	dir     string
}

// startTarget starts the program on a free port with the lines as its users file, in which one user's password is known.
func startTarget(ctx context.Context, program string, lines []string) (*target, error) {
	dir, err := os.MkdirTemp("", "coatcheck-logins-")
	if err != nil {
		return nil, err
	}
	t := &target{dir: dir}
	known, err := login.UsersLine(knownUser, []byte(knownPassword))
	if err == nil {
		err = t.start(ctx, program, append(lines, known))
	}
	if err != nil {
		return nil, errors.Join(err, t.stop())
	}
	return t, nil
}

const knownUser, knownPassword = "somebody", "canary-somebodys-password"

var listening = regexp.MustCompile(`listens on http://(\S+)`)

func (t *target) start(ctx context.Context, program string, lines []string) error {
	users := filepath.Join(t.dir, "users")
	if err := os.WriteFile(users, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	t.cmd = exec.CommandContext(ctx, program, "serve", "--dev", "--login=users", "--users-file", users, "--listen=127.0.0.1:0",
		"--admin-listen=off", "--trusted-proxies=127.0.0.1/32", "--log-level=error")
	t.cmd.Stderr = os.Stderr
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := t.cmd.Start(); err != nil {
		t.cmd = nil
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s did not start: %w", program, err)
	}
	m := listening.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("%s says %q, and not where it listens", program, line)
	}
	t.address = m[1]
	return nil
}

func (t *target) stop() error {
	var err error
	if t.cmd != nil {
		err = t.cmd.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, t.cmd.Wait())
	}
	return errors.Join(err, os.RemoveAll(t.dir))
}

// residentKiB returns the most memory that the process and those that it started have had since they began, added up.
func (t *target) residentKiB() (int, error) {
	processes := []string{strconv.Itoa(t.cmd.Process.Pid)}
	lists, err := filepath.Glob("/proc/" + processes[0] + "/task/*/children")
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		processes = append(processes, strings.Fields(string(children))...)
	}
	sum := 0
	for _, id := range processes {
		kib, err := residentKiB(id)
		if err != nil {
			return 0, err
		}
		sum += kib
	}
	return sum, nil
}

func residentKiB(process string) (int, error) {
	status, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		}
	}
	return 0, fmt.Errorf("no VmHWM of process %s in /proc", process)
}

// attempt is one login.
type attempt struct {
	user, password string
	from           string // the client's address, as a proxy would say it
}

func (a attempt) write(req *fasthttp.Request) {
	req.Header.SetMethod(fasthttp.MethodPost)
	req.SetRequestURI("/auth/login")
	req.Header.SetHost("localhost")
	req.Header.SetContentType("application/json")
	req.Header.Set("X-Forwarded-For", a.from)
	req.SetBodyString(fmt.Sprintf(`{"user_id":%q,"password":%q}`, a.user, a.password))
}

// cookieOf logs the known user in and returns the Cookie header of his session.
func (t *target) cookieOf(ctx context.Context) (string, error) {
	c, err := dial(ctx, t.address)
	if err != nil {
		return "", err
	}
	defer c.close()
	attempt{knownUser, knownPassword, "192.0.2.1"}.write(&c.req)
	if err := c.exchange(); err != nil {
		return "", err
	}
	value, _, _ := bytes.Cut(c.resp.Header.Peek(fasthttp.HeaderSetCookie), []byte(";"))
	if c.resp.StatusCode() != fasthttp.StatusOK || len(value) == 0 {
		return "", fmt.Errorf("the known user's login answered %d", c.resp.StatusCode())
	}
	return string(value), nil
}
