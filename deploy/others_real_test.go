//go:build real

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
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
			return "{\n\tadmin unix/" + dir + "/admin\n\tauto_https disable_redirects\n}\n" + config
		},
		paths: map[string]string{"/etc/caddy/tls/": "/"},
		idle:  []string{"keepalive 30s", "keepalive 1s"},
		reload: func(s *site) {
			out, err := exec.CommandContext(s.Context(), "caddy", "reload", "--force", "--adapter", "caddyfile", "--config", s.dir+"/Caddyfile", "--address", "unix/"+s.dir+"/admin").CombinedOutput()
			require.NoError(s, err, "%s", out)
		},
	},
	"haproxy": {
		sample: []string{"haproxy/haproxy.cfg", "haproxy/coatcheck.lua"},
		// A master, which reloads, and its worker.
		command: func(_, config string) []string { return []string{"haproxy", "-W", "-db", "-f", config} },
		paths:   map[string]string{"/etc/haproxy/tls/": "/", "/etc/haproxy/": "/"},
		idle:    []string{"pool-purge-delay 5s", "pool-purge-delay 1s"},
		reload:  func(s *site) { require.NoError(s, s.process.Process.Signal(syscall.SIGUSR2)) },
	},
	"envoy": {
		sample: []string{"envoy/envoy.yaml"},
		command: func(_, config string) []string {
			return []string{downloaded("envoy"), "--config-path", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"}
		},
		paths: map[string]string{"/etc/envoy/tls/": "/"},
		idle:  []string{"idle_timeout: 30s", "idle_timeout: 1s"},
	},
	"traefik": {
		sample:  []string{"traefik/traefik.yaml", "traefik/dynamic.yaml"},
		command: func(_, config string) []string { return []string{downloaded("traefik"), "--configFile=" + config} },
		paths:   map[string]string{"/etc/traefik/tls/": "/", "/etc/traefik/": "/"},
		idle:    []string{"idleConnTimeout: 30s", "idleConnTimeout: 1s"},
		reload: func(s *site) {
			path := filepath.Join(s.dir, "dynamic.yaml")
			text, err := os.ReadFile(path)
			require.NoError(s, err)
			require.NoError(s, os.WriteFile(path, []byte(strings.Replace(string(text), "maxResponseBodySize: 65536", "maxResponseBodySize: 65537", 1)), 0o600))
		},
		allCookies: true,
	},
}

// A1, B4, C1 to C3, C5, C6 and FWD-05 on the proxies beside nginx, and with large uploads.
func TestSamplesOfOthers(t *testing.T) {
	uploaded = 100 << 20
	checkSamples(t, others)
}

// What is large through nginx, too.
func TestLargeUploadThroughNginx(t *testing.T) {
	uploaded = 100 << 20
	open(t, nginx["nginx"], variant{}).checkUpload()
}
