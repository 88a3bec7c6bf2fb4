package daemon

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
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
