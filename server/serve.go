package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/internal/conn"
)

// Serve answers the public API on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error { return s.listeners[0].Serve(ln, nil, s.log) }

// ServeTLS is Serve over TLS. Of cfg, which is copied, the certificates count; HTTP/1.1 is the only protocol that is offered
// (RFC 7301), and nothing below TLS 1.2. A handshake must be done within Config.ReadTimeout, and holds nobody else up.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	return s.listeners[0].ServeTLS(ln, cfg, s.log)
}

// ServeAdmin answers the admin API on ln until Shutdown.
func (s *Server) ServeAdmin(ln net.Listener) error { return s.listeners[1].Serve(ln, nil, s.log) }

// Shutdown turns readiness red, lets clients that are talking leave, stops accepting, waits for requests in flight and
// closes idle connections; the admin listener goes last. An error means that ctx ended first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	conn.Announce(ctx)
	return errors.Join(s.listeners[0].Drain(ctx), s.listeners[1].Drain(ctx))
}

// refusal is a whole response for a connection that is closed before it has asked for anything.
func (s *Server) refusal(p *problem) []byte {
	var ctx fasthttp.RequestCtx
	s.base.begin(&ctx)
	writeProblem(&ctx, p)
	ctx.SetConnectionClose()
	var b bytes.Buffer
	_, _ = ctx.Response.WriteTo(&b) // a buffer takes all
	return b.Bytes()
}
