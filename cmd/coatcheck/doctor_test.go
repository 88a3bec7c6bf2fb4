package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor/doctortest"
)

// examined runs doctor with --json, on a server that does not run unless the arguments name one.
func examined(t *testing.T, args ...string) doctortest.Diagnosis {
	t.Helper()
	code, out, errs := command(t, nil, append([]string{"doctor", "--json", "--admin-listen=127.0.0.1:1"}, args...)...)
	require.Empty(t, errs)
	return diagnosed(t, code, out)
}

func diagnosed(t *testing.T, code int, out string) doctortest.Diagnosis {
	t.Helper()
	var answer struct {
		Checks             []doctor.Verdict
		Problems, Warnings int
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	d := doctortest.Of(t, answer.Checks, out)
	wantCode := exitOK
	if answer.Problems > 0 {
		wantCode = exitFailed
	}
	require.Equal(t, wantCode, code)
	require.Len(t, d.With(doctor.Problem), answer.Problems)
	require.Len(t, d.With(doctor.Warning), answer.Warnings)
	return d
}

const secret = "a-key-of-more-than-thirty-two-characters"

func keyFile(t *testing.T, mode os.FileMode) string { return doctortest.File(t, secret+"\n", mode) }

func configFile(t *testing.T, text string) string { return doctortest.File(t, text, 0o600) }

func TestDoctorExitCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"help":                       {args: []string{"--help"}},
		"mistakes of serve":          {args: []string{"--dev", "--ttl=x"}, code: 2, stderr: `--ttl "x": not a duration`},
		"__Host- with a Domain":      {args: []string{"--login=open", "--cookie-domain=example.com"}, code: 2, stderr: "__Host- allows no cookie-domain"},
		"admin for all without keys": {args: []string{"--dev", "--admin-listen=0.0.0.0:3001"}, code: 2, stderr: "off loopback it needs --admin-key-file"},
		"no URL":                     {args: []string{"--dev", "--url=login.example.com"}, code: 2, stderr: "--url: not an address"},
		"a password in the URL":      {args: []string{"--dev", "--url=https://u:s3cret@h"}, code: 2, stderr: "--url: not an address"},
		"no such flag":               {args: []string{"--dev", "--uri=x"}, code: 2, stderr: "--uri: no such flag"},
		"warnings":                   {args: []string{"--dev", "--admin-listen=127.0.0.1:1"}},
		"problems":                   {args: []string{"--dev", "--admin-listen=127.0.0.1:1", "--trusted-proxies=::/0"}, code: 1},
	} {
		code, out, errs := command(t, []string{"COATCHECK_TTLL=1"}, append([]string{"doctor"}, tt.args...)...)
		assert.Equal(t, tt.code, code, name)
		assert.Contains(t, errs, tt.stderr, name)
		assert.NotContains(t, errs, "s3cret", name)
		if tt.code < 2 && name != "help" {
			assert.Contains(t, out, "\nwarning  server           not asked: nobody listens at http://127.0.0.1:1", name)
			assert.Contains(t, out, "COATCHECK_TTLL names no flag", name)
			assert.Regexp(t, `\n\d+ checks, \d problems, \d warnings\n$`, out, name)
		}
	}
	_, err := config.Load([]string{"--dev", "--url=http://localhost"}, nil)
	assert.ErrorContains(t, err, "--url: no such flag", "serve has none")
	file := configFile(t, "url = \"http://localhost\"\n")
	code, _, errs := command(t, nil, "doctor", "--dev", "--config", file)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, `"url": no such setting`)
}

func TestDoctorOnDataDir(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(parent), 0o755)) //nolint:gosec // so that others come as far as parent
	dir := filepath.Join(parent, "data")
	args := []string{"--dev", "--data-dir", dir}
	examined(t, args...).Says("data-dir", doctor.Fine, "is not there yet")

	p := start(t, "--data-dir", dir)
	p.logIn(t, "ada")
	examined(t, args...).Says("data-dir", doctor.Problem, "in use by another process")
	code, out, _ := command(t, nil, "doctor", "--json", "--dev", "--data-dir", dir, "--admin-listen", strings.TrimPrefix(p.admin, "http://"))
	diagnosed(t, code, out).Says("data-dir", doctor.Fine, "by the running server")
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	examined(t, args...).Says("data-dir", doctor.Fine, "is sound: 1 live sessions")

	withoutRights(t, dir, args...).Says("data-dir", doctor.Problem, "must own the folder")
	withoutRights(t, parent, "--dev", "--data-dir", filepath.Join(parent, "other", "folder")).Says("data-dir", doctor.Problem, "cannot be made")

	journal, err := filepath.Glob(filepath.Join(dir, "journal*"))
	require.NoError(t, err)
	require.NotEmpty(t, journal)
	text, err := os.ReadFile(journal[0])
	require.NoError(t, err)
	text[0] ^= 1
	require.NoError(t, os.WriteFile(journal[0], text, 0o600))
	examined(t, "--dev", "--data-dir", dir).Says("data-dir", doctor.Problem, "will not start")
}

// withoutRights runs the built program as somebody who may not write to the folder: root may always, so as nobody then.
func withoutRights(t *testing.T, folder string, args ...string) doctortest.Diagnosis {
	t.Helper()
	path := program(t)
	cmd := exec.CommandContext(t.Context(), path, append([]string{"doctor", "--json", "--admin-listen=127.0.0.1:1"}, args...)...)
	cmd.Env, cmd.Dir = environment(), "/"
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chmod(filepath.Dir(path), 0o755)) //nolint:gosec // the program is to be run by another user
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else {
		require.NoError(t, os.Chmod(folder, 0o500))                   //nolint:gosec // a folder needs x
		defer func() { assert.NoError(t, os.Chmod(folder, 0o700)) }() //nolint:gosec // likewise
		if lock := filepath.Join(folder, "lock"); os.Chmod(lock, 0) == nil {
			defer func() { assert.NoError(t, os.Chmod(lock, 0o600)) }()
		}
	}
	out, _ := cmd.Output() // the exit code says it
	return diagnosed(t, cmd.ProcessState.ExitCode(), string(out))
}

func TestDoctorOnDescriptors(t *testing.T) {
	t.Parallel()
	with := func(limit string) doctortest.Diagnosis {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -n "+limit+` && exec "$0" doctor --json --dev --admin-listen=127.0.0.1:1`, program(t))
		cmd.Env = environment()
		out, _ := cmd.Output() // the exit code says it
		return diagnosed(t, cmd.ProcessState.ExitCode(), string(out))
	}
	with("512").Says("descriptors", doctor.Problem, "may have 512")
	with("4096").Says("descriptors", doctor.Warning, "may have 4096")
	with("10000").Says("descriptors", doctor.Fine, "may have 10000")
}
