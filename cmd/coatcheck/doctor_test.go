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
)

// diagnosis is what doctor said.
type diagnosis struct {
	t     *testing.T
	by    map[string]doctor.Verdict
	texts string
	code  int
}

// examined runs doctor with --json, on a server that does not run unless the arguments name one.
func examined(t *testing.T, args ...string) diagnosis {
	t.Helper()
	code, out, errs := command(t, nil, append([]string{"doctor", "--json", "--admin-listen=127.0.0.1:1"}, args...)...)
	require.Empty(t, errs)
	return diagnosed(t, code, out)
}

func diagnosed(t *testing.T, code int, out string) diagnosis {
	t.Helper()
	var answer struct {
		Checks             []doctor.Verdict
		Problems, Warnings int
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	d := diagnosis{t: t, by: make(map[string]doctor.Verdict), texts: out, code: code}
	for _, v := range answer.Checks {
		require.NotContains(t, d.by, v.Check, "said once")
		require.Contains(t, []string{doctor.Fine, doctor.Warning, doctor.Problem}, v.Result)
		require.NotEmpty(t, v.Text)
		d.by[v.Check] = v
	}
	wantCode := exitOK
	if answer.Problems > 0 {
		wantCode = exitFailed
	}
	require.Equal(t, wantCode, code)
	require.Len(t, d.with(doctor.Problem), answer.Problems)
	require.Len(t, d.with(doctor.Warning), answer.Warnings)
	return d
}

func (d diagnosis) with(result string) (checks []string) {
	for name, v := range d.by {
		if v.Result == result {
			checks = append(checks, name)
		}
	}
	return checks
}

// says asserts what a check came to.
func (d diagnosis) says(check, result, text string) {
	d.t.Helper()
	assert.Equal(d.t, result, d.by[check].Result, "%s: %s", check, d.by[check].Text)
	assert.Contains(d.t, d.by[check].Text, text, check)
}

const secret = "a-key-of-more-than-thirty-two-characters"

func keyFile(t *testing.T, mode os.FileMode) string { return withMode(t, secret+"\n", mode) }

func configFile(t *testing.T, text string) string { return withMode(t, text, 0o600) }

// withMode writes a file whose mode the umask does not touch.
func withMode(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

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
	examined(t, args...).says("data-dir", doctor.Fine, "is not there yet")

	p := start(t, "--data-dir", dir)
	p.logIn(t, "ada")
	examined(t, args...).says("data-dir", doctor.Problem, "in use by another process")
	code, out, _ := command(t, nil, "doctor", "--json", "--dev", "--data-dir", dir, "--admin-listen", strings.TrimPrefix(p.admin, "http://"))
	diagnosed(t, code, out).says("data-dir", doctor.Fine, "by the running server")
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	examined(t, args...).says("data-dir", doctor.Fine, "is sound: 1 live sessions")

	withoutRights(t, dir, args...).says("data-dir", doctor.Problem, "must own the folder")
	withoutRights(t, parent, "--dev", "--data-dir", filepath.Join(parent, "other", "folder")).says("data-dir", doctor.Problem, "cannot be made")

	journal, err := filepath.Glob(filepath.Join(dir, "journal*"))
	require.NoError(t, err)
	require.NotEmpty(t, journal)
	text, err := os.ReadFile(journal[0])
	require.NoError(t, err)
	text[0] ^= 1
	require.NoError(t, os.WriteFile(journal[0], text, 0o600))
	examined(t, "--dev", "--data-dir", dir).says("data-dir", doctor.Problem, "will not start")
}

// withoutRights runs the built program as somebody who may not write to the folder: root may always, so as nobody then.
func withoutRights(t *testing.T, folder string, args ...string) diagnosis {
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
	with := func(limit string) diagnosis {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -n "+limit+` && exec "$0" doctor --json --dev --admin-listen=127.0.0.1:1`, program(t))
		cmd.Env = environment()
		out, _ := cmd.Output() // the exit code says it
		return diagnosed(t, cmd.ProcessState.ExitCode(), string(out))
	}
	with("512").says("descriptors", doctor.Problem, "may have 512")
	with("4096").says("descriptors", doctor.Warning, "may have 4096")
	with("10000").says("descriptors", doctor.Fine, "may have 10000")
}
