package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
)

// request is what the middleware keeps of one request: pooled, owned by the middleware, released when the handler and
// the commit are done.
type request struct {
	session   coatcheck.Session
	presented coatcheck.Presented
}

// requestKey is where a Fiber context keeps its *request.
type requestKey struct{}

// Sessions returns the session middleware: before the handler it opens the session that the request's cookie names, after
// it, whatever status the handler chose, it persists what the handler changed and sets the cookie. If that fails the client
// gets 503 and no Set-Cookie in place of the handler's response; a panic persists nothing. Mount it ahead of anything that
// reads cookies. It panics if cfg.Validate returns an error or store is nil.
func Sessions(store coatcheck.Store, cfg Config) fiber.Handler {
	m, err := newMiddleware(store, cfg)
	if err != nil {
		panic("coatcheck: server.Sessions: " + err.Error())
	}
	return m.handle
}

// Session returns the request's session, nil if the middleware is not mounted there. It must not be kept beyond the
// handler.
func Session(c *fiber.Ctx) *coatcheck.Session {
	r, ok := c.Context().UserValue(requestKey{}).(*request)
	if !ok {
		return nil
	}
	return &r.session
}

// middleware opens and persists sessions.
type middleware struct {
	manager *coatcheck.Manager
	jar     *cookieJar
	audit   *audit
	proxies proxies
	pool    sync.Pool

	now     func() time.Time                     // read once for a commit
	arrival func(*fasthttp.RequestCtx) time.Time // read once for loading
}

func newMiddleware(store coatcheck.Store, cfg Config) (*middleware, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	manager, err := coatcheck.NewManager(store, cfg.Policy)
	if err != nil {
		return nil, err
	}
	m := &middleware{
		manager: manager,
		jar:     newCookieJar(cfg.Cookie),
		audit:   newAudit(cfg.Logger, manager.Policy().Now, cfg.TrustedProxies),
		proxies: cfg.TrustedProxies,
		pool:    sync.Pool{New: func() any { return new(request) }},
		now:     manager.Policy().Now,
		arrival: (*fasthttp.RequestCtx).Time,
	}
	if cfg.Policy.Now != nil {
		m.arrival = func(*fasthttp.RequestCtx) time.Time { return cfg.Policy.Now() }
	}
	return m, nil
}

func (m *middleware) handle(c *fiber.Ctx) error {
	ctx := c.Context()
	if ctx.UserValue(requestKey{}) != nil {
		return c.Next() // mounted twice: one session a request
	}
	r := m.pool.Get().(*request)
	defer m.release(ctx, r)
	if err := m.open(ctx, r); err != nil {
		return m.fail(c, err)
	}
	m.audit.report(ctx, &r.session) // before the handler, which may panic
	ctx.SetUserValue(requestKey{}, r)
	handlerErr := c.Next()
	if err := r.session.Finish(context.Background()); err != nil {
		return m.fail(c, err)
	}
	m.audit.settled(ctx, &r.session)
	m.jar.write(&ctx.Response.Header, &r.session, m.now)
	return handlerErr
}

// open makes r the state of a request: its cookies read, its session opened. The context is not the request's own: fasthttp
// cancels that one when the server begins to drain.
func (m *middleware) open(ctx *fasthttp.RequestCtx, r *request) error {
	m.jar.find(&ctx.Request.Header, &r.presented)
	client := coatcheck.Client{IP: m.proxies.client(ctx), UserAgent: ctx.Request.Header.UserAgent()}
	return m.manager.Open(context.Background(), &r.session, &r.presented, client, m.arrival(ctx))
}

func (m *middleware) release(ctx *fasthttp.RequestCtx, r *request) {
	ctx.RemoveUserValue(requestKey{})
	r.session.Release()
	r.presented = coatcheck.Presented{} // a pool must not hold what opens a session
	m.pool.Put(r)
}

// fail answers for a store that could not load or persist, in place of whatever the handler answered. It writes the answer
// itself, because the error handler may be another application's.
func (m *middleware) fail(c *fiber.Ctx, err error) error {
	p := problemOf(err)
	if p.status == fiber.StatusServiceUnavailable {
		m.audit.storeError(c.Context(), err)
	}
	c.Response().Reset()
	p.write(c.Context())
	keepPrivate(&c.Response().Header)
	return nil
}

// problemOf decides which answer an error of the session layer becomes. It is the only place that does.
func problemOf(err error) *problem {
	switch {
	case errors.Is(err, coatcheck.ErrRevoked):
		return problemLoginRevoked
	case errors.Is(err, coatcheck.ErrFull):
		return problemStoreFull
	case errors.Is(err, coatcheck.ErrNewer):
		return problemRecordNewer
	case errors.Is(err, coatcheck.ErrTooLarge):
		return problemTooLarge
	case errors.Is(err, coatcheck.ErrUnavailable):
		return problemStoreUnavailable
	default:
		return problemInternal
	}
}
