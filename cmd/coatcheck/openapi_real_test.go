//go:build real

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inFolder runs a program and returns its standard output.
func inFolder(t *testing.T, dir string, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s%s", cmd, out, &stderr)
	return string(out)
}

func copyTo(t *testing.T, dir, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600))
}

// The document that a server shows makes clients that compile, whose names are those of the recipe, and that go through it.
func TestClientsGenerated(t *testing.T) {
	t.Parallel()
	tools := clientTools(t)
	p := start(t)
	const recipe = "login, me\nrefresh\nlogout\n"
	t.Run("openapi-python-client", func(t *testing.T) {
		dir := t.TempDir()
		bin := filepath.Join(tools, "pypi", "bin")
		copyTo(t, dir, "testdata/clients/generated.py")
		inFolder(t, dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, // it formats with ruff, which is beside it
			filepath.Join(bin, "openapi-python-client"), "generate", "--url", p.url+"/openapi.yaml", "--meta", "none", "--output-path", "coatcheck_client")
		inFolder(t, dir, nil, filepath.Join(bin, "python"), "-m", "compileall", "-q", "coatcheck_client")
		assert.Equal(t, recipe, inFolder(t, dir, nil, filepath.Join(bin, "python"), "generated.py", p.url))
	})
	t.Run("openapi-typescript", func(t *testing.T) {
		dir := t.TempDir()
		modules := filepath.Join(tools, "npm", "node_modules")
		require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`), 0o600))
		copyTo(t, dir, "testdata/clients/generated.ts")
		inFolder(t, dir, nil, filepath.Join(modules, ".bin", "openapi-typescript"), p.url+"/openapi.yaml", "-o", "api.ts")
		inFolder(t, dir, nil, filepath.Join(modules, ".bin", "tsc"), "--strict", "--target", "es2022", "--module", "nodenext",
			"--lib", "es2023,dom,dom.iterable", "generated.ts", "api.ts")
		assert.Equal(t, recipe, inFolder(t, dir, nil, "node", "generated.js", p.url))
	})
}

// Schemathesis, which makes requests out of the document and holds the answers against it, finds nothing on either listener, without
// and with a session.
func TestSchemathesis(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(clientTools(t), "pypi", "bin", "schemathesis")
	keys := filepath.Join(t.TempDir(), "keys")
	const key = "key-of-a-back-end-0123456789abcdef0123456789abcdef"
	require.NoError(t, os.WriteFile(keys, []byte(key+"\n"), 0o600))
	p := start(t, "--reauth-within=0s")
	trusted := start(t, "--login=trusted", "--login-key-file="+keys)

	// The route that watches a session answers late. The routes of another login mode, and of devices without --dbsc, are not there for any
	// method.
	public := []string{"--url=" + p.url, "--exclude-tag=admin", "--exclude-path=/auth/watch"}
	session := "[auth.openapi.session]\napi_key = \"" + ticketOf(t, p.url) + "\"\n"
	for _, tt := range []struct {
		name, config string
		args         []string
	}{
		// Not POST /auth/login: the members that it takes differ by the mode.
		{"anonymous", "", append([]string{"--exclude-path-regex=^/auth/(oidc/.*|dbsc/register)$", "--exclude-operation-id=login"}, public...)},
		// Nothing that ends the session, else the rest is anonymous.
		{"with a session", session, append([]string{"--exclude-path-regex=^/auth/(oidc/.*|dbsc/register|login|logout|refresh)$", "--exclude-method=DELETE"}, public...)},
		// The mode that knows all members. It has no page at the same path; and how large the claims may be in all is no matter of a schema.
		{
			"logging in", "[auth.openapi.login_key]\nbearer = \"" + key + "\"\n",
			[]string{"--url=" + trusted.url, "--include-operation-id=login", "--exclude-checks=allow_header_conformance,positive_data_acceptance"},
		},
		// A profile takes as long as it is asked to; and a cursor, an age or an address that is none is refused.
		{"admin", "", []string{"--url=" + p.admin, "--include-tag=admin", "--exclude-path-regex=^/debug/pprof/", "--exclude-checks=positive_data_acceptance"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "schemathesis.toml"), []byte(tt.config), 0o600))
			args := append([]string{
				"run", p.url + "/openapi.yaml", "--max-time=15", "--phases=examples,coverage,fuzzing", "--no-color", "--seed=24",
				"--generation-database=none",
			}, tt.args...)
			out := inFolder(t, dir, nil, bin, args...)
			assert.NotContains(t, out, " 0 selected")
			if tt.config == session {
				assert.NotContains(t, out, "Authentication failed", "the session was not sent, or has ended")
			}
		})
	}
}

// ticketOf logs in and returns the ticket.
func ticketOf(t *testing.T, base string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/auth/login", strings.NewReader(`{"user_id":"user-42"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Cookies()[0].Value
}
