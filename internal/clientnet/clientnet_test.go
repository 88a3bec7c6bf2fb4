package clientnet_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/internal/clientnet"
)

func TestOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":           "192.0.2.7",
		"::ffff:192.0.2.7":    "192.0.2.7",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::",
		"2001:db8:1:2::":      "2001:db8:1:2::",
		"fe80::1%eth0":        "fe80::",
		"2001:db8:1:3:ffff::": "2001:db8:1:3::",
	} {
		assert.Equal(t, want, clientnet.Of(netip.MustParseAddr(addr)).String(), addr)
	}
	assert.Equal(t, netip.Addr{}, clientnet.Of(netip.Addr{}))
}
