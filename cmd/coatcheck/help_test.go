package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A command that is asked for help prints it on standard output, whatever else the arguments and the environment say, and does nothing
// else.
func TestEveryCommandKnowsHelp(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"serve", "serve --ttl=x", "hash-password", "hash-password --user=u", "data", "data verify", "data verify /none", "data repair", "doctor", "doctor --json",
		"healthcheck", "healthcheck --ready", "sessions", "sessions list", "sessions list ada", "sessions revoke ada x", "sessions nothing",
		"version", "help", "completion", "completion bash", "completion sh", "man",
	} {
		for _, flag := range []string{"--help", "-help", "-h"} {
			code, out, errs := command(t, []string{"COATCHECK_CONFIG=/none", "COATCHECK_TTL=x"}, append(strings.Fields(line), flag)...)
			assert.Zero(t, code, line)
			assert.Contains(t, out, "Usage:\n", line)
			assert.NotContains(t, out, " v1.2.3", line)
			assert.Empty(t, errs, line)
		}
	}
}

// Only -h, -help and --help ask for help. A flag with one dash is a mistake, whatever letters it has: a health check that prints its help would
// be green for ever.
func TestOneDashIsNoHelp(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"serve --dev -shutdown-timeout 5s": exitUsage, "serve --login=x -s3cret/h": exitUsage, "hash-password -he": exitUsage, "hash-password -user h": exitUsage,
		"data verify -data-dirh": exitUsage, "doctor -hn": exitUsage, "healthcheck -cache": exitFailed, "healthcheck -h=1": exitFailed, "sessions list -bh": exitUsage,
		"completion -bash": exitUsage, "man -ch": exitUsage, "version -sh": exitUsage, "-hh": exitUsage,
	} {
		code, out, errs := command(t, nil, strings.Fields(line)...)
		assert.Equal(t, want, code, line)
		assert.Empty(t, out, line)
		if command := strings.Fields(line)[0]; !slices.Contains([]string{"completion", "man", "version", "-hh"}, command) { // those that have flags
			assert.Contains(t, errs, "flags begin with two dashes", line)
		}
		assert.NotContains(t, errs, "s3cret", line)
	}
}

// sessions finds the server and its key where serve does: flag, environment, file, in this order; and no other setting, right or
// wrong, keeps an operator from revoking.
func TestSessionsReadsTheConfiguration(t *testing.T) {
	t.Parallel()
	key := keyFile(t, 0o600)
	p := start(t, "--admin-key-file", key)
	admin := strings.TrimPrefix(p.admin, "http://")
	file := configFile(t, "admin-listen = \""+admin+"\"\nadmin-key-file = \""+key+"\"\nttl = \"soon\"\nnot-a-setting = 1\n")
	wrong := configFile(t, "admin-listen = \"127.0.0.1:1\"\nadmin-key-file = \"/none\"\n")
	for name, tt := range map[string]struct{ args, env []string }{
		"the flag":                  {args: []string{"--config", file}},
		"the variable":              {env: []string{"COATCHECK_CONFIG=" + file}},
		"variables":                 {env: []string{"COATCHECK_ADMIN_LISTEN=" + admin, "COATCHECK_ADMIN_KEY_FILE=" + key}},
		"flags":                     {args: []string{"--admin-listen", admin, "--admin-key-file", key}},
		"variables before the file": {args: []string{"--config", wrong}, env: []string{"COATCHECK_ADMIN_LISTEN=" + admin, "COATCHECK_ADMIN_KEY_FILE=" + key}},
		"flags before the file":     {args: []string{"--config", wrong, "--admin-url", p.admin, "--admin-key-file", key}},
		"flags before variables": {
			args: []string{"--admin-url", p.admin, "--admin-key-file", key},
			env:  []string{"COATCHECK_ADMIN_LISTEN=127.0.0.1:1", "COATCHECK_ADMIN_KEY_FILE=/none"},
		},
		"flags of serve": {args: []string{"--dev", "--config", file, "--login=users", "--users-file=/none", "--max-sessions=x"}},
	} {
		p.logIn(t, name)
		code, out, errs := command(t, tt.env, append([]string{"sessions", "list", name}, tt.args...)...)
		assert.Zero(t, code, "%s: %s", name, errs)
		assert.Contains(t, out, "HANDLE", name)
		code, out, errs = command(t, tt.env, append([]string{"sessions", "revoke", name}, tt.args...)...)
		assert.Zero(t, code, "%s: %s", name, errs)
		assert.Equal(t, "1 session ended\n", out, name)
	}
	missing := filepath.Join(t.TempDir(), "file")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no such file":     {[]string{"--config=" + missing}, `--config "` + missing + `": no such file or directory (command line)`},
		"not TOML":         {[]string{"--config", configFile(t, "admin-key-file = s3cret\n")}, "line 1 (--admin-key-file) is not TOML"},
		"not an address":   {[]string{"--admin-listen=x"}, `--admin-listen "x": not an address`},
		"no admin":         {[]string{"--admin-listen=off"}, "--admin-listen off cannot be asked"},
		"another's switch": {[]string{"--ready"}, "--ready: no such flag"},
	} {
		code, out, errs := command(t, nil, append([]string{"sessions", "list", "ada"}, tt.args...)...)
		assert.Equal(t, exitUsage, code, name)
		assert.Empty(t, out, name)
		assert.Contains(t, errs, tt.want, name)
		assert.NotContains(t, errs, "s3cret", name)
	}
}

// What holds nothing to check is not sound, and what is missing is said.
func TestDataVerifyFindsNothing(t *testing.T) {
	t.Parallel()
	empty, others := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(others, "passwd"), []byte("root:x:0:0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(others, "journal"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(others, "lock"), nil, 0o600))

	p := start(t, "--data-dir", t.TempDir())
	p.logIn(t, "ada")
	dir := p.cmd.Args[len(p.cmd.Args)-1]
	require.NoError(t, p.cmd.Process.Kill())
	<-p.exited
	code, out, errs := command(t, nil, "data", "verify", dir)
	require.Zero(t, code, errs)
	assert.Equal(t, dir+" is sound: 1 live sessions\n", out)
	for _, args := range [][]string{{"--data-dir", dir}, {"--config", configFile(t, "data-dir = \""+dir+"\"\nttl = 1\n")}} {
		code, out, errs = command(t, nil, append([]string{"data", "verify"}, args...)...)
		assert.Zero(t, code, errs)
		assert.Contains(t, out, "1 live sessions")
	}
	code, _, errs = command(t, []string{"COATCHECK_DATA_DIR=" + dir}, "data", "verify")
	assert.Zero(t, code, errs)
	journals, err := filepath.Glob(filepath.Join(dir, "journal-*"))
	require.NoError(t, err)
	require.Len(t, journals, 1)
	require.NoError(t, os.Remove(journals[0]))

	for name, folder := range map[string]string{"an empty folder": empty, "other files": others, "/etc": "/etc", "a backup without its journal": dir} {
		code, out, errs := command(t, nil, "data", "verify", folder)
		assert.Equal(t, exitFailed, code, name)
		assert.Empty(t, out, name)
		assert.Contains(t, errs, folder, name)
		assert.Contains(t, errs, "journal-00000001 is missing", name)
	}
	code, _, errs = command(t, nil, "data", "verify", filepath.Join(empty, "none"))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "no such file")
}
