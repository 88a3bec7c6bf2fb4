package server

import (
	"net/netip"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/internal/conn"
)

// client returns the address of the client, by what trusted proxies say. Where the session is open, Request.Client has it.
func (s *Server) client(ctx *fasthttp.RequestCtx) netip.Addr { return s.sessions.Client(ctx) }

// peer returns the address of the connection's other end, without the zone of a link-local one.
func peer(ctx *fasthttp.RequestCtx) netip.Addr { return conn.RemoteAddr(ctx) }
