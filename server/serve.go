package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/internal/conn"
)

// Serve answers the public API on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error { return s.listeners[0].Serve(ln) }

// ServeTLS is Serve over TLS. It copies cfg for its certificates: HTTP/1.1 is the only protocol that is offered (RFC 7301),
// and TLS 1.2 the lowest version. A handshake must end within Config.ReadTimeout and with 8 KiB from the
// client, its certificates included if cfg asks for them, and holds up no other connection. Plain http is answered with 400.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	return s.listeners[0].ServeTLS(ln, cfg)
}

// ServeAdmin answers the admin API on ln until Shutdown.
func (s *Server) ServeAdmin(ln net.Listener) error { return s.listeners[1].Serve(ln) }

// Shutdown makes readiness fail, answers requests with "Connection: close" for a moment, stops accepting, waits for requests
// in flight and closes idle connections; the admin listener is the last to stop. An error means that ctx ended first.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.draining.CompareAndSwap(false, true) {
		close(s.stopping)
	}
	return conn.Drain(ctx, s.listeners[0], s.listeners[1])
}

// refusal returns the bytes of a whole response, for a connection that is closed before a request was read.
func (s *Server) refusal(p *problem) []byte {
	var ctx fasthttp.RequestCtx
	s.base.begin(&ctx)
	writeProblem(&ctx, p)
	ctx.SetConnectionClose()
	var b bytes.Buffer
	_, _ = ctx.Response.WriteTo(&b) // a bytes.Buffer returns no error
	return b.Bytes()
}
