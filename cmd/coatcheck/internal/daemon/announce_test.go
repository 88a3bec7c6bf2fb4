package daemon

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

func TestBaseURL(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"http://127.0.0.1:1": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1},
		"http://[::1]:2":     &net.TCPAddr{IP: net.IPv6loopback, Port: 2},
		"http://localhost:3": &net.TCPAddr{IP: net.IPv6unspecified, Port: 3},
		"http://localhost:4": &net.TCPAddr{IP: net.IPv4zero, Port: 4},
	} {
		assert.Equal(t, want, baseURL(addr))
	}
}

// Browsers know no ports: two --dev servers on one host must have two cookies, and the one that does not listen
// on the default port says so.
func TestSharedCookie(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		port int
		said bool
	}{
		"the usual port": {port: 3000},
		"another":        {port: 3100, said: true},
		"another name":   {args: []string{"--cookie-name=other"}, port: 3100},
	} {
		c, err := config.Load(append([]string{"--dev"}, tt.args...), nil)
		require.NoError(t, err)
		text := sharedCookie(c, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tt.port})
		assert.Equal(t, tt.said, text != "", name)
		if tt.said {
			assert.Contains(t, text, "--cookie-name")
			assert.Contains(t, text, "the cookie coatcheck ")
		}
	}
}
