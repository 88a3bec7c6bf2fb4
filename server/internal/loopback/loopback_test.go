package loopback_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server/internal/loopback"
)

// localhost is where the resolver says; a password in clear text goes to loopback only.
func TestOnly(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.1.2.3:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"10.0.0.1:80": false, "[2001:db8::1]:80": false, "0.0.0.0:80": false, "x": false,
	} {
		assert.Equal(t, want, loopback.Only("tcp", address, nil) == nil, address)
	}
}

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example": false, "127.0.0.1.example": false, "10.0.0.1": false, "0.0.0.0": false, "2001:db8::1": false,
	} {
		assert.Equal(t, want, loopback.Host(host), host)
	}
}
