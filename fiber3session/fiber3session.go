// Package fiber3session is the session middleware for Fiber v3. It is a module of its own.
//
//	sessions, err := fiber3session.New(store, fiber3session.Config{})
//	app.Use(sessions)
//	app.Get("/", func(c fiber.Ctx) error { return c.SendString(fiber3session.Get(c).UserID()) })
//
// The middleware opens the session that the request's cookie names, calls the handlers behind it and then, whatever status
// they chose, persists their changes and sets the cookie. If that fails the client gets 503 and no Set-Cookie in place of the
// handlers' answer. Mount the middleware ahead of anything that reads cookies.
//
// A session copies what it is given, so Fiber's strings may be passed as they are: s.Authenticate(c.Params("user")). Only the function of a
// [coatcheck.Update] may run again after the handler: copy a string of Fiber's that it uses.
//
// Two failures are not 503: a login of a user whose sessions were ended meanwhile is 401, and a [coatcheck.Update] that does not
// accept what a concurrent request has set is 500, because it is a mistake of the application.
//
// A panic that reaches the middleware persists nothing. Mount Fiber's recover ahead of it, app.Use(recover.New(), sessions): behind
// it, recover turns the panic into an answer like any other, with which the handler's half-done changes are persisted,
// unless a Commit panicked. So does Fiber's timeout, which belongs behind it.
//
// A handler whose session may change must not call End of its context: it sends the answer before the middleware has persisted the
// changes and set the cookie, which the client then never gets.
package fiber3session

import (
	"errors"

	"github.com/gofiber/fiber/v3"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/fasthttpsession"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Config is how the middleware behaves. The zero value of each field is its default and is safe: a __Host- cookie with Secure, 30
// minutes idle, 12 hours at most. It is the same for all frameworks:
//
//   - Policy, a coatcheck.Policy: how long sessions live, and how many a user may have;
//   - Cookie, a Cookie;
//   - TrustedProxies, a []netip.Prefix: the proxies whose X-Forwarded-For is believed, none by default;
//   - DBSC, a string: the path below which the application mounts RegisterDevice at /register and RefreshDevice at /refresh;
//     empty binds no session to a device;
//   - Logger, a *slog.Logger for audit events and errors; nil is slog.Default().
type Config = middleware.Config

// Cookie is what the session cookie looks like. The strings are Name, Domain, Path and SameSite, which is "lax" (the default),
// "strict" or "none"; Insecure and ScriptAccess, false by default, leave out Secure and HttpOnly. Plain http needs another name
// and Insecure.
type Cookie = cookie.Config

// New returns the session middleware for a store, or all mistakes of the configuration. In a child process of Prefork a store
// that is not shared is a mistake: each process would have sessions of its own.
func New(store coatcheck.Store, cfg Config) (fiber.Handler, error) {
	m, err := middleware.NewFor(store, cfg)
	return mounted(m, err)
}

// NewFor is New for a manager that the application made, with which it lists and ends sessions elsewhere and sets
// Policy.NotBefore at run time. The manager's policy applies: cfg.Policy must be zero.
func NewFor(manager *coatcheck.Manager, cfg Config) (fiber.Handler, error) {
	m, err := middleware.New(manager, cfg, nil)
	return mounted(m, err)
}

func mounted(m *middleware.Middleware, err error) (fiber.Handler, error) {
	if err != nil {
		return nil, err
	}
	if fiber.IsChild() && !m.Manager.Store().Shared() {
		return nil, errors.New("coatcheck: with Prefork each process would have sessions of its own: the store must be shared, such as redisstore")
	}
	sessions := fasthttpsession.New(m)
	return func(c fiber.Ctx) error { return sessions.Handle(c.RequestCtx(), c) }, nil
}

// Get returns the session of the request: the session of the innermost middleware, if there are several. Where none is
// mounted, in an error handler and after the request, it returns a detached session. So it does for everybody once Fiber's timeout has
// given up on the request: the session is the handler's that goes on. The session must not be kept beyond the request.
func Get(c fiber.Ctx) *coatcheck.Session { return Named(c, "") }

// Named is Get for an application with several session middlewares: it returns the session that the cookie of this name holds.
// A name alone keeps no sessions apart: whoever has a token may send it under another cookie's name, and it opens its session
// there if both middlewares have one store. Where that matters, as with a cookie for administrators, give each middleware a store
// of its own, or a Redis Prefix of its own.
func Named(c fiber.Ctx, cookieName string) *coatcheck.Session {
	if c.IsAbandoned() { // first, because the handler's goroutine may still write what a look-up reads
		return new(coatcheck.Session)
	}
	return fasthttpsession.Session(c.RequestCtx(), cookieName)
}

// CSRF makes and checks tokens for the forms of an application: Token(session) for the page, Check or Valid(session, token)
// for the form that it sends. A token is bound to the session by its handle, which changes with a login but not with a
// refresh; no token is stored, and no cookie is read or set. Token is empty for a session that is not stored, also after an
// Authenticate or a Destroy: Commit first.
type CSRF struct{ *middleware.CSRF }

// NewCSRF returns a CSRF with these keys, each of at least 32 bytes. The first key signs and all of them verify, so that a
// key can be replaced without refusing an open form. No error contains a key.
func NewCSRF(keys ...[]byte) (CSRF, error) {
	c, err := middleware.NewCSRF(keys...)
	return CSRF{c}, err
}

// Check is a handler that refuses unsafe requests (RFC 9110, section 9.2.1) with 403 unless the header X-CSRF-Token, or
// else the form field csrf_token, holds a valid token. Mount it behind the session middleware. Only urlencoded and multipart
// bodies of at most 1 MiB are looked at, and only where there is a stored session.
func (c CSRF) Check(ctx fiber.Ctx) error {
	if fasthttpsession.PassesCSRF(c.CSRF, &ctx.RequestCtx().Request, Get(ctx)) {
		return ctx.Next()
	}
	return fiber.NewError(fiber.StatusForbidden, middleware.CSRFForbidden)
}
