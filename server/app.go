package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/fasthttpsession"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/internal/perminute"
	"github.com/coatcheck/coatcheck/server/internal/conn"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// Server is the standalone auth API: the public application and the admin one.
type Server struct {
	manager        *coatcheck.Manager
	sessions       *fasthttpsession.Sessions
	proxies        middleware.Proxies
	mode           login.Mode
	traits         login.Traits      // of mode
	keys           *login.Keys       // of the admin listener; nil: none
	origins        map[string]string // the trusted origins, each mapped to itself
	base           *baseHeaders      // of the public listener
	adminBase      *baseHeaders      // of the admin listener
	remember       time.Duration
	reauth         time.Duration
	audit          *audit
	endOthersLimit *perminute.Counts[coatcheck.Key]
	endOneLimit    *perminute.Counts[coatcheck.Key]
	access         *accessLog // nil: off
	metrics        *metrics
	requests       *requests // of the public listener
	log            *slog.Logger

	loginPage *loginPage // nil: verify does not redirect
	returns   returnOrigins

	provider      *oidc.Provider // nil: another mode
	remoteUser    string         // the claim that Remote-User shows; empty: the user ID
	checked       [16]byte       // what checkedValue notes where a login has checked that claim
	providerIndex oidc.Index
	providerLimit *login.ProviderLimit // nil without provider

	trace func(TracedRequest) (context.Context, func(status int)) // nil: off

	refused      func() (reason string, refused bool) // nil: writes never are
	reloadFailed func() bool                          // nil: nothing is read again

	public    *fiber.App
	admin     *fiber.App
	listeners [2]*conn.Server // of public and admin
	draining  atomic.Bool     // written once, by Shutdown
	stopping  chan struct{}   // closed once draining is set
}

// New returns a server for the store, or all mistakes of the configuration. The caller closes the store.
func New(store coatcheck.Store, cfg Config) (*Server, error) {
	err := cfg.Validate()
	if cfg.Login == nil {
		err = errors.Join(err, errors.New("login: a mode must be named"))
	} else {
		err = errors.Join(err, cfg.Login.Traits().Validate())
	}
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	counts := newMetrics()
	manager, err := coatcheck.NewManager(counts.store.around(store), cfg.Policy)
	if err != nil {
		return nil, err
	}
	s := &Server{
		manager:   manager,
		proxies:   cfg.TrustedProxies,
		mode:      cfg.Login,
		traits:    cfg.Login.Traits(),
		keys:      cfg.AdminKeys,
		origins:   setOf(cfg.TrustedOrigins),
		base:      newBaseHeaders(len(cfg.TrustedOrigins) > 0, cfg.OIDC.SecureHost()),
		remember:  cfg.RememberTTL,
		reauth:    cfg.ReauthWithin,
		audit:     newAudit(cfg.Logger, manager.Now, counts),
		metrics:   counts,
		adminBase: newBaseHeaders(len(cfg.TrustedOrigins) > 0, ""),
		log:       cfg.Logger,

		loginPage: newLoginPage(cfg),
		returns:   newReturnOrigins(cfg),
		trace:     cfg.Trace,

		endOthersLimit: perminute.New[coatcheck.Key](endOthersPerMinute, endLimitSessions),
		endOneLimit:    perminute.New[coatcheck.Key](endOnePerMinute, endLimitSessions),

		refused: cfg.WritesRefused, reloadFailed: cfg.ReloadFailed,

		stopping: make(chan struct{}),
	}
	s.access = newAccessLog(cfg.Logger, s.client)
	if err := s.useProvider(cfg); err != nil {
		return nil, err
	}
	if s.sessions, err = s.newSessions(cfg); err != nil {
		return nil, err
	}
	if err := s.makeApps(cfg); err != nil {
		return nil, err
	}
	s.makeListeners(cfg)
	return s, nil
}

// setOf maps each origin to itself.
func setOf(origins []string) map[string]string {
	set := make(map[string]string, len(origins))
	for _, origin := range origins {
		set[origin] = origin
	}
	return set
}

// makeApps makes the public application and the admin one.
func (s *Server) makeApps(cfg Config) error {
	document, err := openAPIOf(cfg.Cookie)
	if err != nil {
		return err
	}
	page, err := s.devicesPage(cfg)
	if err != nil {
		return err
	}
	s.public = s.newApp(cfg.MaxHeader)
	s.routes(page, document, cfg.DBSC)
	open := func() int { return s.listeners[0].Connections() } // fasthttp does not count those that a watch has taken
	if s.requests, err = newRequests(s.public, open); err != nil {
		return err
	}
	s.prepare(s.public, s.base, s.cors(s.public.Handler()), s.requests)
	shown, err := s.gatherer(cfg.Collectors)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	s.admin = s.newApp(cfg.MaxHeader)
	s.adminRoutes(shown)
	s.prepare(s.admin, s.adminBase, s.admin.Handler(), nil)
	return nil
}

func (s *Server) makeListeners(cfg Config) {
	opts := conn.Options{RequestTimeout: cfg.ReadTimeout, IdleTimeout: cfg.IdleTimeout, Log: s.log}
	opts.MaxConns = MaxAdminConns
	s.listeners[1] = conn.New(s.admin.Server(), opts)
	opts.MaxConns = cfg.MaxConns
	opts.MaxPerClient, opts.Refusal = cfg.MaxConnsPerIP, func() []byte { return s.refusal(problemTooManyConns) }
	opts.NotTLS = func() []byte { return s.refusal(problemNotTLS) }
	s.listeners[0] = conn.New(s.public.Server(), opts)
}

// routes registers all routes of the public contract; without dbsc no session is bound, but those that are can be renewed.
func (s *Server) routes(devices fiber.Handler, document []byte, dbsc bool) {
	app, with := s.public, s.with
	if s.provider != nil {
		s.providerRoutes()
	} else {
		app.Post("/auth/login", s.sameSite, s.withLogin(s.login))
	}
	if s.traits.Form != login.NoForm {
		app.Get("/auth/login", s.withLogin(s.signInPage))
	}
	app.Get("/auth/me", with(s.me))
	app.Get("/auth/userinfo", with(s.userInfo))
	app.Post("/auth/refresh", s.sameSite, with(s.refresh))
	app.Post("/auth/logout", s.sameSite, s.withLogout(s.logout))
	if dbsc {
		app.Post("/auth/dbsc/register", s.device(fasthttpsession.Register))
	}
	app.Post("/auth/dbsc/refresh", s.device(fasthttpsession.Refresh))
	app.All("/auth/verify", noFragment(problemUnauthenticated), s.withoutCookie(s.verify))
	app.Get("/auth/watch", s.withWatch(s.watch))
	app.Get("/auth/sessions", with(s.listSessions))
	app.Delete("/auth/sessions", noFragment(problemBadRequest), s.sameSite, with(s.endSessions))
	app.Delete("/auth/sessions/:id", noFragment(problemBadRequest), s.sameSite, with(s.endSession))
	app.Get("/auth/devices", devices)
	app.Get("/auth/devices.js", static(typeScript, pageScript))
	app.Get("/auth/login.js", static(typeScript, signInScript))
	app.Get("/auth/devices.css", static(typeStyle, pageStyle))
	app.Get("/openapi.yaml", static(typeYAML, document))
}

func (s *Server) newApp(maxHeader int) *fiber.App {
	app := fiber.New(fiber.Config{
		AppName:               "coatcheck",
		CaseSensitive:         true,
		StrictRouting:         true,
		BodyLimit:             MaxBody,
		ReadBufferSize:        maxHeader,
		WriteBufferSize:       writeBuffer,
		ErrorHandler:          s.writeError,
		DisableStartupMessage: true,
		// Without a trusted proxy no X-Forwarded header changes what Fiber says of the request.
		EnableTrustedProxyCheck:      true,
		DisablePreParseMultipartForm: true,
	})
	if s.access != nil {
		app.Use(noteRoute)
	}
	return app
}

// prepare sets what Fiber's configuration does not reach, and wraps the application's handler. A nil counted counts nothing.
func (s *Server) prepare(app *fiber.App, base *baseHeaders, handler fasthttp.RequestHandler, counted *requests) {
	srv := app.Server()
	answer := func(ctx *fasthttp.RequestCtx) { s.serve(ctx, base, handler, counted) }
	if s.access != nil {
		answer = s.access.around(answer)
	}
	srv.Handler = func(ctx *fasthttp.RequestCtx) {
		answer(ctx)
		conn.Reclaim(ctx)
	}
	srv.HeaderReceived = headerReceived
	srv.ErrorHandler = s.unreadable(srv.ErrorHandler, base, counted)
	// Otherwise an unparsable request is logged, and answered, with its bytes: the cookie included.
	srv.SecureErrorLogMessage = true
	srv.CloseOnShutdown = true
}

// serve is the entry of an application: it recovers panics, sends methods that Fiber does not know to where any wrong method
// is refused, and begins every response with the headers that all responses have.
func (s *Server) serve(ctx *fasthttp.RequestCtx, base *baseHeaders, app fasthttp.RequestHandler, counted *requests) {
	req := counted.begin(ctx)
	if s.trace != nil && counted != nil {
		s.beginTrace(ctx, req)
	}
	defer s.recover(ctx, base, req)
	base.begin(ctx)
	if ctx.IsHead() {
		ctx.Response.Header.SetContentLength(0) // which fasthttp leaves out; a body that the answer gets sets its own
	}
	if !knownMethod(ctx.Method()) {
		ctx.Request.Header.SetMethod(fasthttp.MethodTrace)
	}
	if p := unreadRequest(ctx); p != nil {
		writeProblem(ctx, p)
	} else {
		app(ctx)
	}
	s.finish(ctx, req)
}

func (s *Server) finish(ctx *fasthttp.RequestCtx, req countedRequest) {
	if s.draining.Load() {
		ctx.SetConnectionClose()
	}
	req.end(ctx)
	if s.trace != nil {
		endTrace(ctx)
	}
}

// recover answers 500 for a panic. The panic's value is not logged, because it may contain anything, a cookie included.
func (s *Server) recover(ctx *fasthttp.RequestCtx, base *baseHeaders, req countedRequest) {
	v := recover()
	if v == nil {
		return
	}
	attrs := []slog.Attr{slog.String("stack", string(debug.Stack()))}
	if err, ok := v.(interface{ RuntimeError() }); ok {
		attrs = append(attrs, slog.Any("panic", err))
	}
	s.audit.Log(slog.LevelError, eventPanic, "panic in a handler", attrs...)
	base.begin(ctx)
	writeProblem(ctx, problemInternal)
	s.finish(ctx, req)
}

func knownMethod(m []byte) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}

// shownMethod is the request's method in logs and traces, which hold no text of a client: "_OTHER" for an unknown one.
func shownMethod(ctx *fasthttp.RequestCtx) string {
	if m := ctx.Method(); knownMethod(m) {
		return string(m)
	}
	return "_OTHER"
}

// SetNotBefore makes all sessions dead that were created before t, from the next request on. The zero time makes none dead.
func (s *Server) SetNotBefore(t time.Time) { s.manager.SetNotBefore(t) }

// EndUser ends all sessions of a user, and refuses the user's logins that are in progress: the account was disabled, or its
// password changed (ASVS 7.4.2, 7.4.3).
func (s *Server) EndUser(ctx context.Context, user string) error {
	n, err := s.endUser(ctx, user)
	if err == nil || n > 0 {
		s.audit.endedByOperator(user, n)
	}
	return err
}

// endUser is Manager.EndUser, counted. The caller logs what was ended, also what had ended before a failure: the next try does not find
// it any more.
func (s *Server) endUser(ctx context.Context, user string) (int, error) {
	n, err := s.manager.EndUser(ctx, user)
	s.metrics.revoked(n)
	return n, err
}

// endOthers is Manager.EndOthers, counted.
func (s *Server) endOthers(ctx context.Context, user string, keep coatcheck.Key) (int, error) {
	n, err := s.manager.EndOthers(ctx, user, keep)
	s.metrics.revoked(n)
	return n, err
}

// endOne is Manager.End, counted.
func (s *Server) endOne(ctx context.Context, user string, key coatcheck.Key) error {
	err := s.manager.End(ctx, user, key)
	if err == nil {
		s.metrics.revoked(1)
	}
	return err
}

// Handler returns the public application's handler, for tests and benchmarks without a connection.
func (s *Server) Handler() fasthttp.RequestHandler { return s.public.Server().Handler }
