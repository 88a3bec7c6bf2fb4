package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	return start(t, "--login=users", "--users-file", file)
}

// hasher logs somebody in and returns the process that has hashed his password. On a busy machine the server may lose its
// patience with one, and start another after a while.
func (p *process) hasher(t *testing.T) (id int) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, text, _ := p.ask(t, "POST", "/auth/login", "", `{"user_id":"someone","password":"the password"}`)
		require.Equal(t, http.StatusOK, status, text)
		children := p.children(t)
		if len(children) == 1 {
			id = children[0]
		}
		return id != 0
	}, patience, 50*time.Millisecond)
	return id
}

// children returns the processes that the server has started.
func (p *process) children(t *testing.T) (ids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.NotEmpty(t, lists)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		require.NoError(t, err)
		for id := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(id)
			require.NoError(t, err)
			ids = append(ids, n)
		}
	}
	return ids
}

// awaitEndOf waits until the process is gone, or is one that only its parent remembers.
func awaitEndOf(t *testing.T, id int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, patience, 5*time.Millisecond, "process %d goes on", id)
}

// Passwords are hashed in a process that gives way to the server, and to which the server's secrets are not passed on (AUT-05).
func TestHashingProcess(t *testing.T) {
	p := startWithUser(t)
	id := p.hasher(t)
	a, err := unix.SchedGetAttr(id, 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_IDLE, a.Policy)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", id))
	require.NoError(t, err)
	assert.Empty(t, string(environ))
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(command), "\x00hash-jobs\x00"), string(command))

	require.NoError(t, syscall.Kill(id, syscall.SIGINT), "as a Ctrl-C does, which is for the server to obey")
	require.NoError(t, syscall.Kill(id, syscall.SIGTERM))
	assert.Equal(t, id, p.hasher(t))
	p.signal(t, syscall.SIGTERM)
	require.Equal(t, exitOK, p.wait(t), p.stderr.String())
	awaitEndOf(t, id)
}

func TestHashingProcessEndsWithTheServer(t *testing.T) {
	p := startWithUser(t)
	id := p.hasher(t)
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	awaitEndOf(t, id)
}

// Without the process logins go on.
func TestHashingProcessIsKilled(t *testing.T) {
	p := startWithUser(t)
	id := p.hasher(t)
	require.NoError(t, syscall.Kill(id, syscall.SIGKILL))
	awaitEndOf(t, id)
	status, text, _ := p.ask(t, "POST", "/auth/login", "", `{"user_id":"someone","password":"the password"}`)
	require.Equal(t, http.StatusOK, status, text)
	p.logged(t, "has ended")
}
