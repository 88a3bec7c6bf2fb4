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
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// diagnosis is what doctor said.
type diagnosis struct {
	t     *testing.T
	by    map[string]verdict
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
		Checks             []verdict
		Problems, Warnings int
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	d := diagnosis{t: t, by: make(map[string]verdict), texts: out, code: code}
	for _, v := range answer.Checks {
		require.NotContains(t, d.by, v.Check, "said once")
		require.Contains(t, []string{fine, warning, problem}, v.Result)
		require.NotEmpty(t, v.Text)
		d.by[v.Check] = v
	}
	wantCode := exitOK
	if answer.Problems > 0 {
		wantCode = exitFailed
	}
	require.Equal(t, wantCode, code)
	require.Len(t, d.with(problem), answer.Problems)
	require.Len(t, d.with(warning), answer.Warnings)
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

func TestDoctorOnAConfiguration(t *testing.T) {
	trusted := "--login=trusted --login-key-file=" + keyFile(t, 0o600) + " "
	for name, tt := range map[string]struct{ args, check, result, text string }{
		"Secure over http":             {"--url=http://login.example.com", "cookie-secure", problem, "nobody stays logged in"},
		"Secure over http on loopback": {"--url=http://localhost:3000", "cookie-secure", warning, "Safari"},
		"Secure over https":            {"--url=https://login.example.com", "cookie-secure", fine, ""},
		"not Secure over https":        {"--url=https://login.example.com --cookie-name=sid --cookie-secure=false", "cookie-secure", warning, "plain http"},
		"a foreign Domain":             {"--url=https://login.example.com --cookie-name=sid --cookie-domain=example.org", "cookie-domain", problem, "take no cookie for example.org"},
		"half a Domain":                {"--url=https://login.example.com --cookie-name=sid --cookie-domain=ample.com", "cookie-domain", problem, "take no cookie"},
		"a public suffix":              {"--url=https://shop.co.uk --cookie-name=sid --cookie-domain=co.uk", "cookie-domain", problem, "public suffix"},
		"a parent Domain":              {"--url=https://Login.example.com --cookie-name=sid --cookie-domain=.example.com", "cookie-domain", fine, ""},
		"no Domain":                    {"--url=https://login.example.com", "cookie-domain", fine, ""},
		"a Path elsewhere":             {"--url=https://example.com --cookie-name=sid --cookie-path=/app", "cookie-path", problem, "everybody is anonymous"},
		"a Path that ends in a word":   {"--url=https://example.com --cookie-name=sid --cookie-path=/aut", "cookie-path", problem, ""},
		"the proxy's Path":             {"--url=https://example.com/app/ --cookie-name=sid --cookie-path=/app", "cookie-path", fine, ""},
		"the routes' Path":             {"--url=https://example.com --cookie-name=sid --cookie-path=/auth", "cookie-path", fine, ""},
		"another site, lax":            {"--url=https://login.example.com --trusted-origins=https://app.example.org", "cookie-same-site", problem, "--cookie-same-site=none"},
		"another site, strict":         {"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=strict", "cookie-same-site", problem, "SameSite=strict"},
		"another site, none":           {"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=none", "cookie-same-site", warning, "third-party"},
		"neighbours below a suffix":    {"--url=https://login.github.io --trusted-origins=https://app.github.io", "cookie-same-site", problem, "another site"},
		"the same site":                {"--url=https://login.example.com --trusted-origins=https://app.example.com:8443", "cookie-same-site", fine, ""},
		"the same over http":           {"--url=https://login.example.com --trusted-origins=http://app.example.com", "cookie-same-site", problem, "another site"},
		"an origin, and no URL":        {"--trusted-origins=https://app.example.com", "cookie-same-site", warning, "--url"},
		"no URL":                       {"", "cookie", fine, "--url"},
		"a proxy that is not trusted":  {"--url=https://login.example.com", "proxies", problem, "does not name 127.0.0.1"},
		"another proxy is":             {"--url=https://login.example.com --trusted-proxies=10.0.0.0/8", "proxies", problem, "does not name 127.0.0.1"},
		"the proxy is trusted":         {"--url=https://login.example.com --trusted-proxies=127.0.0.0/8", "proxies", fine, ""},
		"everybody is":                 {"--trusted-proxies=0.0.0.0/0", "proxies", problem, "everybody"},
		"no proxy":                     {"--listen=192.0.2.1:80 --url=https://login.example.com", "proxies", fine, ""},
		"no admin":                     {"--admin-listen=off", "admin-listen", warning, "off"},
		"admin for others":             {"--admin-listen=192.0.2.1:1 --admin-key-file=" + keyFile(t, 0o600), "admin-listen", warning, "plain text"},
		"a login key for all":          {"--login=trusted --login-key-file=" + keyFile(t, 0o644), "login-key-file", problem, "read"},
		"a users file for all":         {"--login=users --users-file=" + usersFile(t, 0o604), "users-file", problem, "read"},
		"a users file to write to":     {"--login=users --users-file=" + usersFile(t, 0o602), "users-file", problem, "change"},
		"a users file for a group":     {"--login=users --users-file=" + usersFile(t, 0o640), "users-file", fine, ""},
		"an admin key for all":         {"--admin-key-file=" + keyFile(t, 0o644), "admin-key-file", problem, "read"},
		"a password in the file":       {"--config=" + configFile(t, "store = \"redis://:s3cret@127.0.0.1:1\"\n", 0o644), "config", problem, "read"},
		"no password in the file":      {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o644), "config", "", ""},
		"open off loopback":            {"--login=open --url=https://login.example.com", "login", problem, "as anybody"},
		"open":                         {"--login=open", "login", warning, "development"},
		"in memory":                    {"", "store", fine, "a restart logs everybody out"},
	} {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if !strings.Contains(args, "--login=") {
				args = trusted + args
			}
			d := examined(t, strings.Fields(args)...)
			d.says(tt.check, tt.result, tt.text)
			assert.NotContains(t, d.texts, "s3cret")
			assert.NotContains(t, d.texts, secret)
		})
	}
}

const secret = "a-key-of-more-than-thirty-two-characters"

func keyFile(t *testing.T, mode os.FileMode) string { return withMode(t, secret+"\n", mode) }

func usersFile(t *testing.T, mode os.FileMode) string { return withMode(t, "", mode) }

func configFile(t *testing.T, text string, mode os.FileMode) string { return withMode(t, text, mode) }

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
	file := configFile(t, "url = \"http://localhost\"\n", 0o600)
	code, _, errs := command(t, nil, "doctor", "--dev", "--config", file)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, `"url": no such setting`)
}

func TestDoctorOnRedis(t *testing.T) {
	on := func(url string, more ...string) diagnosis {
		d := examined(t, append([]string{"--dev", "--store", url}, more...)...)
		assert.NotContains(t, d.texts, "s3cret")
		return d
	}
	server := redistest.Start(t)
	assert.Empty(t, on(server.URL()).with(problem))
	on(server.URL(), "--redis-wait-replicas=1").says("redis-replicas", problem, "fewer replicas")

	evicting := redistest.Start(t, "maxmemory-policy allkeys-lru", "maxmemory 100mb")
	on(evicting.URL()).says("redis-eviction", problem, "set maxmemory-policy noeviction")

	users := redistest.Start(t, "user default on >s3cret +@all ~* &*", "user deaf on >s3cret +@all -client ~* &*",
		"user poor on >s3cret +@all -zadd -evalsha ~* &*", "user astray on >s3cret +@all ~other:* &*", "user mute on >s3cret ~*")
	as := func(user string) diagnosis {
		return on(strings.Replace(users.URL(), "redis://", "redis://"+user+":s3cret@", 1))
	}
	as("deaf").says("redis-cache", warning, "no client-side caching")
	as("poor").says("redis-commands", problem, "give him +evalsha +zadd")
	as("astray").says("redis-commands", problem, "~coatcheck:*")
	as("mute").says("redis-commands", problem, "give him +set +get")
	on(users.URL()).says("redis", problem, "right user and password")
	on(strings.Replace(users.URL(), "redis://", "redis://:wr0ng@", 1)).says("redis", problem, "right user and password")

	server.Kill()
	on(server.URL()).says("redis", problem, "see that Redis runs")
}

func TestDoctorOnDataDir(t *testing.T) {
	parent := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(parent), 0o755)) //nolint:gosec // so that others come as far as parent
	dir := filepath.Join(parent, "data")
	args := []string{"--dev", "--data-dir", dir}
	examined(t, args...).says("data-dir", fine, "is not there yet")

	p := start(t, "--data-dir", dir)
	p.logIn(t, "ada")
	examined(t, args...).says("data-dir", problem, "in use by another process")
	code, out, _ := command(t, nil, "doctor", "--json", "--dev", "--data-dir", dir, "--admin-listen", strings.TrimPrefix(p.admin, "http://"))
	diagnosed(t, code, out).says("data-dir", fine, "by the running server")
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	examined(t, args...).says("data-dir", fine, "is sound: 1 live sessions")

	withoutRights(t, dir, args...).says("data-dir", problem, "must own the folder")
	withoutRights(t, parent, "--dev", "--data-dir", filepath.Join(parent, "other", "folder")).says("data-dir", problem, "cannot be made")

	journal, err := filepath.Glob(filepath.Join(dir, "journal*"))
	require.NoError(t, err)
	require.NotEmpty(t, journal)
	text, err := os.ReadFile(journal[0])
	require.NoError(t, err)
	text[0] ^= 1
	require.NoError(t, os.WriteFile(journal[0], text, 0o600))
	examined(t, "--dev", "--data-dir", dir).says("data-dir", problem, "will not start")
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
	with := func(limit string) diagnosis {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -n "+limit+` && exec "$0" doctor --json --dev --admin-listen=127.0.0.1:1`, program(t))
		cmd.Env = environment()
		out, _ := cmd.Output() // the exit code says it
		return diagnosed(t, cmd.ProcessState.ExitCode(), string(out))
	}
	with("512").says("descriptors", problem, "may have 512")
	with("4096").says("descriptors", warning, "may have 4096")
	with("10000").says("descriptors", fine, "may have 10000")

	n, ok := gauge([]byte("# TYPE process_max_fds gauge\nprocess_max_fds_other 7\nprocess_max_fds 1.048576e+06\n"), "process_max_fds")
	assert.True(t, ok)
	assert.EqualValues(t, 1<<20, n)
}
