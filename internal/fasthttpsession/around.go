package fasthttpsession

import (
	"context"
	"net/netip"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Do opens the request's session, calls the handler with c, persists the session and sets the cookie. It returns the
// handler's error, or an error of the store, and answers neither. It is for a host, such as package server, that answers
// errors and counts requests in its own way. It saves the way through the context and Fiber's chain, which takes 50 ns
// (BenchmarkMe).
func Do[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, true)
}

// DoWithoutCookie is Do, but never sets or clears the cookie.
func DoWithoutCookie[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, false)
}

func do[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error, mayWriteCookie bool) error {
	x := s.Acquire(nil)
	defer s.Release(x)
	ctx := s.Context(fctx)
	if err := s.open(ctx, fctx, x); err != nil {
		return err
	}
	handlerErr := handler(c, &x.Request)
	if err := s.Finish(ctx, x); err != nil {
		return err
	}
	if mayWriteCookie {
		s.writeCookie(&fctx.Response.Header, x)
	}
	return handlerErr
}

// open reads what the request carries and opens its session.
func (s *Sessions) open(ctx context.Context, fctx *fasthttp.RequestCtx, x *middleware.Exchange) error {
	h := &fctx.Request.Header
	for _, line := range h.PeekAll(fasthttp.HeaderCookie) {
		s.Cookie.Find(line, &x.Presented)
	}
	return s.Open(ctx, x, s.Client(fctx), h.UserAgent(), fctx.Time())
}

// writeCookie adds the Set-Cookie line that the response needs, and reports whether it needs one.
func (s *Sessions) writeCookie(h *fasthttp.ResponseHeader, x *middleware.Exchange) bool {
	var space [512]byte
	line := s.SetCookie(space[:0], x)
	if len(line) > 0 {
		h.AddBytesV(fasthttp.HeaderSetCookie, line)
	}
	return len(line) > 0
}

// Client returns the address of the client, as far as trusted proxies tell it.
func (s *Sessions) Client(fctx *fasthttp.RequestCtx) netip.Addr {
	return s.Proxies.Client(s.Peer(fctx), func() (lines []string) {
		for _, line := range fctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor) {
			lines = append(lines, string(line))
		}
		return lines
	})
}
