package server

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// trustedOrigin returns the request's origin if it is one of --trusted-origins, else the empty string. Two Origin headers
// count as none.
func (s *Server) trustedOrigin(ctx *fasthttp.RequestCtx) string {
	if len(s.origins) == 0 {
		return ""
	}
	lines := ctx.Request.Header.PeekAll(fasthttp.HeaderOrigin)
	if len(lines) != 1 {
		return ""
	}
	return s.origins[string(lines[0])]
}

// preflight answers a CORS preflight request of a trusted origin (Fetch standard), and reports whether the request was one. The
// request of another origin goes on to the path, which answers 405. So does one for verify, and for what proxies append to its path:
// 2xx would let them pass a request without a session.
func (s *Server) preflight(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	if string(h.Method()) != fasthttp.MethodOptions || len(h.Peek(fasthttp.HeaderAccessControlRequestMethod)) == 0 || s.trustedOrigin(ctx) == "" ||
		bytes.HasPrefix(ctx.URI().PathOriginal(), verifyPath) {
		return false
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	r := &ctx.Response.Header
	r.Set(fasthttp.HeaderAccessControlAllowMethods, "GET, HEAD, POST, DELETE")
	// All headers that it asks for are allowed: their values are checked where they are read, and tracing libraries invent their
	// own.
	if asked := h.Peek(fasthttp.HeaderAccessControlRequestHeaders); len(asked) > 0 {
		r.SetBytesV(fasthttp.HeaderAccessControlAllowHeaders, asked)
	}
	r.Set(fasthttp.HeaderAccessControlMaxAge, "600")
	return true
}

// cors lets trusted origins read the application's answers, with the user's cookies. Other origins get no CORS headers.
func (s *Server) cors(app fasthttp.RequestHandler) fasthttp.RequestHandler {
	if len(s.origins) == 0 {
		return app
	}
	return func(ctx *fasthttp.RequestCtx) {
		if !s.preflight(ctx) {
			app(ctx)
		}
		s.allowOrigin(ctx)
	}
}

// allowOrigin lets the page that sent the request read the answer, if its origin is a trusted one.
func (s *Server) allowOrigin(ctx *fasthttp.RequestCtx) {
	if origin := s.trustedOrigin(ctx); origin != "" {
		h := &ctx.Response.Header
		h.Set(fasthttp.HeaderAccessControlAllowOrigin, origin)
		h.Set(fasthttp.HeaderAccessControlAllowCredentials, "true")
		h.Set(fasthttp.HeaderAccessControlExposeHeaders, fasthttp.HeaderRetryAfter)
	}
}
