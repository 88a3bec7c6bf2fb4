//go:build real

package deploy_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// downloaded is the path of a program that scripts/install-tools keeps in the user's cache.
func downloaded(name string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return name
	}
	return filepath.Join(cache, "coatcheck", "tools", name)
}

var others = map[string]proxied{
	"caddy": {
		sample: []string{"caddy/Caddyfile"},
		command: func(_, config string) []string {
			return []string{"caddy", "run", "--adapter", "caddyfile", "--config", config}
		},
		wrap: func(dir, config string) string {
			return strings.Replace(config, "\n{\n", "\n{\n\tadmin unix/"+dir+"/admin\n\tauto_https disable_redirects\n", 1)
		},
		paths:  map[string]string{"/etc/caddy/tls/": "/"},
		idle:   []string{"keepalive 30s", "keepalive 1s"},
		header: []string{"read_header 10s", "read_header 1s"},
		limits: []string{"dial_timeout 1s", "dial_timeout 5s", "response_header_timeout 2s", "response_header_timeout 5s"},
		reload: func(s *site) {
			out, err := exec.CommandContext(s.Context(), "caddy", "reload", "--force", "--adapter", "caddyfile", "--config", s.dir+"/Caddyfile",
				"--address", "unix/"+s.dir+"/admin").CombinedOutput()
			require.NoError(s, err, "%s", out)
		},
		socket: true,
	},
	"haproxy": {
		sample: []string{"haproxy/haproxy.cfg", "haproxy/coatcheck.lua"},
		// A master, which reloads, and its worker.
		command: func(_, config string) []string { return []string{"haproxy", "-W", "-db", "-f", config} },
		paths:   map[string]string{"/etc/haproxy/tls/": "/", "/etc/haproxy/": "/"},
		idle:    []string{"pool-purge-delay 5s", "pool-purge-delay 1s"},
		header:  []string{"timeout http-request 10s", "timeout http-request 1s"},
		limits:  []string{"local timeout = 600", "local timeout = 1500", "timeout check 1s", "timeout check 5s", "timeout connect 1s", "timeout connect 5s", "wait-for-body time 1s", "wait-for-body time 20s"},
		reload:  func(s *site) { require.NoError(s, s.process.Process.Signal(syscall.SIGUSR2)) },
		socket:  true,
	},
	"envoy": {
		sample: []string{"envoy/envoy.yaml"},
		command: func(_, config string) []string {
			return []string{downloaded("envoy"), "--config-path", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"}
		},
		paths:  map[string]string{"/etc/envoy/tls/": "/"},
		idle:   []string{"idle_timeout: 30s", "idle_timeout: 1s"},
		header: []string{"request_headers_timeout: 10s", "request_headers_timeout: 1s"},
		limits: []string{"cluster: coatcheck, timeout: 2s", "cluster: coatcheck, timeout: 5s", "connect_timeout: 1s", "connect_timeout: 5s"},
	},
	"traefik": {
		sample:  []string{"traefik/traefik.yaml", "traefik/dynamic.yaml"},
		command: func(_, config string) []string { return []string{downloaded("traefik"), "--configFile=" + config} },
		paths:   map[string]string{"/etc/traefik/tls/": "/", "/etc/traefik/": "/"},
		idle:    []string{"idleConnTimeout: 30s", "idleConnTimeout: 1s"},
		limits:  []string{"dialTimeout: 1s", "dialTimeout: 5s", "responseHeaderTimeout: 2s", "responseHeaderTimeout: 5s"},
		reload: func(s *site) {
			path := filepath.Join(s.dir, "dynamic.yaml")
			text, err := os.ReadFile(path)
			require.NoError(s, err)
			// In one step, as docs/proxies.md has it: of a file that is being written Traefik reads the part that is there.
			require.NoError(s, os.WriteFile(path+".new", []byte(strings.Replace(string(text), "maxResponseBodySize: 65536", "maxResponseBodySize: 65537", 1)), 0o600))
			require.NoError(s, os.Rename(path+".new", path))
		},
		allCookies: true,
	},
}

// A1, B4, C1 to C3, C5, C6 and FWD-05 on the proxies beside nginx, and with large uploads.
func TestSamplesOfOthers(t *testing.T) {
	uploaded = 100 << 20
	checkSamples(t, others)
}

// pages is an application on Express, which says by a header which of its pages ran.
const pages = `
const express = require(process.argv[2] + "/node_modules/express"), app = express();
const page = name => (req, res) => res.set("X-Page", name).send(name);
app.all("/login", page("login"));
app.all("/admin/users/:id", page("admin"));
app.use("/admin", page("admin"));
app.use(page("other"));
app.listen(Number(process.argv[3]), "127.0.0.1");
`

// A1 before an application that reads paths in another way again: Express ignores case, and decodes what stands between slashes.
func TestPathsBeforeExpress(t *testing.T) {
	samples := maps.Clone(others)
	maps.Copy(samples, nginx)
	for name, how := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := filepath.Join(t.TempDir(), "pages.js")
			require.NoError(t, os.WriteFile(script, []byte(pages), 0o600))
			port := strconv.Itoa(testport.Free(t))
			start(t, port, "node", script, downloaded("express"), port)
			s := open(t, how, variant{app: "127.0.0.1:" + port})
			for _, target := range spellings {
				for _, method := range []string{"GET", "DELETE"} {
					resp, err := s.try(method, target, "X: y") //nolint:bodyclose // read and closed by try
					if err == nil {
						assert.Contains(t, []string{"", "login"}, resp.Header.Get("X-Page"), "%s %q without a session", method, target)
					}
				}
			}
			resp := s.ask("GET", "/admin/users/1", s.login("user-42")) //nolint:bodyclose // read and closed by ask
			assert.Equal(t, "admin", resp.Header.Get("X-Page"), "with a session")
		})
	}
}

// What is large through nginx, too.
func TestLargeUploadThroughNginx(t *testing.T) {
	uploaded = 100 << 20
	open(t, nginx["nginx"], variant{}).checkUpload()
}

// A refused request with a body gets its answer over HTTP/2 every time, also where the client does not forgive a stream that HAProxy
// cancels behind it. curl does not.
func TestRefusalsOverHTTP2ThroughHAProxy(t *testing.T) {
	s := open(t, others["haproxy"], variant{})
	for range 60 {
		out, err := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--insecure", "--http2", "--connect-to", host+":443:"+s.proxy,
			"--data", "a=1", "--output", os.DevNull, "--write-out", `%{http_version} %{http_code}\n`, "https://"+host+"/form").CombinedOutput()
		assert.NoError(t, err)
		assert.Equal(t, "2 401\n", string(out))
	}
	// Nor does a refusal wait for a body.
	for _, head := range [][]string{{"Content-Length: 5000"}, {"Content-Length: 100000000"}, {"Content-Length: 5000", "Expect: 100-continue"}, {"Transfer-Encoding: chunked"}} {
		assert.Equal(t, 401, s.ask("POST", "/form", head...).StatusCode, head) //nolint:bodyclose // read and closed by ask
	}
	assert.Empty(t, s.reached())
}
