package server

import (
	"context"
	"net/netip"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/fasthttpsession"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/server/internal/conn"
)

// handler answers a request whose session is open.
type handler = func(*fiber.Ctx, *coatcheck.Request) error

// with wraps a handler in the session middleware.
func (s *Server) with(h handler) fiber.Handler {
	return func(c *fiber.Ctx) error { return fasthttpsession.Do(s.sessions, c.Context(), c, h) }
}

// withLogin is with for a login.
func (s *Server) withLogin(h handler) fiber.Handler {
	return func(c *fiber.Ctx) error { return fasthttpsession.DoLogin(s.sessions, c.Context(), c, h) }
}

// withLogout is with for a logout.
func (s *Server) withLogout(h handler) fiber.Handler {
	return func(c *fiber.Ctx) error { return fasthttpsession.DoLogout(s.sessions, c.Context(), c, h) }
}

// withWatch is with for a request to watch a session.
func (s *Server) withWatch(h handler) fiber.Handler {
	return func(c *fiber.Ctx) error { return fasthttpsession.DoWatch(s.sessions, c.Context(), c, h) }
}

// device wraps one of the routes of device-bound sessions. The rule about other sites' requests does not apply to them: after
// a login that another site's page has sent, the browser's own requests count as that site's. Their proof is the defence.
func (s *Server) device(step fasthttpsession.DeviceStep) fiber.Handler {
	return func(c *fiber.Ctx) error { return s.sessions.DoDevice(c.Context(), step) }
}

// withoutCookie is with for a route that never sets or clears the cookie.
func (s *Server) withoutCookie(h handler) fiber.Handler {
	return func(c *fiber.Ctx) error { return fasthttpsession.DoWithoutCookie(s.sessions, c.Context(), c, h) }
}

// newSessions returns the session middleware in the form that hands the server's own handlers the request.
func (s *Server) newSessions(cfg Config) (*fasthttpsession.Sessions, error) {
	m, err := middleware.New(s.manager, middleware.Config{Cookie: cfg.Cookie, TrustedProxies: cfg.TrustedProxies, DBSC: dbscPath(cfg)}, observer{s.audit.Events, s.metrics})
	if err != nil {
		return nil, err
	}
	return &fasthttpsession.Sessions{Middleware: m, Context: s.context, Peer: peer}, nil
}

// pathDBSC is the path below which the routes of device-bound sessions are.
const pathDBSC = "/auth/dbsc"

// dbscPath returns what the middleware is told: an empty path offers no binding.
func dbscPath(cfg Config) string {
	if cfg.DBSC {
		return pathDBSC
	}
	return ""
}

// observer writes the events of sessions, and counts what happened to them. A failure of the store becomes an event where it
// becomes an answer, in Server.writeError.
type observer struct {
	events  *middleware.Events
	metrics *metrics
}

func (o observer) Opened(r *coatcheck.Request, err error) {
	if err != nil {
		o.metrics.loadFailed(r.Report(), err)
		return
	}
	o.events.Opened(r, nil)
}

func (o observer) Finished(r *coatcheck.Request, err error) {
	if err == nil {
		o.events.Finished(r, nil)
	}
}

func (o observer) Device(r *coatcheck.Request, route middleware.DeviceRoute, outcome middleware.DeviceOutcome) {
	o.events.Device(r, route, outcome)
	o.metrics.device(route, outcome)
}

func (o observer) Released(r *coatcheck.Request) {
	if r.Eventful() {
		o.metrics.session(r.Report())
	}
}

// context returns the context for a request's calls of the store and of the login mode. It is not the request's own, which
// fasthttp cancels when the server begins to drain. It is small enough to be inlined where nothing is traced.
func (s *Server) context(ctx *fasthttp.RequestCtx) context.Context {
	if s.trace != nil {
		return tracedContext(ctx)
	}
	return context.Background()
}

// client returns the address of the client, as far as trusted proxies tell it. Where the session is open, Request.Client has
// it.
func (s *Server) client(ctx *fasthttp.RequestCtx) netip.Addr { return s.sessions.Client(ctx) }

// peer returns the remote address of the connection, without the zone of a link-local one.
func peer(ctx *fasthttp.RequestCtx) netip.Addr { return conn.RemoteAddr(ctx) }
