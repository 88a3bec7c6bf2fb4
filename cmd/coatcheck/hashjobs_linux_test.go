package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// startWithUser starts a server whose users file has one user with a password.
func startWithUser(t *testing.T) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "someone", "the password")), 0o600))
	return start(t, "--login=users", "--users-file", file, "--shutdown-timeout="+patience.String())
}

// logInSomeone returns the status of the login, 0 without an answer.
func (p *process) logInSomeone() int {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(p.url+"/auth/login", "application/json", strings.NewReader(`{"user_id":"someone","password":"the password"}`)) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // only the status counts
	return resp.StatusCode
}

// stopWithHasher begins a login and stops the server as soon as it has started the process that hashes the password; it goes on with
// SIGCONT. On a busy machine the server soon gives such a process up, but not while it is stopped. The process has then lowered
// itself, which is the last that it does before it takes jobs.
func (p *process) stopWithHasher(t *testing.T) (id int, login <-chan int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		require.True(t, time.Now().Before(deadline), "no process is seen in time")
		status := make(chan int, 1)
		go func() { status <- p.logInSomeone() }()
		for len(status) == 0 {
			children := p.children(t)
			if len(children) == 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			p.stop(t)
			if lowersItself(t, children[0], deadline) {
				return children[0], status
			}
			p.signal(t, syscall.SIGCONT) // the process was given up before the server had stopped
			break
		}
		require.Equal(t, http.StatusOK, <-status)
	}
}

// stop stops all threads of the server.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	require.Eventually(t, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		require.NoError(t, err)
		return !slices.ContainsFunc(threads, func(name string) bool {
			stat, err := os.ReadFile(name)
			return err != nil || !strings.Contains(string(stat), ") T ")
		})
	}, patience, time.Millisecond)
}

// lowersItself waits until the process is one that gives way to all others. It reports false if the process has ended or is about to,
// because the server, which is stopped, has killed it: on a busy machine that takes a process of the lowest priority a while.
func lowersItself(t *testing.T, id int, deadline time.Time) bool {
	t.Helper()
	for time.Now().Before(deadline) {
		if hasEnded(id) || pendingSignals(id)&(1<<(syscall.SIGKILL-1)) != 0 {
			return false
		}
		a, err := unix.SchedGetAttr(id, 0)
		if err == nil && a.Policy == unix.SCHED_IDLE {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	require.Fail(t, "the process does not lower itself")
	return false
}

// children returns the processes that the server has started.
func (p *process) children(t *testing.T) (ids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.NotEmpty(t, lists)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for id := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(id)
			require.NoError(t, err)
			ids = append(ids, n)
		}
	}
	return ids
}

func awaitEndOf(t *testing.T, id int) {
	t.Helper()
	require.Eventually(t, func() bool { return hasEnded(id) }, patience, 5*time.Millisecond, "process %d goes on", id)
}

// Passwords are hashed in a process that gives way to the server, and to which the server's secrets are not passed on (AUT-05).
func TestHashingProcess(t *testing.T) {
	t.Parallel()
	p := startWithUser(t)
	id, login := p.stopWithHasher(t)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", id))
	require.NoError(t, err)
	assert.Empty(t, string(environ))
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(command), "\x00hash-jobs\x00"), string(command))

	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} { // as a Ctrl-C does, which is for the server to obey
		require.NoError(t, syscall.Kill(id, sig))
		awaitSignalsTaken(t, id)
		require.False(t, hasEnded(id), sig)
	}
	p.signal(t, syscall.SIGCONT)
	assert.Equal(t, http.StatusOK, <-login)
	p.signal(t, syscall.SIGTERM)
	require.Equal(t, exitOK, p.wait(t), p.stderr.String())
	awaitEndOf(t, id)
}

func TestHashingProcessEndsWithTheServer(t *testing.T) {
	t.Parallel()
	p := startWithUser(t)
	id, login := p.stopWithHasher(t)
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	awaitEndOf(t, id)
	assert.Zero(t, <-login)
}

// Without the process logins go on: the one whose password it was hashing, and the next.
func TestHashingProcessIsKilled(t *testing.T) {
	t.Parallel()
	p := startWithUser(t)
	id, login := p.stopWithHasher(t)
	require.NoError(t, syscall.Kill(id, syscall.SIGKILL))
	awaitEndOf(t, id)
	p.signal(t, syscall.SIGCONT)
	assert.Equal(t, http.StatusOK, <-login)
	assert.Equal(t, http.StatusOK, p.logInSomeone())
	require.Eventually(t, func() bool { return !slices.Contains(p.children(t), id) }, patience, 5*time.Millisecond, "nobody waits for it")
}
