package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A health check opens no file that only the server needs: not one that is missing, and not one that would hold it up, such as a
// pipe that nobody writes to.
func TestHealthcheckOpensNoFilesOfTheServer(t *testing.T) {
	t.Parallel()
	p := start(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for name, file := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "pipe": pipe} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, program(t), "healthcheck")
		cmd.Env = environment("COATCHECK_ADMIN_LISTEN="+strings.TrimPrefix(p.admin, "http://"), "COATCHECK_LOGIN=users",
			"COATCHECK_USERS_FILE="+file, "COATCHECK_TLS_CERT="+file, "COATCHECK_TLS_KEY="+file)
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "%s: %s", name, out)
		assert.Equal(t, "alive\n", string(out), name)
	}
}

// A mistake in what says which server to ask is told: another server, on the default port for instance, might answer in its place.
func TestHealthcheckMistakes(t *testing.T) {
	t.Parallel()
	p := start(t)
	admin := "admin-listen = \"" + strings.TrimPrefix(p.admin, "http://") + "\"\n"
	flag := "--admin-listen=" + strings.TrimPrefix(p.admin, "http://")
	for name, tt := range map[string]struct {
		args, env []string
		want      string // in the message; empty: the server is asked
	}{
		"other settings":       {args: []string{"--config", configFile(t, admin+"ttl = \"soon\"\nno-setting = 1\n"), "--max-sessions=x", "--login=no"}},
		"no file":              {args: []string{flag, "--config=/nonexistent.toml"}, want: `--config "/nonexistent.toml"`},
		"no file, a variable":  {args: []string{flag}, env: []string{"COATCHECK_CONFIG=/nonexistent.toml"}, want: `--config "/nonexistent.toml"`},
		"no TOML":              {args: []string{flag, "--config", configFile(t, "hello\n")}, want: "line 1 is not TOML"},
		"a list":               {args: []string{"--config", configFile(t, "[admin-listen]\n")}, want: "--admin-listen: must be text"},
		"no address":           {args: []string{"--admin-listen", "bad"}, want: `--admin-listen "bad"`},
		"no address, variable": {env: []string{"COATCHECK_ADMIN_LISTEN=bad"}, want: `--admin-listen "bad"`},
		"a word":               {args: []string{flag, "wrong"}, want: `"wrong": no such argument`},
		"a flag":               {args: []string{flag, "--wrong=x"}, want: "--wrong: no such flag"},
	} {
		code, out, errs := command(t, tt.env, append([]string{"healthcheck"}, tt.args...)...)
		if tt.want == "" {
			assert.Equal(t, exitOK, code, "%s: %s", name, errs)
			continue
		}
		assert.Equal(t, exitFailed, code, name)
		assert.Empty(t, out, name)
		assert.Contains(t, errs, tt.want, name)
	}
}
