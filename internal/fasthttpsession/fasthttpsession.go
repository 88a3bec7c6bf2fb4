// Package fasthttpsession is what the session middlewares for Fiber v2 and v3 share beside package middleware: it puts
// sessions around requests of fasthttp, as an application's middleware (Handle) or for a host such as package server
// (Do). It knows neither version of Fiber.
package fasthttpsession

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Sessions puts sessions around requests. Safe for concurrent use.
type Sessions struct {
	*middleware.Middleware
	// Context returns the context of a request's store operations.
	Context func(*fasthttp.RequestCtx) context.Context
	// Peer returns the remote address of the connection.
	Peer func(*fasthttp.RequestCtx) netip.Addr
}

// New returns sessions for an application.
func New(m *middleware.Middleware) *Sessions {
	return &Sessions{Middleware: m, Context: background, Peer: peer}
}

// background replaces the request's own context, which fasthttp cancels when the server begins to drain.
func background(*fasthttp.RequestCtx) context.Context { return context.Background() }

// peer returns the remote address of the connection, the zero Addr if it has none.
func peer(fctx *fasthttp.RequestCtx) netip.Addr {
	tcp, ok := fctx.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap()
}

// Session returns the session of a request: the innermost middleware's if name is empty, else that of the cookie of this
// name; a detached session if there is none.
func Session(fctx *fasthttp.RequestCtx, name string) *coatcheck.Session {
	return exchangeOf(fctx).Session(name)
}

// exchangeKey is the key of a request's *middleware.Exchange in its context.
type exchangeKey struct{}

func exchangeOf(fctx *fasthttp.RequestCtx) *middleware.Exchange {
	x, _ := fctx.UserValue(exchangeKey{}).(*middleware.Exchange)
	return x
}

// headers is a pool of *fasthttp.ResponseHeader.
var headers = sync.Pool{New: func() any { return new(fasthttp.ResponseHeader) }}

// Chain is the rest of a request's handlers: a context of Fiber's.
type Chain interface{ Next() error }

// Handle opens the request's session, calls the handlers behind the middleware, which find the session in their context,
// persists it and sets the cookie. It returns the handlers' error, or an error if this middleware is mounted in a wrong
// place; a failure of the store it answers itself.
func (s *Sessions) Handle(fctx *fasthttp.RequestCtx, chain Chain) error {
	outer := exchangeOf(fctx)
	if mounted, err := s.Mounted(outer); mounted {
		return chain.Next()
	} else if err != nil {
		return err
	}
	x := s.Acquire(outer)
	defer func() {
		if timedOut(fctx, chain) {
			x.Disown()
		} else {
			s.Release(x)
		}
	}()
	ctx := s.Context(fctx)
	if err := s.open(ctx, fctx, x); err != nil {
		fail(fctx, err)
		return nil
	}
	before := headers.Get().(*fasthttp.ResponseHeader) // what enclosing middlewares have set
	defer func() {
		before.Reset() // it may set cookies
		headers.Put(before)
	}()
	fctx.Response.Header.CopyTo(before)
	handlerErr, answered := error(nil), s.answerEarly(fctx, x)
	if !answered {
		handlerErr = next(fctx, chain, x)
	}
	if timedOut(fctx, chain) {
		return handlerErr
	}
	if err := s.Finish(ctx, x); err != nil {
		before.CopyTo(&fctx.Response.Header)
		fail(fctx, err)
		return nil
	}
	if s.writeCookie(fctx, x) {
		keepPrivate(fctx)
	}
	return handlerErr
}

// next calls the handlers behind the middleware, which find x in their context until they return or panic.
func next(fctx *fasthttp.RequestCtx, chain Chain, x *middleware.Exchange) error {
	outer := fctx.UserValue(exchangeKey{})
	fctx.SetUserValue(exchangeKey{}, x)
	defer func() {
		if !timedOut(fctx, chain) {
			fctx.SetUserValue(exchangeKey{}, outer)
		}
	}()
	return chain.Next()
}

// timedOut reports whether a middleware, such as Fiber v3's timeout, has answered in place of a handler that goes on in a goroutine of its
// own. The context and the session are the handler's then: fasthttp uses such a context for no other request. Fiber v3 says so earlier,
// before a handler of the application answers, which may panic.
func timedOut(fctx *fasthttp.RequestCtx, chain Chain) bool {
	if fctx.LastTimeoutErrorResponse() != nil {
		return true
	}
	c, ok := chain.(interface{ IsAbandoned() bool })
	return ok && c.IsAbandoned()
}

// Do opens the request's session, calls the handler with c, persists the session and sets the cookie. It returns the
// handler's error, or an error of the store, and answers neither. It is for a host, such as package server, that answers
// errors and counts requests in its own way. It saves the way through the context and Fiber's chain, which takes 50 ns
// (BenchmarkMe).
func Do[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, ordinary)
}

// DoLogin is Do for a login, which needs no session and so does not wait for one that its device has yet to renew.
func DoLogin[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, login)
}

// DoLogout is Do for a logout, which ends a session also by a token that is too old.
func DoLogout[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, logout)
}

// DoWithoutCookie is Do, but never sets or clears the cookie.
func DoWithoutCookie[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, cookieless)
}

// DoWatch is Do for a request to watch a session, see coatcheck.Presented.ToWatch.
func DoWatch[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error) error {
	return do(s, fctx, c, handler, watch)
}

// routeKind is what a route does with its cookies beyond the ordinary.
type routeKind int

const (
	ordinary routeKind = iota
	login
	logout
	cookieless
	watch
)

func do[C any](s *Sessions, fctx *fasthttp.RequestCtx, c C, handler func(C, *coatcheck.Request) error, kind routeKind) error {
	x := s.Acquire(nil)
	defer s.Release(x)
	ctx := s.Context(fctx)
	if kind == watch {
		x.Presented.ToWatch()
	}
	if err := s.open(ctx, fctx, x); err != nil {
		return err
	}
	if kind != cookieless {
		waits := kind == ordinary || kind == watch || kind == logout && x.Report().TooOld.Key.IsZero()
		switch early := s.early(fctx, x); {
		case early == nil:
		case early.Location != "":
			redirect(fctx, early.Location)
			s.writeCookie(fctx, x)
			return nil
		case waits:
			return early.Problem
		}
	}
	handlerErr := handler(c, &x.Request)
	if err := s.Finish(ctx, x); err != nil {
		return err
	}
	if kind != cookieless && !unavailable(handlerErr) {
		s.writeCookie(fctx, x)
	}
	return handlerErr
}

// unavailable reports whether the answer to a handler's error is 503. That never touches the cookie, whatever is out of order: the store, or
// what a login asks.
func unavailable(err error) bool {
	return err != nil && middleware.ProblemOf(err).Status == fasthttp.StatusServiceUnavailable
}

// open reads what the request carries and opens its session.
func (s *Sessions) open(ctx context.Context, fctx *fasthttp.RequestCtx, x *middleware.Exchange) error {
	h := &fctx.Request.Header
	for _, line := range h.PeekAll(fasthttp.HeaderCookie) {
		s.Cookie.Find(line, &x.Presented)
	}
	return s.Open(ctx, x, s.Client(fctx), h.UserAgent(), fctx.Time())
}

// writeCookie adds the Set-Cookie line that the response needs, with what accompanies it, and reports whether it needs one.
func (s *Sessions) writeCookie(fctx *fasthttp.RequestCtx, x *middleware.Exchange) bool {
	if x.Cookie() == coatcheck.KeepCookie { // before space is cleared, which most requests do without
		return false
	}
	var space [512]byte
	line := s.SetCookie(space[:0], x)
	if len(line) > 0 {
		fctx.Response.Header.AddBytesV(fasthttp.HeaderSetCookie, line)
		s.Beside(x, linesOf(fctx, fasthttp.HeaderCookie), fctx.Response.Header.Add)
	}
	return len(line) > 0
}

// linesOf returns the lines of a request's header.
func linesOf(fctx *fasthttp.RequestCtx, name string) middleware.Lines {
	return func() (lines []string) {
		for _, line := range fctx.Request.Header.PeekAll(name) {
			lines = append(lines, string(line))
		}
		return lines
	}
}

// headerOf returns the first lines of a request's headers.
func headerOf(req *fasthttp.Request) func(name string) string {
	return func(name string) string { return string(req.Header.Peek(name)) }
}

// Client returns the address of the client, as far as trusted proxies tell it.
func (s *Sessions) Client(fctx *fasthttp.RequestCtx) netip.Addr {
	return s.Proxies.Client(s.Peer(fctx), linesOf(fctx, fasthttp.HeaderXForwardedFor))
}

// early returns the answer in place of the handler's, nil if the handler is to be called.
func (s *Sessions) early(fctx *fasthttp.RequestCtx, x *middleware.Exchange) *middleware.Early {
	if !x.Key().IsZero() { // so that a live session pays for none of the following
		return nil
	}
	h := &fctx.Request.Header
	return s.Early(x, middleware.EarlyRequest{
		Header:  headerOf(&fctx.Request),
		Cookies: linesOf(fctx, fasthttp.HeaderCookie),
		Method:  string(h.Method()),
		Target:  func() string { return string(h.RequestURI()) },
	})
}

// answerEarly answers in place of an application's handler, and reports whether it did.
func (s *Sessions) answerEarly(fctx *fasthttp.RequestCtx, x *middleware.Exchange) bool {
	early := s.early(fctx, x)
	switch {
	case early == nil:
		return false
	case early.Problem != nil:
		x.KeepCookies()
		fail(fctx, early.Problem)
	default:
		redirect(fctx, early.Location)
	}
	return true
}

func redirect(fctx *fasthttp.RequestCtx, location string) {
	fctx.SetStatusCode(fasthttp.StatusTemporaryRedirect)
	fctx.Response.Header.Set(fasthttp.HeaderLocation, location)
}
