package server

import (
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// client returns the address of the client, by what trusted proxies say. Where the session is open, Request.Client has it.
func (s *Server) client(ctx *fasthttp.RequestCtx) netip.Addr { return s.sessions.Client(ctx) }

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
