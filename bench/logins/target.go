package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/server/login"
)

// target is a coatcheck with a users file, in a process of its own.
type target struct {
	address string           // host and port
	program *process.Process // nil until it has started
	dir     string
}

// startTarget starts the program on a free port with the lines as its users file, in which one user's password is known.
func startTarget(ctx context.Context, program string, lines []string) (*target, error) {
	dir, err := os.MkdirTemp("", "coatcheck-logins-")
	if err != nil {
		return nil, err
	}
	t := &target{dir: dir}
	known, err := login.UsersLine(knownUser, []byte(knownPassword), login.Fields{})
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
	var err error
	t.program, err = process.Start(process.Command{
		Args: []string{
			program, "serve", "--dev", "--login=users", "--users-file", users, "--listen=127.0.0.1:0",
			"--admin-listen=off", "--trusted-proxies=127.0.0.1/32", "--log-level=error",
		},
		Log: filepath.Join(t.dir, "log"),
	})
	if err != nil {
		return err
	}
	found, err := t.program.AwaitLog(ctx, listening)
	if err != nil {
		return err
	}
	t.address = found[1]
	return nil
}

func (t *target) stop() error { return errors.Join(t.program.Stop(), os.RemoveAll(t.dir)) }

// peakResident returns the most memory, in bytes, that the process and those that it started have had since they began, added up.
func (t *target) peakResident() (sum int64, err error) {
	processes := []int{t.program.PID()}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", t.program.PID()))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		for child := range strings.FieldsSeq(string(children)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return 0, err
			}
			processes = append(processes, id)
		}
	}
	for _, id := range processes {
		bytes, err := process.PeakResident(id)
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}

// attempt is one login.
type attempt struct {
	user, password string
	from           string // the client's address, as a proxy would forward it
}

func (a attempt) write(req *fasthttp.Request) {
	req.Header.SetMethod(fasthttp.MethodPost)
	req.SetRequestURI("/auth/login")
	req.Header.SetHost("localhost")
	req.Header.SetContentType("application/json")
	req.Header.Set("X-Forwarded-For", a.from)
	req.SetBodyString(fmt.Sprintf(`{"user_id":%q,"password":%q}`, a.user, a.password))
}

// cookieOf logs the known user in and returns the Cookie header of that session.
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
