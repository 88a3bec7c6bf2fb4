//go:build real

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
)

// Login, me, refresh and logout as other people's clients do them, against the built program. curl's turn is TestReadme; the
// browser's is package server/browsertest.
func TestClients(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, tt := range []struct {
		client, script, prints string
	}{
		{"node", "testdata/recipe.mjs", "login, me\nrefresh\nparallel refreshes\nlogout\n"},
		{"python3", "testdata/recipe.py", "login, me\nrefresh\nlogout\n"},
	} {
		t.Run(tt.client, func(t *testing.T) {
			program, err := exec.LookPath(tt.client)
			require.NoError(t, err, "make tools installs it")
			out, err := exec.CommandContext(t.Context(), program, tt.script, p.url).CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Equal(t, tt.prints, string(out))
		})
	}
}

// walked is what every client prints of the same eight requests: what was answered, and what its jar holds then. The 401 is read
// to its code, which stricter clients refuse to do without a WWW-Authenticate.
const walked = `GET /auth/me: 200 nobody, jar empty
GET /auth/userinfo: 401 unauthenticated, jar empty
POST /auth/login: 200 Jürgen 🧥, jar new
GET /auth/me: 200 Jürgen 🧥, jar the same
POST /auth/refresh: 200 Jürgen 🧥, jar new
GET /auth/me: 200 Jürgen 🧥, jar the same
POST /auth/logout: 204 nobody, jar empty
GET /auth/userinfo: 401 unauthenticated, jar empty
`

// clientTools is where scripts/install-clients puts what is not Debian's.
func clientTools(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	tools := filepath.Join(cache, "coatcheck", "tools", "clients")
	require.DirExists(t, tools, "make clients installs it")
	return tools
}

// The walk with HTTP clients that keep cookies, each with its own jar: over http with the cookie of --dev, and over https with the
// one of production.
func TestClientsWalk(t *testing.T) {
	t.Parallel()
	tools := clientTools(t)
	python := []string{filepath.Join(tools, "pypi", "bin", "python"), "testdata/clients/clients.py"}
	node := []string{"node", "testdata/clients/clients.mjs"}
	java := []string{"java", "-cp", filepath.Join(tools, "maven", "*"), "testdata/clients/Clients.java"}
	php := []string{"php", "testdata/clients/clients.php"}
	rust := []string{filepath.Join(tools, "crates", "reqwest-client")}
	guzzle := []string{"php", "testdata/clients/guzzle.php"}

	ca := certtest.New(t)
	files := certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(time.Hour))
	files.Write(t, cert, key)
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(caFile, ca.PEM(), 0o600))
	plain := start(t)
	secure := start(t, append(files.Flags(), "--cookie-name=__Host-coatcheck", "--cookie-secure=true")...)

	for _, c := range []struct {
		name    string
		command []string
	}{
		{"urllib", python},
		{"requests", python},
		{"httpx", python},
		{"aiohttp", python},
		{"undici", node},
		{"axios", node},
		{"http", node},
		{"curl", php},
		{"guzzle", guzzle},
		{"reqwest", rust},
		{"java.net.http", java},
		{"HttpURLConnection", java},
		{"okhttp", java},
		{"apache4", java},
		{"apache4-default", java},
		{"apache5", java},
		{"jetty", java},
	} {
		for _, server := range [][]string{{plain.url}, {secure.url, caFile}} {
			t.Run(fmt.Sprint(c.name, len(server)), func(t *testing.T) {
				args := slices.Concat(c.command[1:], []string{c.name}, server)
				cmd := exec.CommandContext(t.Context(), c.command[0], args...)
				cmd.Env = append(os.Environ(), "NODE_CLIENTS="+filepath.Join(tools, "npm"))
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				require.NoError(t, err, "%s%s", out, &stderr)
				assert.Equal(t, walked, string(out))
			})
		}
	}
	t.Run("net/http", func(t *testing.T) {
		assert.Equal(t, walked, goWalk(t, plain.url, nil))
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca.PEM())
		assert.Equal(t, walked, goWalk(t, secure.url, pool))
	})
}

func goWalk(t *testing.T, base string, roots *x509.CertPool) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	origin, err := url.Parse(base)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Jar: jar, Transport: transport}
	var lines bytes.Buffer
	before := ""
	for _, step := range [][3]string{
		{"GET", "/auth/me"},
		{"GET", "/auth/userinfo"},
		{"POST", "/auth/login", `{"user_id":"Jürgen 🧥"}`},
		{"GET", "/auth/me"},
		{"POST", "/auth/refresh"},
		{"GET", "/auth/me"},
		{"POST", "/auth/logout"},
		{"GET", "/auth/userinfo"},
	} {
		status, said := goCall(t.Context(), t, client, step[0], base+step[1], step[2])
		now, kept := "", "new"
		for _, c := range jar.Cookies(origin) {
			now += c.String() + ";"
		}
		switch now {
		case "":
			kept = "empty"
		case before:
			kept = "the same"
		}
		fmt.Fprintf(&lines, "%s %s: %d %s, jar %s\n", step[0], step[1], status, said, kept)
		before = now
	}
	return lines.String()
}

// goCall returns the status, and the code or the user of the body.
func goCall(ctx context.Context, t *testing.T, client *http.Client, method, address, body string) (status int, said string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	var answer struct {
		Code string
		User *string `json:"user_id"`
	}
	if len(text) > 0 {
		require.NoError(t, json.Unmarshal(text, &answer), "%s", text)
	}
	switch {
	case answer.Code != "":
		return resp.StatusCode, answer.Code
	case answer.User != nil:
		return resp.StatusCode, *answer.User
	}
	return resp.StatusCode, "nobody"
}
