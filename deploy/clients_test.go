package deploy_test

import (
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a client says about its request, beside what it asks for: the application hears what the proxy says, or nothing.
func (s *site) checkForwarding() {
	session := s.login("user-42")
	said := map[string]string{
		"Forwarded": "for=192.0.2.9;host=evil.example", "X-Forwarded-For": "192.0.2.9", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher",
		"X-Forwarded-Port": "4711", "X-Forwarded-Prefix": "/evil", "X-Real-IP": "192.0.2.9",
		"X-Original-URL": "/evil", "X-Original-URI": "/evil", "X-Rewrite-URL": "/evil",
	}
	for name, value := range said {
		for _, c := range []string{"-", "_", ".", "!"} {
			if c == "!" && !strings.HasPrefix(name, "X-Forwarded-") {
				continue // Caddy cannot match these
			}
			forged := strings.ReplaceAll(name, "-", c) + ": " + value
			for path, head := range map[string][]string{"/hello": {forged, session}, "/login": {forged, forged}} {
				require.Equal(s, 200, s.status("GET", path, head...), forged)
				seen := s.reached()
				require.Len(s, seen, 1)
				for got, lines := range seen[0] {
					if heard(got) == heard(name) {
						assert.NotContains(s, strings.Join(lines, ","), value, "%s on %s", forged, path)
					}
				}
				assert.Equal(s, []string{host}, seen[0]["X-Forwarded-Host"])
				assert.Equal(s, []string{"https"}, seen[0]["X-Forwarded-Proto"])
				assert.Len(s, seen[0]["X-Forwarded-For"], 1)
			}
		}
	}
}
