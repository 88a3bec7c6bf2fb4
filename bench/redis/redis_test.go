package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The command measures each operation, and each asks of Redis, but for a retry, what docs/redis.md says of round trips: a login two,
// or one without a mark, a refresh and a logout one each.
func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(new(process), &out, 1, 200, ""))
	rows := map[string]string{}
	for line := range strings.SplitSeq(out.String(), "\n") {
		name, rest, _ := strings.Cut(line, "  ")
		rows[name] = rest
	}
	for name, commands := range map[string][]string{
		set: {"set 1"}, get: {"get 1"},
		"login below the limit":     {"evalsha 1", "get 2", "set 1", "zadd 1"},
		"the same without a mark":   {"evalsha 1", "get 1", "set 1", "zadd 1"},
		"login at the limit of 100": {"evalsha 1", "get 2", "zadd 1", "zrem 1"},
		"refresh":                   {"evalsha 1", "get 1", "set 1"},
		"renewal":                   {"evalsha 1", "get 1", "set 1", "zadd 1"},
		"logout":                    {"evalsha 1", "get 1", "set 2", "zrem 1", "del 1"},
		"miss":                      {"get 1"},
		"miss of a made-up token":   {"get 1"},
	} {
		for _, command := range commands {
			assert.Contains(t, rows[name], command, name)
		}
	}
}

// What it does not understand is refused, before Redis is started.
func TestRefuse(t *testing.T) {
	for _, err := range []error{refuse(0, 1, nil), refuse(-1, 1, nil), refuse(1, 0, nil), refuse(1, 1, []string{"foo"})} {
		assert.Error(t, err)
	}
	assert.NoError(t, refuse(1, 1, nil))
}

// TestMain makes the test's program the command, where the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_AS_COMMAND") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A command that is interrupted leaves no folder.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "redis-*"))
		return err == nil && len(found) > 0
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-rounds", "1000")
	cmd.Env = append(os.Environ(), "BENCH_AS_COMMAND=1", "TMPDIR="+dir)
	require.NoError(t, cmd.Start())
	require.Eventually(t, made, time.Minute, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var code *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &code)
	assert.Equal(t, 1, code.ExitCode())
	assert.False(t, made())
}
