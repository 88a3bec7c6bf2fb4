package middleware

import (
	"net/netip"
	"strings"
)

// Proxies are the addresses of proxies whose X-Forwarded-For is believed.
type Proxies []netip.Prefix

// Client returns the address of the client: peer, the remote address of the connection, unless that is a trusted proxy; then
// the right-most element of the X-Forwarded-For lines that is not a trusted proxy. Elements to the left of it are the
// client's own claims. An element that is no IP address ends the search; the result is then the last trusted proxy found.
func (p Proxies) Client(peer netip.Addr, forwarded Lines) netip.Addr {
	if len(p) == 0 || !p.Trust(peer) {
		return peer
	}
	addr := peer
	lines := forwarded()
	for i := len(lines) - 1; i >= 0; i-- {
		elements := strings.Split(lines[i], ",")
		for j := len(elements) - 1; j >= 0; j-- {
			next, ok := parseAddr(strings.Trim(elements[j], " \t"))
			if !ok {
				return addr
			}
			addr = next
			if !p.Trust(addr) {
				return addr
			}
		}
	}
	return addr
}

// parseAddr reads an address as proxies write it: an IPv6 address may stand in brackets.
func parseAddr(text string) (netip.Addr, bool) {
	inside, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		inside, bracketed = strings.CutSuffix(inside, "]")
	}
	if bracketed {
		text = inside
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil && (!bracketed || addr.Is6())
}

// Lines returns the lines of one header. It is called only where they are needed.
type Lines func() []string

// Trust reports whether the address is one of the proxies.
func (p Proxies) Trust(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
