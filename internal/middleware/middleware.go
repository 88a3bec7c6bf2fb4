// Package middleware is what the session middlewares of all frameworks share, beside the cookie: their configuration, the
// state of a request, the client's address, audit events (events.go), error answers (problem.go) and the two routes of
// device-bound sessions (device.go). It knows no framework: an adapter passes in the contents of a request, and writes the results to the
// response.
package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/dbsc"
	"github.com/coatcheck/coatcheck/internal/ownpath"
)

// Config is how a session middleware behaves. The zero value of each field is its default and is safe.
type Config struct {
	// Policy is how long sessions live, and how many a user may have.
	Policy coatcheck.Policy
	// Cookie is what the session cookie looks like: by default __Host-coatcheck with Secure, HttpOnly and SameSite=Lax.
	Cookie cookie.Config
	// TrustedProxies are the addresses of proxies whose X-Forwarded-For is believed, for the address that sessions and audit
	// events show. None: no proxy is trusted.
	TrustedProxies []netip.Prefix
	// DBSC is the path below which the application mounts the two handlers of device-bound sessions, RegisterDevice at /register
	// and RefreshDevice at /refresh, behind this middleware: "/auth/dbsc". A browser that supports them then binds the session
	// of each login to a key that cannot be copied, and the cookie alone is worth nothing Policy.BoundTTL later. It needs Secure
	// and a cookie without a Domain. Empty: no login offers it; the refreshes of sessions that are bound already go on.
	DBSC string
	// Logger receives audit events and errors. Nil: slog.Default().
	Logger *slog.Logger
}

// Observer learns what happens to the session of a request. Events implements it; a host may have its own.
type Observer interface {
	// Opened is called before the handler, with the error of Manager.Open.
	Opened(r *coatcheck.Request, err error)
	// Finished is called after the handler, unless it panicked, with the error of Request.Finish. It is called once more when
	// the answer was sent earlier and later changes could not be persisted.
	Finished(r *coatcheck.Request, err error)
	// Device is called for the answer to a device: a registration or a refresh, with its outcome.
	Device(r *coatcheck.Request, route DeviceRoute, outcome DeviceOutcome)
	// Released is called last, whatever happened.
	Released(r *coatcheck.Request)
}

// Middleware opens and finishes the sessions of requests. Safe for concurrent use.
type Middleware struct {
	Manager *coatcheck.Manager
	Cookie  *cookie.Cookie
	Proxies Proxies
	Log     *slog.Logger // for lines that are no session events

	dbsc     string // the path of its routes; empty: no login offers to bind its session
	checks   *dbsc.Checks
	observer Observer
	pool     sync.Pool // of *Exchange
}

// New returns a middleware, or all mistakes of the configuration. A nil observer: Events that go to cfg.Logger.
func New(manager *coatcheck.Manager, cfg Config, observer Observer) (*Middleware, error) {
	var errs []error
	if manager == nil {
		errs = append(errs, errors.New("a manager is needed"))
	}
	if !reflect.ValueOf(cfg.Policy).IsZero() {
		errs = append(errs, errors.New("the policy is the manager's: the configuration must have none"))
	}
	if err := errors.Join(append(errs, validate(cfg))...); err != nil {
		return nil, fmt.Errorf("coatcheck: session middleware: %w", err)
	}
	c, err := cookie.New(cfg.Cookie)
	if err != nil {
		return nil, err
	}
	log := cmp.Or(cfg.Logger, slog.Default())
	if observer == nil {
		observer = NewEvents(log, manager.Now)
	}
	return &Middleware{
		Manager: manager, Cookie: c, Proxies: cfg.TrustedProxies, Log: log, observer: observer,
		dbsc: cfg.DBSC, checks: dbsc.NewChecks(),
		pool: sync.Pool{New: func() any { return new(Exchange) }},
	}, nil
}

// NewFor returns a middleware with a manager of its own for the store, or all mistakes of the configuration.
func NewFor(store coatcheck.Store, cfg Config) (*Middleware, error) {
	manager, err := coatcheck.NewManager(store, cfg.Policy)
	if err != nil {
		if more := validate(cfg); more != nil {
			err = errors.Join(err, fmt.Errorf("coatcheck: session middleware: %w", more))
		}
		return nil, err
	}
	cfg.Policy = coatcheck.Policy{}
	return New(manager, cfg, nil)
}

// validate returns all mistakes of a configuration but those of its policy, joined.
func validate(cfg Config) error {
	err := cfg.Cookie.Validate()
	if cfg.DBSC != "" {
		err = errors.Join(err, validateDBSC(cfg))
	}
	return err
}

// Exchange is a middleware's state of one request: pooled, owned by the middleware, released when the handler and the commit
// are done.
type Exchange struct {
	coatcheck.Request
	Presented coatcheck.Presented

	of       *Middleware
	outer    *Exchange // that of the enclosing middleware; nil: none
	finished bool      // the observer was told
}

// Acquire returns the state of a request that has already come through the middlewares of outer; nil: through none.
func (m *Middleware) Acquire(outer *Exchange) *Exchange {
	x := m.pool.Get().(*Exchange)
	x.of, x.outer, x.finished = m, outer, false
	return x
}

// Release ends the use of x. What a goroutine of the handler still uses is left to it.
func (m *Middleware) Release(x *Exchange) {
	if !x.Release() {
		m.Log.Error("session middleware: a handler has returned while a goroutine of its own still uses the session")
		return
	}
	m.observer.Released(&x.Request)
	x.Presented.Reset()
	x.outer = nil
	m.pool.Put(x)
}

// Open opens the session that x.Presented names, for a request that arrived at noted.
func (m *Middleware) Open(ctx context.Context, x *Exchange, client netip.Addr, userAgent []byte, noted time.Time) error {
	err := m.Manager.Open(ctx, &x.Request, &x.Presented, coatcheck.Client{IP: client, UserAgent: userAgent}, m.Manager.Arrival(noted))
	if m.dbsc != "" {
		x.OfferBinding()
	}
	m.observer.Opened(&x.Request, err)
	return err
}

// Finish persists the handler's changes. If the answer is sent before the handler returns, Finish is called before that and
// once more at the end.
func (m *Middleware) Finish(ctx context.Context, x *Exchange) error {
	err := x.Finish(ctx)
	if err != nil || !x.finished {
		m.observer.Finished(&x.Request, err)
	}
	x.finished = true
	return err
}

// SetCookie appends to dst the value of the Set-Cookie line that the response needs; nothing if it needs none.
func (m *Middleware) SetCookie(dst []byte, x *Exchange) []byte {
	if x.Cookie() == coatcheck.KeepCookie {
		return dst
	}
	return m.Cookie.AppendLine(dst, &x.Request, m.Manager.Now())
}

// Mounted reports whether a request has already come through this middleware, or through one of the same cookie, store and
// settings, and so has its session. An error means that an enclosing middleware has the same cookie, but another store or other
// settings: the session is that one's, and what this one is to refuse would pass.
func (m *Middleware) Mounted(outer *Exchange) (bool, error) {
	for x := outer; x != nil; x = x.outer {
		switch {
		case x.of == m:
			return true, nil
		case x.of.Cookie.Name() != m.Cookie.Name():
		case x.of.Manager != m.Manager && !same(x.of.Manager.Store(), m.Manager.Store()):
			return false, fmt.Errorf("coatcheck: two session middlewares with stores of their own use the cookie %q: name one of them otherwise", m.Cookie.Name())
		case !m.agrees(x.of):
			return false, fmt.Errorf("coatcheck: two session middlewares of one store use the cookie %q with different settings, and those of the inner one would be"+
				" ignored: give both the same settings or one manager, or the inner one a cookie name and a store of its own", m.Cookie.Name())
		default:
			return true, nil
		}
	}
	return false, nil
}

// same compares two stores. One that cannot be compared counts as another: it may be, or have in an interface, a struct with a slice.
func same(a, b coatcheck.Store) bool { return reflect.ValueOf(a).Comparable() && a == b }

// agrees reports whether two middlewares of one store and one cookie name treat sessions alike. Two functions, such as
// Policy.Admits of two managers, cannot be compared and count as different.
func (m *Middleware) agrees(other *Middleware) bool {
	return m.Manager == other.Manager || reflect.DeepEqual(policyOf(m.Manager), policyOf(other.Manager)) &&
		reflect.DeepEqual(m.Cookie, other.Cookie) && slices.Equal(m.Proxies, other.Proxies) && m.dbsc == other.dbsc
}

// policyOf returns the manager's policy as it is in force, for reflect.DeepEqual: without the clock that is the default, because no function
// equals another one.
func policyOf(m *coatcheck.Manager) coatcheck.Policy {
	p := m.Policy()
	p.NotBefore = m.NotBefore()
	if reflect.ValueOf(p.Now).Pointer() == reflect.ValueOf(time.Now).Pointer() {
		p.Now = nil
	}
	return p
}

// Session returns the session that handlers see: the innermost middleware's if name is empty, else that of the cookie of this
// name; a detached session if there is none. x may be nil.
func (x *Exchange) Session(name string) *coatcheck.Session {
	for ; x != nil; x = x.outer {
		if name == "" || x.of.Cookie.Name() == name {
			return x.Lend()
		}
	}
	return new(coatcheck.Session)
}

// Proxies are the addresses of proxies whose X-Forwarded-For is believed.
type Proxies []netip.Prefix

// Client returns the address of the client: peer, the remote address of the connection, unless that is a trusted proxy; then
// the right-most element of the X-Forwarded-For lines that is not a trusted proxy. Elements to the left of it are the
// client's own claims. An element that is no IP address ends the search; the result is then the last trusted proxy found.
func (p Proxies) Client(peer netip.Addr, forwarded Lines) netip.Addr {
	if len(p) == 0 || !p.Trust(peer) {
		return peer
	}
	addr := peer
	lines := forwarded()
	for i := len(lines) - 1; i >= 0; i-- {
		elements := strings.Split(lines[i], ",")
		for j := len(elements) - 1; j >= 0; j-- {
			next, ok := parseAddr(strings.Trim(elements[j], " \t"))
			if !ok {
				return addr
			}
			addr = next
			if !p.Trust(addr) {
				return addr
			}
		}
	}
	return addr
}

// parseAddr reads an address as proxies write it: an IPv6 address may stand in brackets.
func parseAddr(text string) (netip.Addr, bool) {
	inside, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		inside, bracketed = strings.CutSuffix(inside, "]")
	}
	if bracketed {
		text = inside
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil && (!bracketed || addr.Is6())
}

// Lines returns the lines of one header. It is called only where they are needed.
type Lines func() []string

// Trust reports whether the address is one of the proxies.
func (p Proxies) Trust(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Beside calls add for each header that accompanies the session's Set-Cookie: the name cookie and the offer to bind the
// session, or the clear of the name cookie. It is called where SetCookie returned a line.
func (m *Middleware) Beside(x *Exchange, cookies Lines, add func(name, value string)) {
	const setCookie = "Set-Cookie"
	key, c, offered := x.Offered()
	switch {
	case offered:
		add(setCookie, m.Cookie.NameLine(key, x.AbsoluteLeft(m.Manager.Now())))
		add(dbsc.HeaderRegistration, string(dbsc.AppendRegistration(nil, m.dbsc+dbsc.RegisterPath, key, c)))
	case x.Cookie() == coatcheck.ClearCookie && x.OnlyTooOld():
		// The device can still renew the session, for which the browser needs the name.
	case x.Cookie() == coatcheck.ClearCookie && m.dbsc != "",
		// A browser that has another session's name would renew that one, and end up in it.
		(x.Cookie() == coatcheck.ClearCookie || x.Report().Created > 0) && m.Cookie.CarriesName(cookies()):
		add(setCookie, m.Cookie.ClearNameLine())
	}
}

// Early is an answer in place of the handler's, for a request whose session waits for its device.
type Early struct {
	Location string   // where a 307 leads; empty: Problem is the answer
	Problem  *Problem // which touches no cookie
}

// EarlyRequest is what decides about an Early. The funcs are called only where they are needed.
type EarlyRequest struct {
	Header  func(name string) string // the first line of a header
	Cookies Lines
	Method  string
	Target  func() string // as it was received
}

// Early returns the answer in place of the handler's, nil if the handler is to be called. A navigation whose token is too old is
// redirected to its own address, without that token, so that the browser renews it on the way. A request whose browser says that it
// could not renew the token is told to come back, unless it renews now: what a browser sends for that has the session's name or a proof. A
// live session is never affected, and costs nothing.
func (m *Middleware) Early(x *Exchange, q EarlyRequest) *Early {
	if !x.Key().IsZero() {
		return nil
	}
	if q.Header(dbsc.HeaderSkipped) != "" && q.Header(dbsc.HeaderName) == "" && q.Header(dbsc.HeaderProof) == "" {
		if _, ok := m.Cookie.FindName(q.Cookies()); ok {
			return &Early{Problem: bindingPending}
		}
	}
	if x.OnlyTooOld() && q.Method == "GET" && q.Header("Sec-Fetch-Mode") == "navigate" {
		if target := q.Target(); ownpath.Is(target) {
			return &Early{Location: target}
		}
	}
	return nil
}
