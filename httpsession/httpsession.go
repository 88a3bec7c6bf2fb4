// Package httpsession is the session middleware for net/http.
//
//	wrap, err := httpsession.New(store, httpsession.Config{})
//	http.ListenAndServe(addr, wrap(mux))
//	// in a handler behind it:
//	fmt.Fprint(w, httpsession.Get(r).UserID())
//
// The middleware opens the session that the request's cookie names and calls the handlers behind it. Before the first byte of
// the response is sent, whatever its status, it persists their changes and sets the cookie. If that fails the client gets 503
// and no Set-Cookie in place of the handlers' answer. Values that change later are persisted when the handler returns; a later
// change that needs a cookie is [coatcheck.ErrHeaderSent]. When a handler hijacks the connection, the Set-Cookie stands in
// w.Header() for the code that writes the answer: give that header to the library that upgrades to a websocket. Mount
// http.TimeoutHandler around the middleware, not behind it: it answers while its handler still uses the session.
//
// A handler whose answer was replaced while it ran should end: the context of its request is cancelled, with the failure as its
// [context.Cause], and Write and Flush return that failure. Until it has ended, net/http reads no other request from the connection, which
// over HTTP/1.1 therefore closes (Connection: close). Over HTTP/2 the client has the whole 503, but not its end, so a handler that heeds
// neither keeps a client waiting that reads to the end. An abort ([http.ErrAbortHandler]) of such a handler is taken for its return.
//
// Two failures are not 503: a login of a user whose sessions were ended meanwhile is 401, and a [coatcheck.Update] that does not
// accept what a concurrent request has set is 500, because it is a mistake of the application.
//
// A panic that reaches the middleware persists nothing. Mount a middleware that recovers from panics around it: one behind it
// turns the panic into an answer like any other, with which the handler's half-done changes are persisted,
// unless a commit panicked.
package httpsession

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unsafe"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
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

// New returns the session middleware for a store, or all mistakes of the configuration.
func New(store coatcheck.Store, cfg Config) (func(http.Handler) http.Handler, error) {
	m, err := middleware.NewFor(store, cfg)
	return mounted(m, err)
}

// NewFor is New for a manager that the application made, with which it lists and ends sessions elsewhere and sets
// Policy.NotBefore at run time. The manager's policy applies: cfg.Policy must be zero.
func NewFor(manager *coatcheck.Manager, cfg Config) (func(http.Handler) http.Handler, error) {
	m, err := middleware.New(manager, cfg, nil)
	return mounted(m, err)
}

func mounted(m *middleware.Middleware, err error) (func(http.Handler) http.Handler, error) {
	if err != nil {
		return nil, err
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(m, next, w, r) })
	}, nil
}

// Get returns the session of the request: the session of the innermost middleware, if there are several. Where none is
// mounted and after the request, it returns a detached session. The session must not be kept beyond the request.
func Get(r *http.Request) *coatcheck.Session { return contextOf(r).find("") }

// Named is Get for an application with several session middlewares: it returns the session that the cookie of this name holds.
// A name alone keeps no sessions apart: whoever has a token may send it under another cookie's name, and it opens its session
// there if both middlewares have one store. Where that matters, as with a cookie for administrators, give each middleware a store
// of its own, or a Redis Prefix of its own.
func Named(r *http.Request, cookieName string) *coatcheck.Session {
	return contextOf(r).find(cookieName)
}

// exchange is the middleware's state of one request. The context and the writer are one allocation and are not pooled,
// because handlers may keep both beyond the request.
type exchange struct {
	context requestContext
	lasting lastingContext
	writer  responseWriter
}

// handle opens the request's session, calls the handlers behind the middleware, and persists the session.
func handle(m *middleware.Middleware, next http.Handler, w http.ResponseWriter, r *http.Request) {
	outer := contextOf(r)
	if mounted, err := m.Mounted(outer.exchange()); mounted {
		next.ServeHTTP(w, r)
		return
	} else if err != nil {
		m.Log.Error("session middleware", "error", err)
		fail(w, err)
		return
	}
	x := m.Acquire(outer.exchange())
	e := &exchange{lasting: lastingContext{r.Context()}}
	e.writer = responseWriter{ResponseWriter: w, m: m, x: x, ctx: &e.lasting, request: r, handler: &e.context}
	defer e.release()
	if err := open(&e.lasting, m, x, r); err != nil {
		fail(w, err)
		return
	}
	e.context.begin(r.Context(), outer, m, x)
	e.writer.before.save(w.Header())
	if !answerEarly(&e.writer, r) {
		serve(next, e, r)
	}
	e.writer.end()
}

// serve calls the handlers behind the middleware. It copies the route and the form to the outer request, where enclosing
// middlewares look for the route, and the server for the form's files, which it removes.
func serve(next http.Handler, e *exchange, r *http.Request) {
	inner := r.WithContext(&e.context)
	defer func() {
		r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm
		e.writer.running = false
		if e.writer.failed == nil {
			return
		}
		// httputil.ReverseProxy aborts a connection when its context or a Write fails. The client has its whole answer, which over HTTP/2
		// an abort may overtake.
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			panic(p)
		}
	}()
	e.writer.running = true
	next.ServeHTTP(&e.writer, inner)
}

// release detaches the session, and makes a writer that a handler has kept harmless.
func (e *exchange) release() {
	e.context.x.Store(nil)
	if ending := e.context.ending.Load(); ending != nil {
		ending.end(nil) // a parent that outlives the request, as in tests, would keep it
	}
	e.writer.sent = true
	e.writer.before.release()
	e.writer.m.Release(e.writer.x)
}

// open reads what the request carries and opens its session.
func open(ctx context.Context, m *middleware.Middleware, x *middleware.Exchange, r *http.Request) error {
	for _, line := range r.Header["Cookie"] {
		m.Cookie.Find(bytesOf(line), &x.Presented)
	}
	client := m.Proxies.Client(peer(r.RemoteAddr), func() []string { return r.Header["X-Forwarded-For"] })
	return m.Open(ctx, x, client, bytesOf(r.UserAgent()), time.Now())
}

// bytesOf returns the bytes of a string without a copy. They must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// peer returns the remote address of the connection, the zero Addr if it has none. An enclosing middleware may have replaced
// it by an address without a port.
func peer(remote string) netip.Addr {
	full, err := netip.ParseAddrPort(remote)
	addr := full.Addr()
	if err != nil {
		addr, _ = netip.ParseAddr(strings.Trim(remote, "[]"))
	}
	return addr.Unmap().WithZone("")
}
