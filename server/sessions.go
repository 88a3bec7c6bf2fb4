package server

import (
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
	metrics *metrics
	proxies proxies
	base    *baseHeaders // nil in another application, whose responses are its own
	traced  bool         // the requests have a context of their own
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

// handle is the middleware as an application mounts it: the handlers behind it find the session in their context.
func (m *middleware) handle(c *fiber.Ctx) error {
	if c.Context().UserValue(requestKey{}) != nil {
		return c.Next() // mounted twice: one session a request
	}
	return m.around(c, func(c *fiber.Ctx, r *request) error {
		c.Context().SetUserValue(requestKey{}, r)
		defer c.Context().RemoveUserValue(requestKey{})
		return c.Next()
	})
}

// with is the middleware around one of the server's own handlers, which is handed the session: the way through the context
// and Fiber's chain is 50 ns longer (BenchmarkMe).
func (m *middleware) with(handler func(*fiber.Ctx, *coatcheck.Session) error) fiber.Handler {
	next := func(c *fiber.Ctx, r *request) error { return handler(c, &r.session) }
	return func(c *fiber.Ctx) error { return m.around(c, next) }
}

// around opens the session before the handler and persists it after.
func (m *middleware) around(c *fiber.Ctx, handler func(*fiber.Ctx, *request) error) error {
	ctx := c.Context()
	r := m.pool.Get().(*request)
	defer m.release(r)
	if err := m.open(ctx, r); err != nil {
		return m.notOpened(c, r, err)
	}
	m.audit.report(ctx, &r.session) // before the handler, which may panic
	handlerErr := handler(c, r)
	if err := r.session.Finish(m.context(ctx)); err != nil {
		return m.fail(c, err)
	}
	m.audit.settled(ctx, &r.session)
	if m.jar.write(&ctx.Response.Header, &r.session, m.now) {
		m.keepPrivate(ctx)
	}
	return handlerErr
}

// open makes r the state of a request: its cookies read, its session opened.
func (m *middleware) open(ctx *fasthttp.RequestCtx, r *request) error {
	m.jar.find(&ctx.Request.Header, &r.presented)
	client := coatcheck.Client{IP: m.proxies.client(ctx), UserAgent: ctx.Request.Header.UserAgent()}
	return m.manager.Open(m.context(ctx), &r.session, &r.presented, client, m.arrival(ctx))
}

func (m *middleware) release(r *request) {
	m.metrics.session(r.session.Report())
	r.session.Release()
	r.presented = coatcheck.Presented{} // a pool must not hold what opens a session
	m.pool.Put(r)
}

// notOpened answers for a session that could not be opened.
func (m *middleware) notOpened(c *fiber.Ctx, r *request, err error) error {
	m.metrics.loadFailed(r.session.Report(), err)
	return m.fail(c, err)
}

// fail answers for a store that could not load or persist, in place of whatever the handler answered. It writes the answer
// itself, because the error handler may be another application's.
func (m *middleware) fail(c *fiber.Ctx, err error) error {
	p := problemOf(err)
	if p.status == fiber.StatusServiceUnavailable {
		m.audit.storeError(c.Context(), err)
	}
	if m.base != nil {
		m.base.begin(c.Context())
	} else {
		c.Response().Reset()
	}
	p.write(c.Context())
	m.keepPrivate(c.Context())
	return nil
}

// keepPrivate keeps a response that is about one person out of caches, whatever the handler said: another application's
// handlers do not know which of their responses the middleware gives a cookie (ASVS 14.3.2).
func (m *middleware) keepPrivate(ctx *fasthttp.RequestCtx) {
	if m.base == nil {
		ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
		ctx.Response.Header.Add(fasthttp.HeaderVary, fasthttp.HeaderCookie)
	}
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
