package server

import (
	"context"

	"github.com/valyala/fasthttp"
)

// TracedRequest is what Config.Trace learns of a request. It contains no secret, no personal data and no text of the client:
// no path, no header, no cookie.
type TracedRequest struct {
	// Method is the request's method, or "_OTHER" for one that neither RFC 9110 nor RFC 5789 knows.
	Method string
	// Route is the route's pattern, such as "/auth/sessions/{id}"; empty if there is none.
	Route string
	// Traceparent is the header of that name (W3C Trace Context, section 3.2) if one of Config.TrustedProxies sent it, once.
	// From any other peer it is empty, because it may ask for a trace to be recorded, which costs.
	Traceparent string
}

const headerTraceparent = "Traceparent"

// spanKey is where the context of a traced request keeps its span.
type spanKey struct{}

// span is what Config.Trace returned for a request.
type span struct {
	ctx  context.Context
	done func(status int)
}

// beginTrace calls Config.Trace for a request.
func (s *Server) beginTrace(ctx *fasthttp.RequestCtx, req countedRequest) {
	r := TracedRequest{Method: shownMethod(ctx), Route: req.requests.routes[req.route].pattern()}
	if s.proxies.Trust(peer(ctx)) {
		if lines := ctx.Request.Header.PeekAll(headerTraceparent); len(lines) == 1 {
			r.Traceparent = string(lines[0])
		}
	}
	c, done := s.trace(r)
	ctx.SetUserValue(spanKey{}, span{c, done})
}

// endTrace is called when the response is complete.
func endTrace(ctx *fasthttp.RequestCtx) {
	if of, ok := ctx.UserValue(spanKey{}).(span); ok {
		of.done(ctx.Response.StatusCode())
	}
}

// tracedContext returns the context that Config.Trace made for the request.
func tracedContext(ctx *fasthttp.RequestCtx) context.Context {
	if of, ok := ctx.UserValue(spanKey{}).(span); ok {
		return of.ctx
	}
	return context.Background()
}
