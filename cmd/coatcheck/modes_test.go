package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// ask sends a request to a server and returns status, body and the session cookie that came or, if none did, was sent.
func (p *process) ask(t *testing.T, method, path, cookie, body string, head ...string) (status int, text, sent string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	sent = cookie
	for _, c := range resp.Cookies() {
		sent = c.Name + "=" + c.Value
	}
	return resp.StatusCode, string(raw), sent
}

// whose returns the user of a cookie.
func (p *process) whose(t *testing.T, cookie string) string {
	t.Helper()
	status, text, _ := p.ask(t, "GET", "/auth/me", cookie, "")
	require.Equal(t, http.StatusOK, status, text)
	_, rest, _ := strings.Cut(text, `"user_id":"`)
	user, _, _ := strings.Cut(rest, `"`)
	return user
}

func hashPassword(t *testing.T, user, password string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), "hash-password", "--user", user)
	cmd.Env, cmd.Stdin = environment(), strings.NewReader(password+"\n")
	line, err := cmd.Output()
	require.NoError(t, err)
	require.Regexp(t, `^`+user+`:\$argon2id\$[^\n]+\n$`, string(line))
	return string(line)
}

func TestUsersMode(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	alice, bob := hashPassword(t, "Alice", "alice's password"), hashPassword(t, "bob", "bob's password")
	require.NoError(t, os.WriteFile(file, []byte(alice+bob), 0o600))
	p := start(t, "--login=users", "--users-file", file)
	assert.NotContains(t, p.stdout.String(), "WARNING")

	status, text, _ := p.ask(t, "POST", "/auth/login", "", `{"user_id":"alice","password":"bob's password"}`)
	assert.Equal(t, http.StatusUnauthorized, status, text)
	status, text, ofAlice := p.ask(t, "POST", "/auth/login", "", `{"user_id":"ALICE","password":"alice's password"}`)
	require.Equal(t, http.StatusOK, status, text)
	_, _, ofBob := p.ask(t, "POST", "/auth/login", "", `{"user_id":"bob","password":"bob's password"}`)
	assert.Equal(t, "Alice", p.whose(t, ofAlice), "by the name in the file")

	require.NoError(t, os.WriteFile(file, []byte(alice), 0o600))
	assert.Equal(t, "bob", p.whose(t, ofBob), "the file is read on HUP")
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return p.whose(t, ofBob) == "" }, patience, 10*time.Millisecond)
	assert.Equal(t, "Alice", p.whose(t, ofAlice))

	require.NoError(t, os.WriteFile(file, []byte("no hash\n"), 0o600))
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "not re-read")
	assert.Equal(t, "Alice", p.whose(t, ofAlice), "a file with mistakes changes nothing")
	require.Eventually(t, func() bool { return strings.Contains(p.readiness(t), `"reload":"failed"`) }, patience, 10*time.Millisecond)
	// An operator who disables somebody and makes a mistake needs no second HUP.
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(alice, ":", ":!", 1)), 0o600))
	require.Eventually(t, func() bool { return p.whose(t, ofAlice) == "" }, patience, 50*time.Millisecond)
	require.Eventually(t, func() bool { return p.readiness(t) == `{"status":"ready","writes":"ok","reload":"ok"}` }, patience, 10*time.Millisecond)
}

// A line as hash-password prints it gives the user's sessions its claims, and ends them when it changes.
func TestUsersModeClaims(t *testing.T) {
	t.Parallel()
	var line bytes.Buffer
	args := []string{"hash-password", "--user=ann", "--groups=staff,a b", "--email=ann@example.com", "--name=Ann: A"}
	require.Zero(t, run(args, nil, daemon.Signals{}, strings.NewReader("pass\n"), &line, io.Discard))
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, line.Bytes(), 0o600))
	p := start(t, "--login=users", "--users-file", file)
	status, text, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"ann","password":"pass"}`)
	require.Equal(t, http.StatusOK, status, text)
	_, text, _ = p.ask(t, "GET", "/auth/userinfo", cookie, "")
	assert.Equal(t, `{"sub":"ann","name":"Ann: A","email":"ann@example.com","groups":["staff","a b"]}`, text)
	require.NoError(t, os.WriteFile(file, bytes.Replace(line.Bytes(), []byte("groups=staff,"), []byte("groups="), 1), 0o600))
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return p.whose(t, cookie) == "" }, patience, 10*time.Millisecond)
}

func TestTrustedMode(t *testing.T) {
	t.Parallel()
	const first, second = "first-key-0123456789-0123456789-0123", "second-key-0123456789-0123456789-012"
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(first+"\n"), 0o600))
	p := start(t, append(unhurried, "--login=trusted", "--login-key-file", file)...)
	login := func(key string) int {
		status, _, _ := p.ask(t, "POST", "/auth/login", "", `{"user_id":"u","claims":{"groups":["staff"]}}`, "Authorization", "Bearer "+key)
		return status
	}
	assert.Equal(t, http.StatusOK, login(first))
	assert.Equal(t, http.StatusUnauthorized, login(second))
	require.NoError(t, os.WriteFile(file, []byte(second+"\n"), 0o600))
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return login(first) == http.StatusUnauthorized }, patience, 10*time.Millisecond)
	assert.Equal(t, http.StatusOK, login(second))
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
	assert.NotContains(t, p.stderr.String(), "-0123456789-")
}

func TestNotBeforeIsReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "coatcheck.toml")
	require.NoError(t, os.WriteFile(file, []byte("ttl = \"10m\"\n"), 0o600))
	p := start(t, "--config", file)
	_, _, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"u"}`)
	require.Equal(t, "u", p.whose(t, cookie))
	// A moment that is ahead by less than the clocks of two machines may be apart.
	require.NoError(t, os.WriteFile(file, []byte("sessions-not-before = "+time.Now().Add(30*time.Second).UTC().Format(time.RFC3339)+"\n"), 0o600))
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return p.whose(t, cookie) == "" }, patience, 10*time.Millisecond)
}

func TestDataDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "--data-dir", dir)
	_, _, kept := p.ask(t, "POST", "/auth/login", "", `{"user_id":"kept"}`)
	_, _, left := p.ask(t, "POST", "/auth/login", "", `{"user_id":"left"}`)
	status, _, _ := p.ask(t, "POST", "/auth/logout", left, "")
	require.Equal(t, http.StatusNoContent, status)

	verify := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), program(t), "data", "verify", dir)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	_, err := verify()
	require.Error(t, err, "it is in use")
	require.NoError(t, p.cmd.Process.Kill())
	<-p.exited
	out, err := verify()
	require.NoError(t, err, out)
	assert.Contains(t, out, "1 live sessions")

	p = start(t, "--data-dir", dir)
	assert.Equal(t, "kept", p.whose(t, kept))
	assert.Empty(t, p.whose(t, left))
}

// Two servers on one Redis are one.
func TestRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	a, b := start(t, "--store", redis.URL()), start(t, "--store", redis.URL())
	_, _, cookie := a.ask(t, "POST", "/auth/login", "", `{"user_id":"u"}`)
	assert.Equal(t, "u", b.whose(t, cookie))
	_, _, fresh := b.ask(t, "POST", "/auth/refresh", cookie, "")
	require.NotEqual(t, cookie, fresh)
	assert.Equal(t, "u", a.whose(t, fresh))
	status, _, _ := a.ask(t, "POST", "/auth/logout", fresh, "")
	require.Equal(t, http.StatusNoContent, status)
	assert.Empty(t, a.whose(t, fresh))
	redis.Kill()
	require.Eventually(t, func() bool { return a.ready(t) == http.StatusServiceUnavailable }, patience, 5*time.Millisecond)
}

// While Redis refuses writes the server says so, in its log, the body of /readyz and a metric, and stays ready (CASES A11, A13).
func TestRedisThatRefusesWrites(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, "--store", redis.URL())
	cookie := p.logIn(t, "u")
	saying := func(writes string) func() bool {
		want := `{"status":"ready","writes":"` + writes + `","reload":"ok"}`
		return func() bool {
			status, body := p.askReady(t)
			return status == http.StatusOK && body == want
		}
	}
	redis.Must("CONFIG", "SET", "maxmemory", "1")
	require.Eventually(t, saying("refused"), patience, 10*time.Millisecond)
	p.logged(t, "Redis refuses writes")
	_, page := p.scrape(t)
	assert.Contains(t, page, "\ncoatcheck_store_writes_refused 1\n")
	assert.Equal(t, "u", p.whose(t, cookie))
	redis.Must("CONFIG", "SET", "maxmemory", "0")
	require.Eventually(t, saying("ok"), patience, 10*time.Millisecond)
	p.logged(t, "Redis accepts writes again")
	p.logIn(t, "v")
}

// A Redis that may evict the index of a user's sessions is a mistake of the configuration (CASES A10).
func TestRedisThatEvicts(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t, "maxmemory 100mb", "maxmemory-policy allkeys-lru").URL()
	args := []string{"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=off", "--store=" + url}
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a server that starts after all would not end
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, string(out))
	assert.Equal(t, exitUsage, exit.ExitCode())
	assert.Contains(t, string(out), "--redis-allow-eviction")
	p := start(t, "--store", url, "--redis-allow-eviction")
	assert.Equal(t, "user-42", p.whose(t, p.logIn(t, "user-42")))
}

func TestNoRedis(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), "serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=off", "--store=redis://:s3cret@127.0.0.1:1")
	cmd.Env, cmd.Stderr = environment(), &stderr
	require.Error(t, cmd.Run())
	assert.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	assert.Contains(t, stderr.String(), "coatcheck: redisstore: connecting")
	assert.NotContains(t, stderr.String(), "s3cret")
}

func TestHashPasswordMistakes(t *testing.T) {
	for name, args := range map[string][]string{
		"no user": {"hash-password"}, "a password": {"hash-password", "--user=u", "s3cret"}, "unknown flag": {"hash-password", "--s3cret"},
		"no folder": {"data", "verify"}, "unknown verb": {"data", "repair", "x"},
	} {
		var stderr bytes.Buffer
		assert.Equal(t, exitUsage, run(args, nil, daemon.Signals{}, strings.NewReader(""), io.Discard, &stderr), name)
		assert.NotContains(t, stderr.String(), "s3cret")
		assert.NotEmpty(t, stderr.String())
	}
	for _, of := range [][]string{{`--groups=a b,c:d,"`}, {"--groups", `"a`, "--groups", `b"`}} {
		code, _, errs := command(t, nil, append([]string{"hash-password", "--user=u"}, of...)...)
		assert.Equal(t, exitUsage, code, of)
		assert.Contains(t, errs, "hash-password: --groups: not a list")
	}
	for _, of := range [][]string{{"--groups", "", "--groups=d"}, {"--groups=d", "--groups="}, {"--groups", "a\nb", "--groups=d"}} {
		var line bytes.Buffer
		assert.Equal(t, exitOK, run(append([]string{"hash-password", "--user=u"}, of...), nil, daemon.Signals{}, strings.NewReader("pass\n"), &line, io.Discard), of)
		assert.Regexp(t, `groups=(a,b,)?d\n$`, line.String())
	}
	code, line, errs := command(t, nil, "hash-password", "--user=u", `--groups="a,""b""",c`)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, line+errs, "the password is empty", "what the message recommends is understood")
	var stderr bytes.Buffer
	assert.Equal(t, exitFailed, run([]string{"hash-password", "--user=u"}, nil, daemon.Signals{}, strings.NewReader(strings.Repeat("x", 100_000)), io.Discard, &stderr))
	assert.Contains(t, stderr.String(), "more than 4096 bytes")
	assert.Equal(t, exitFailed, run([]string{"hash-password", "--user=u"}, nil, daemon.Signals{}, strings.NewReader("\n"), io.Discard, &stderr), "no password")
	assert.Equal(t, exitFailed, run([]string{"data", "verify", t.TempDir() + "/none"}, nil, daemon.Signals{}, nil, io.Discard, &stderr))
}
