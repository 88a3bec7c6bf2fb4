package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/internal/origin"
	"github.com/coatcheck/coatcheck/server/internal/conn"
	"github.com/coatcheck/coatcheck/server/internal/remote"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// Limits of every request that the server reads.
const (
	// MaxBody is the most bytes of a request's body; more is 413.
	MaxBody = 16 << 10
	// MaxHeaderLines is the most lines of a request's headers, and of its trailers; more is 431.
	MaxHeaderLines = conn.MaxLines
)

// MaxAdminConns is how many connections the admin listener may have, beside those of the public one.
const MaxAdminConns = 64

// Bounds and default of Config.MaxHeader.
const (
	minMaxHeader     = 1 << 10
	defaultMaxHeader = 8 << 10
	maxMaxHeader     = 64 << 10
)

const (
	// writeBuffer holds any response but long lists, which take one more write.
	writeBuffer = 2 << 10
)

// Config is how the server behaves. The zero value of each field is its default and is safe.
type Config struct {
	// Policy is how long sessions live.
	Policy coatcheck.Policy
	// Cookie is what the session cookie looks like.
	Cookie Cookie
	// DBSC offers at each login to bind the session to the browser's device (Device Bound Session Credentials): the token in the
	// cookie then opens the session for Policy.BoundTTL only, and only the holder of the device's key gets the next one. It needs a
	// Secure cookie without a Domain. False: no login offers it; sessions that are bound already are renewed nevertheless.
	DBSC bool
	// Logger receives audit events and errors. Nil: slog.Default().
	Logger *slog.Logger

	// Login decides who may log in. Required by New.
	Login login.Mode
	// OIDC is the provider of login mode oidc, in which Login is login.Provider; nil in other modes.
	OIDC *oidc.Provider
	// OIDCIndex knows which sessions began with which session of the provider. Nil: an index of this server alone, which is filled
	// from the store when the server is made. Over a store that is not shared it keeps there which sessions of the provider have ended.
	OIDCIndex oidc.Index
	// AdminKeys are the keys of which the admin listener requires one as Bearer. Without keys it answers requests to loopback
	// names only, and none of a web page.
	AdminKeys *login.Keys
	// TrustedOrigins may send unsafe requests from another site: "https://app.example.com", with the port if it is not the
	// scheme's own.
	TrustedOrigins []string
	// TrustedProxies are the addresses of proxies whose X-Forwarded-For is believed and, with VerifyLoginURL, whose headers
	// about the original request are believed. None: no proxy is trusted.
	TrustedProxies []netip.Prefix
	// VerifyLoginURL is where verify redirects browsers without a live session by 302, in place of 401: https, or http on
	// loopback. It gets the requested address as parameter rd: a path if the address is on its own origin, a URL if it is on one
	// of TrustedOrigins; nothing if it is on neither, or if no trusted proxy sent it. Empty: 401 for browsers too.
	VerifyLoginURL string
	// RememberTTL is the lifetime, idle or not, of a session whose login asked to be remembered. Zero: not offered.
	RememberTTL time.Duration
	// ReauthWithin is how long after its login a session may end others of its user; where an OpenID Connect provider says when it
	// authenticated the person, counted from then. Zero: for the session's whole life.
	ReauthWithin time.Duration
	// ReadTimeout bounds how long a request may take to arrive. Zero: 5 seconds.
	ReadTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Zero: 60 seconds.
	IdleTimeout time.Duration
	// WritesRefused reports whether the store refuses writes now, and why, in words for an operator; /readyz and a metric show
	// it. It must be cheap, and safe for concurrent use. Nil: the store never does, beyond a single operation.
	WritesRefused func() (reason string, refused bool)
	// ReloadFailed reports whether a file that had to be read again could not be, so that the server works with what it had
	// read before; /readyz shows it. Safe for concurrent use. Nil: nothing is read again.
	ReloadFailed func() bool
	// MaxHeader is the most bytes of a request's line and headers, and of its trailers; more is 431. Zero: 8 KiB. At least 1 KiB,
	// at most 64 KiB.
	MaxHeader int
	// Collectors are shown at /metrics beside the server's own: those of the store, which the server does not know.
	Collectors []prometheus.Collector
	// Trace, unless it is nil, is called when a request on the public listener begins, by several goroutines. The store and the
	// login mode get the context that it returns, which must end no earlier than the request; done is called once, when the
	// response is complete, with its status. Package tracing implements it for OpenTelemetry. A nil Trace costs nothing.
	Trace func(TracedRequest) (_ context.Context, done func(status int))
	// MaxConns bounds the connections of the public listener: when all are taken the longest idle one is closed, and while none is
	// idle no connection is accepted. Zero: no bound.
	MaxConns int
	// MaxConnsPerIP bounds the connections of one client: of an IPv4 address, or of the /64 of an IPv6 address. Zero: no bound.
	MaxConnsPerIP int
}

// Cookie is what the session cookie looks like.
type Cookie = cookie.Config

// Validate returns all mistakes of the configuration, joined.
func (c Config) Validate() error {
	errs := []error{c.Policy.Validate(), c.Cookie.Validate()}
	if c.DBSC {
		errs = append(errs, c.Cookie.ValidateBinding())
	}
	for _, o := range c.TrustedOrigins {
		if err := checkOrigin(o); err != nil {
			errs = append(errs, fmt.Errorf("trusted-origins: %w", err))
		}
	}
	if c.VerifyLoginURL != "" {
		_, _, err := parseLoginURL(c.VerifyLoginURL)
		errs = append(errs, err)
	}
	if c.RememberTTL < 0 {
		errs = append(errs, fmt.Errorf("remember-ttl %v: must not be negative", c.RememberTTL))
	}
	if c.ReauthWithin < 0 {
		errs = append(errs, fmt.Errorf("reauth-within %v: must not be negative", c.ReauthWithin))
	}
	if c.ReadTimeout < 0 {
		errs = append(errs, fmt.Errorf("read-timeout %v: must not be negative", c.ReadTimeout))
	}
	if c.IdleTimeout < 0 {
		errs = append(errs, fmt.Errorf("idle-timeout %v: must not be negative", c.IdleTimeout))
	}
	if c.MaxHeader != 0 && (c.MaxHeader < minMaxHeader || c.MaxHeader > maxMaxHeader) {
		errs = append(errs, fmt.Errorf("max-header %d: must be from 1KiB to 64KiB", c.MaxHeader))
	}
	if c.MaxConns < 0 {
		errs = append(errs, fmt.Errorf("max-conns %d: must not be negative", c.MaxConns))
	}
	if c.MaxConnsPerIP < 0 {
		errs = append(errs, fmt.Errorf("max-conns-per-ip %d: must not be negative", c.MaxConnsPerIP))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 5 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.MaxHeader == 0 {
		c.MaxHeader = defaultMaxHeader
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxConns > 0 { // a watcher's connection is never closed to make room, so watchers leave half of all to others
		c.Policy.MaxWatchers = min(cmp.Or(c.Policy.MaxWatchers, coatcheck.DefaultMaxWatchers), max(1, c.MaxConns/2))
	}
	return c
}

// checkOrigin admits an origin as browsers write it (RFC 6454, section 6.2): scheme, host, and the port if it is not the
// scheme's own; lower case, no path. Such a text compares byte by byte with an Origin header.
func checkOrigin(text string) error {
	u, err := url.Parse(text)
	switch {
	case strings.ContainsAny(text, "@?#"): // it may hold a password
		return errors.New("an origin is scheme, host and port, nothing more; one with a user or a query is there, which is not shown")
	case err != nil:
		return fmt.Errorf("%.100q is not an origin", text)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.100q: an origin begins with http:// or https://", text)
	case u.Host == "" || u.Scheme+"://"+u.Host != text:
		return fmt.Errorf("%.100q: an origin is scheme, host and port, nothing more", text)
	case len(text) > remote.MaxOrigin:
		return fmt.Errorf("%.100q: no host has so long a name", text)
	case strings.Contains(text, "*"):
		return fmt.Errorf("%.100q: an origin has no wildcards", text)
	}
	switch written, err := origin.Of(u); {
	case err != nil:
		return fmt.Errorf("%.100q: %w", text, err)
	case written != text:
		return fmt.Errorf("%.100q: browsers write this origin %q", text, written)
	}
	return nil
}
