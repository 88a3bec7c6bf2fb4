package daemon

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
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

// Scripts read the addresses, the public one first. The last line tells people which is which.
func TestAddressesAreAnnounced(t *testing.T) {
	public, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer public.Close() //nolint:errcheck // of a test
	admin, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer admin.Close() //nolint:errcheck // of a test
	url, adminURL := "http://"+public.Addr().String(), "http://"+admin.Addr().String()
	said := func(admin net.Listener) string {
		var stdout strings.Builder
		announce(&config.Config{Login: "users"}, &credentials.Credentials{}, public, admin, slog.New(slog.DiscardHandler), &stdout)
		return stdout.String()
	}
	assert.Equal(t, "coatcheck listens on "+url+"\ncoatcheck listens on "+adminURL+"\nits health and admin API on "+adminURL+"\n", said(admin))
	assert.Equal(t, "coatcheck listens on "+url+"\n", said(nil))
}
