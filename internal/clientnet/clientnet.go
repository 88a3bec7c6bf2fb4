// Package clientnet says which addresses count as one client, for every limit that is one of a client.
package clientnet

import "net/netip"

// Of returns the address that stands for the client at addr: an IPv4 address is a client, and so is the /64 of an IPv6 address,
// the smallest network that one customer gets. An address that is not valid is returned as it is.
func Of(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	network, _ := addr.Prefix(64) // fails only for an address that is not valid
	return network.Addr()
}
