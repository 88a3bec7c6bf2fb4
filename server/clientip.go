package server

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// proxies are the addresses whose X-Forwarded-For is believed.
type proxies []netip.Prefix

// client returns the address of the client: the connection's other end, unless that is a trusted proxy; then the
// right-most element of X-Forwarded-For that is not one. Elements to the left of it are the client's own claims. An element
// that is no IP address ends the search at the last proxy that vouched for something.
func (p proxies) client(ctx *fasthttp.RequestCtx) netip.Addr {
	addr := peer(ctx)
	if len(p) == 0 || !p.trust(addr) {
		return addr
	}
	lines := ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
	for i := len(lines) - 1; i >= 0; i-- {
		rest := lines[i]
		for more := true; more; {
			var element []byte
			if comma := bytes.LastIndexByte(rest, ','); comma >= 0 {
				rest, element = rest[:comma], rest[comma+1:]
			} else {
				element, more = rest, false
			}
			next, err := netip.ParseAddr(string(bytes.Trim(element, " \t")))
			if err != nil {
				return addr
			}
			addr = next.Unmap().WithZone("")
			if !p.trust(addr) {
				return addr
			}
		}
	}
	return addr
}

func (p proxies) trust(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// peer returns the address of the connection's other end, without the zone of a link-local one.
func peer(ctx *fasthttp.RequestCtx) netip.Addr {
	if v := visitorOf(ctx.Conn()); v != nil {
		return v.remote
	}
	return addrOf(ctx.RemoteAddr())
}

func addrOf(end net.Addr) netip.Addr {
	tcp, ok := end.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap()
}
