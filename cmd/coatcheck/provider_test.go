package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// atProvider is a server that logs in at a provider, reached at its external URL.
func atProvider(t *testing.T, p *oidctest.Provider, args ...string) (*process, string, string) {
	t.Helper()
	dir := t.TempDir()
	secret, keys := filepath.Join(dir, "secret"), filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(secret, []byte(oidctest.Secret+"\n"), 0o600))
	require.NoError(t, os.WriteFile(keys, []byte(strings.Repeat("k", 32)+"\n"), 0o600))
	address := testport.Address(t)
	base := []string{
		"--login=oidc", "--oidc-issuer=" + p.URL, "--oidc-client-id=" + oidctest.ClientID, "--oidc-client-secret-file=" + secret, "--oidc-external-url=http://" + address,
		"--oidc-state-key-file=" + keys, "--listen=" + address, "--cookie-name=sid", "--cookie-secure=false",
	}
	return start(t, append(base, args...)...), "http://" + address, secret
}

// person is the browser of one user.
func person(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

func fetch(t *testing.T, c *http.Client, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

func TestProviderMode(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	server, url, secret := atProvider(t, p, unhurried...)
	ann := person(t)
	status, text := fetch(t, ann, url+"/auth/oidc/login?rd=/auth/userinfo")
	require.Equal(t, http.StatusOK, status, text)
	assert.Equal(t, `{"sub":"sub-ann","name":"Ann","email":"ann@example.com","groups":["staff","ops"]}`, text)

	require.NoError(t, os.WriteFile(secret, []byte("another\n"), 0o600))
	server.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool {
		status, _ := fetch(t, person(t), url+"/auth/oidc/login")
		return status == http.StatusBadRequest // the provider takes the code with the right secret only
	}, patience, 20*time.Millisecond)
	status, _ = fetch(t, ann, url+"/auth/userinfo")
	assert.Equal(t, http.StatusOK, status, "sessions go on")
	server.signal(t, syscall.SIGTERM)
	assert.Zero(t, server.wait(t))
	for _, canary := range []string{oidctest.Secret, strings.Repeat("k", 32)} {
		assert.NotContains(t, server.stdout.String()+server.stderr.String(), canary)
	}
}

// Any node finishes a login, and the provider's word on any node ends the sessions of all.
func TestProviderOnTwoNodes(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := oidctest.New(t)
	_, first, _ := atProvider(t, p, "--store="+redis.URL())
	_, second, _ := atProvider(t, p, "--store="+redis.URL(), "--oidc-external-url="+first) // a balancer sends the callback to the first
	login := func(sid string) *http.Client {
		p.Edit(func(b *oidctest.Behaviour) { b.Claims = map[string]any{"sid": sid} })
		c := person(t)
		status, text := fetch(t, c, second+"/auth/oidc/login?rd=/auth/me")
		require.Equal(t, http.StatusOK, status, text)
		return c
	}
	one, two := login("s1"), login("s2")
	user := func(c *http.Client, base string) string {
		_, text := fetch(t, c, base+"/auth/me")
		return text
	}
	require.Contains(t, user(one, first), "sub-ann")
	end := func(base string, claims map[string]any) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/auth/oidc/backchannel-logout",
			strings.NewReader(url.Values{"logout_token": {p.LogoutToken(claims)}}.Encode()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := person(t).Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, end(second, map[string]any{"sid": "s1"}))
	require.Eventually(t, func() bool { return !strings.Contains(user(one, first), "sub-ann") }, patience, 10*time.Millisecond)
	assert.Contains(t, user(two, first), "sub-ann")
	require.Equal(t, http.StatusOK, end(first, map[string]any{"sub": "sub-ann"}))
	require.Eventually(t, func() bool { return !strings.Contains(user(two, second), "sub-ann") }, patience, 10*time.Millisecond)
}

// A state key is replaced at HUP: from then on the new one encrypts, and a login that began with the old one is finished.
func TestStateKeyIsReplaced(t *testing.T) {
	t.Parallel()
	p := oidctest.New(t)
	server, external, secret := atProvider(t, p)
	file := filepath.Join(filepath.Dir(secret), "keys")
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	begin := func() (*http.Client, string) {
		c := person(t)
		c.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
			if req.URL.Path == oidc.CallbackPath {
				return http.ErrUseLastResponse
			}
			return nil
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, external+"/auth/oidc/login?rd=/auth/me", http.NoBody)
		require.NoError(t, err)
		resp, err := c.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return c, resp.Header.Get("Location")
	}
	ann, callback := begin()

	after := strings.Repeat("n", 32) + "\n"
	require.NoError(t, os.WriteFile(file, append([]byte(after), before...), 0o600))
	server.signal(t, syscall.SIGHUP)
	alone := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(alone, []byte(after), 0o600))
	keys, err := oidc.LoadStateKeys(alone)
	require.NoError(t, err)
	node, err := oidc.New(oidc.Options{Issuer: p.URL, ClientID: oidctest.ClientID, ExternalURL: external, StateKeys: keys})
	require.NoError(t, err)
	t.Cleanup(node.Close)
	require.Eventually(t, func() bool {
		c, callback := begin()
		u, err := url.Parse(callback)
		require.NoError(t, err)
		var carried []oidc.Cookie
		for _, one := range c.Jar.Cookies(u) {
			carried = append(carried, oidc.Cookie{Name: one.Name, Value: one.Value})
		}
		_, err = node.Answer(u.Query(), carried)
		return err == nil
	}, patience, 20*time.Millisecond, "the new key encrypts")
	status, text := fetch(t, ann, callback)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, text, "sub-ann", "the answer of where the login leads to")
}

// Whatever is wrong with the provider's settings and files is listed at once, with where the value stands.
func TestMistakesOfAProvider(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	code, stdout, stderr := command(t, nil, "serve", "--login=oidc", "--listen=127.0.0.1:0", "--admin-listen=off",
		"--oidc-issuer=https://id.example/?tenant=a", "--oidc-client-id=coatcheck", "--oidc-external-url=https://app.example\x7f",
		"--oidc-client-secret-file="+filepath.Join(dir, "missing"), "--oidc-state-key-file="+file("key", "too short\n"),
		"--oidc-ca-file="+file("ca", "no certificate"))
	assert.Equal(t, exitUsage, code)
	assert.Empty(t, stdout)
	for _, line := range []string{
		`--oidc-client-secret-file "[^"]*": client secret: .*missing: no such file`,
		`--oidc-state-key-file "[^"]*": .*key:1: a key of 9 bytes`, `--oidc-ca-file "[^"]*": .*ca: holds no certificate in PEM`,
		`--oidc-issuer "[^"]*": must have no query`, `--oidc-external-url "[^"]*": must be a URL`,
	} {
		assert.Regexp(t, line, stderr)
	}
	code, _, stderr = command(t, nil, "serve", "--login=oidc", "--listen=127.0.0.1:0", "--admin-listen=off",
		"--oidc-issuer=https://id.example", "--oidc-client-id=coatcheck", "--oidc-external-url=https://app.example",
		"--oidc-client-secret-file="+file("secret", "a secret\n"), "--oidc-ca-file="+filepath.Join(dir, "nowhere"))
	assert.Equal(t, exitUsage, code)
	assert.Regexp(t, `--oidc-ca-file "[^"]*": authorities: .*nowhere: no such file`, stderr)
	assert.NotContains(t, stderr, "a secret")
}
