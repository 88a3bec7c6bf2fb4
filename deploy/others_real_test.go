//go:build real

package deploy_test

import "testing"

var others = map[string]proxied{
	"caddy": {
		sample: []string{"caddy/Caddyfile"},
		command: func(_, config string) []string {
			return []string{"caddy", "run", "--adapter", "caddyfile", "--config", config}
		},
		wrap: func(_, config string) string {
			return "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + config
		},
		paths: map[string]string{"/etc/caddy/tls/": "/"},
	},
	"haproxy": {
		sample:  []string{"haproxy/haproxy.cfg", "haproxy/coatcheck.lua"},
		command: func(_, config string) []string { return []string{"haproxy", "-db", "-f", config} },
		paths:   map[string]string{"/etc/haproxy/tls/": "/", "/etc/haproxy/": "/"},
	},
}

// FWD-05 on the proxies beside nginx.
func TestSamplesOfOthers(t *testing.T) { checkSamples(t, others) }
