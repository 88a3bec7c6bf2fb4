package fibersession

import (
	"context"
	"net/netip"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Around puts sessions around the handlers of a host, such as package server, that takes the request itself, answers errors
// and counts what happens in its own way. Applications mount what New returns. The way through the context and Fiber's chain,
// which it saves, is 50 ns long (BenchmarkMe).
type Around struct {
	m    *middleware.Middleware
	host Host
}

// Host is what a host does in its own way.
type Host struct {
	// Observer learns what happens to sessions.
	Observer middleware.Observer
	// Context returns the context of what a request asks of the store.
	Context func(*fasthttp.RequestCtx) context.Context
	// Peer returns the address of the connection's other end.
	Peer func(*fasthttp.RequestCtx) netip.Addr
}

// NewAround returns sessions for a host, or all mistakes of the configuration. The policy is the manager's: cfg.Policy must be zero.
func NewAround(manager *coatcheck.Manager, cfg Config, host Host) (*Around, error) {
	m, err := middleware.New(manager, cfg, host.Observer)
	if err != nil {
		return nil, err
	}
	return &Around{m: m, host: host}, nil
}

// Do opens the request's session, calls the handler, persists the session and sets the cookie. It returns the handler's error,
// or that of the store, of which no answer has been made.
func (a *Around) Do(c *fiber.Ctx, handler func(*fiber.Ctx, *coatcheck.Request) error) error {
	return a.do(c, handler, true)
}

// DoWithoutCookie is Do, but never sets or clears the cookie.
func (a *Around) DoWithoutCookie(c *fiber.Ctx, handler func(*fiber.Ctx, *coatcheck.Request) error) error {
	return a.do(c, handler, false)
}

func (a *Around) do(c *fiber.Ctx, handler func(*fiber.Ctx, *coatcheck.Request) error, mayWriteCookie bool) error {
	x := a.m.Acquire(nil)
	defer a.m.Release(x)
	ctx := a.host.Context(c.Context())
	if err := a.open(ctx, c.Context(), x); err != nil {
		return err
	}
	handlerErr := handler(c, &x.Request)
	if err := a.m.Finish(ctx, x); err != nil {
		return err
	}
	if mayWriteCookie {
		a.setCookie(&c.Response().Header, x)
	}
	return handlerErr
}

// Client returns the address of the client, by what trusted proxies say.
func (a *Around) Client(fctx *fasthttp.RequestCtx) netip.Addr {
	return a.m.Proxies.Client(a.host.Peer(fctx), func() (lines []string) {
		for _, line := range fctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor) {
			lines = append(lines, string(line))
		}
		return lines
	})
}

// open reads what the request carries and opens its session.
func (a *Around) open(ctx context.Context, fctx *fasthttp.RequestCtx, x *middleware.Exchange) error {
	h := &fctx.Request.Header
	for _, line := range h.PeekAll(fasthttp.HeaderCookie) {
		a.m.Cookie.Find(line, &x.Presented)
	}
	return a.m.Open(ctx, x, a.Client(fctx), h.UserAgent(), fctx.Time())
}

func (a *Around) setCookie(h *fasthttp.ResponseHeader, x *middleware.Exchange) bool {
	var space [512]byte
	line := a.m.SetCookie(space[:0], x)
	if len(line) > 0 {
		h.AddBytesV(fasthttp.HeaderSetCookie, line)
	}
	return len(line) > 0
}
