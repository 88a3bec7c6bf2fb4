// Package loopback keeps what is sent in clear text on this machine.
package loopback

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
)

// ErrNotLoopback means that the host of a URL in clear text has an address that is not loopback.
var ErrNotLoopback = errors.New("the host is not on loopback, and the URL is http")

// Host reports whether the host of a URL, without its port, is localhost or a loopback address.
func Host(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// Only is a net.Dialer's Control. It refuses to connect to an address that is not loopback, even if a resolver gives that for
// localhost.
func Only(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return ErrNotLoopback
	}
	return nil
}
