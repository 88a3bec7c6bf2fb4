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

// startWithUser starts a server whose users file has one user with a password, and logs him in.
func startWithUser(t *testing.T, env ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "someone", "the password")), 0o600))
	p := startIn(t, env, "--login=users", "--users-file", file)
	p.logInAsSomeone(t)
	return p
}

func (p *process) logInAsSomeone(t *testing.T) {
	t.Helper()
	status, text, _ := p.ask(t, "POST", "/auth/login", "", `{"user_id":"someone","password":"the password"}`)
	require.Equal(t, http.StatusOK, status, text)
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
	p := startWithUser(t, "COATCHECK_LOG_LEVEL=debug")
	children := p.children(t)
	require.Len(t, children, 1)
	a, err := unix.SchedGetAttr(children[0], 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_IDLE, a.Policy)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", children[0]))
	require.NoError(t, err)
	assert.Empty(t, string(environ))
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", children[0]))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(command), "\x00hash-jobs\x00"), string(command))

	p.signal(t, syscall.SIGTERM)
	require.Equal(t, exitOK, p.wait(t), p.stderr.String())
	awaitEndOf(t, children[0])
}

func TestHashingProcessIsKilled(t *testing.T) {
	p := startWithUser(t)
	children := p.children(t)
	require.Len(t, children, 1)
	require.NoError(t, syscall.Kill(children[0], syscall.SIGKILL))
	awaitEndOf(t, children[0])
	p.logInAsSomeone(t)
}

func TestHashingProcessEndsWithTheServer(t *testing.T) {
	p := startWithUser(t)
	children := p.children(t)
	require.Len(t, children, 1)
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	awaitEndOf(t, children[0])
}
