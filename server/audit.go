package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// The stable names of audit events.
const (
	eventLogin          = "login"
	eventLoginFailed    = "login_failed"
	eventLoginThrottled = "login_throttled"
	eventRefresh        = "refresh"
	eventRenew          = "renew"
	eventLogout         = "logout"
	eventRevoke         = "revoke"
	eventReuse          = "reuse"
	eventDuplicate      = "duplicate_cookie"
	eventCrossSite      = "cross_site_refused"
	eventStoreError     = "store_error"
)

// audit writes security events as structured log lines. None of them holds a token or a password; every attribute is of
// bounded length.
type audit struct {
	log     *slog.Logger
	now     func() time.Time
	proxies proxies
	metrics *metrics // nil with the middleware alone, which knows neither logins nor other sites

	mu       sync.Mutex
	reported map[coatcheck.Key]time.Time // guarded by mu: when a reuse was last reported
	purged   time.Time                   // guarded by mu: when reported was last looked through
	lastErr  time.Time                   // guarded by mu: when a store error was last reported
	errs     int                         // guarded by mu: store errors since
}

const (
	// reuseEvery is how often one session's reuse is reported at most.
	reuseEvery = time.Minute
	// reuseMax bounds the memory of reported; beyond it, within a minute, reuse is counted and not reported.
	reuseMax = 10_000
	// storeErrorEvery keeps an outage from filling the log with one line a request.
	storeErrorEvery = time.Second
)

func newAudit(log *slog.Logger, now func() time.Time, trusted proxies) *audit {
	return &audit{log: log, now: now, proxies: trusted, reported: make(map[coatcheck.Key]time.Time)}
}

func (a *audit) event(ctx *fasthttp.RequestCtx, level slog.Level, event, outcome string, attrs ...slog.Attr) {
	all := append([]slog.Attr{
		slog.String("event", event), slog.String("outcome", outcome), slog.String("client", a.proxies.client(ctx).String()),
	}, attrs...)
	a.log.LogAttrs(context.Background(), level, "audit", all...)
}

// userAttr bounds what an administrator's path may hold; no user ID is longer.
func userAttr(user string) slog.Attr {
	return slog.String("user", user[:min(len(user), coatcheck.MaxUserID)])
}

func (a *audit) session(ctx *fasthttp.RequestCtx, event string, s *coatcheck.Session) {
	if user := s.UserID(); user != "" {
		a.event(ctx, slog.LevelInfo, event, "ok", userAttr(user), slog.String("session_id", s.ID().String()))
	}
}

// began tells of a login: whose session began, and which of those that the request carried ended for it.
func (a *audit) began(ctx *fasthttp.RequestCtx, sess *coatcheck.Session, carriedUser string, carried coatcheck.ID) {
	a.event(ctx, slog.LevelInfo, eventLogin, "ok", userAttr(sess.UserID()), slog.String("session_id", sess.ID().String()), expires(sess))
	if n := sess.Report().Replaced; n > 0 {
		a.event(ctx, slog.LevelInfo, eventRevoke, "ok", slog.String("reason", "login"), userAttr(carriedUser),
			slog.String("session_id", carried.String()), slog.Int("sessions", n))
	}
}

// expires is when a session ends if nobody uses it any more. No event tells of that end: a store may notice it late, and
// Redis tells nobody.
func expires(sess *coatcheck.Session) slog.Attr { return slog.Time("expires", sess.ExpiresAt().UTC()) }

// settled writes the events that persisting a session brought up.
func (a *audit) settled(ctx *fasthttp.RequestCtx, sess *coatcheck.Session) {
	r := sess.Report()
	if r.LimitEnded > 0 {
		a.event(ctx, slog.LevelInfo, eventRevoke, "ok", slog.String("reason", "limit"), userAttr(sess.UserID()), slog.Int("sessions", r.LimitEnded))
	}
	if r.Renewed > 0 && len(sess.RawUserID()) > 0 && a.log.Enabled(context.Background(), slog.LevelDebug) {
		a.event(ctx, slog.LevelDebug, eventRenew, "ok", userAttr(sess.UserID()), slog.String("session_id", sess.ID().String()), expires(sess))
	}
}

// ended tells that n sessions of the user were ended.
func (a *audit) ended(ctx *fasthttp.RequestCtx, event, user, sessionID string, n int) {
	a.event(ctx, slog.LevelInfo, event, "ok", userAttr(user), slog.String("session_id", sessionID), slog.Int("sessions", n))
}

// endedByOperator is ended for what no request asked for.
func (a *audit) endedByOperator(user string, n int) {
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "audit", slog.String("event", eventRevoke), slog.String("outcome", "ok"),
		slog.String("reason", "users file"), userAttr(user), slog.Int("sessions", n))
}

func (a *audit) loginFailed(ctx *fasthttp.RequestCtx, user string, err error) {
	reason, event := outcomeUnavailable, eventLoginFailed
	var throttled *login.Throttled
	switch {
	case errors.As(err, &throttled):
		reason, event = throttled.By, eventLoginThrottled
	case errors.Is(err, login.ErrBusy):
		reason = outcomeBusy
	case errors.Is(err, login.ErrRefused):
		reason = outcomeRefused
	case errors.Is(err, coatcheck.ErrRevoked):
		reason = outcomeRevoked
	case errors.Is(err, coatcheck.ErrFull):
		reason = outcomeStoreFull
	}
	a.metrics.login(reason)
	attrs := []slog.Attr{userAttr(login.Canonical(user))}
	if reason == outcomeUnavailable {
		attrs = append(attrs, slog.String("error", err.Error())) // of a back end or a store, whose answers are not quoted
	}
	a.event(ctx, slog.LevelWarn, event, reason, attrs...)
}

func (a *audit) crossSite(ctx *fasthttp.RequestCtx, origin []byte) {
	a.metrics.crossSite.Inc()
	origin = origin[:min(len(origin), 256)]
	a.event(ctx, slog.LevelWarn, eventCrossSite, "refused", slog.String("origin", string(origin)))
}

// report writes the events that opening and persisting a session brought up.
func (a *audit) report(ctx *fasthttp.RequestCtx, s *coatcheck.Session) {
	r := s.Report()
	if r.Duplicate {
		a.event(ctx, slog.LevelWarn, eventDuplicate, "anonymous")
	}
	if r.Reused.Key != (coatcheck.Key{}) && a.mayReport(r.Reused.Key) {
		outcome := "refused"
		if r.Reused.Revoked {
			outcome = "revoked"
		}
		a.event(ctx, slog.LevelWarn, eventReuse, outcome, userAttr(r.Reused.User), slog.String("session_id", r.Reused.ID.String()))
	}
	if r.Reused.Revoked { // told in any case: that a session ended must not drown in the limit above
		a.event(ctx, slog.LevelWarn, eventRevoke, "ok", slog.String("reason", "reuse"), userAttr(r.Reused.User),
			slog.String("session_id", r.Reused.ID.String()), slog.Int("sessions", 1))
	}
}

func (a *audit) mayReport(key coatcheck.Key) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if last, ok := a.reported[key]; ok && now.Sub(last) < reuseEvery {
		return false
	}
	if len(a.reported) >= reuseMax && now.Sub(a.purged) >= time.Second { // not with each: it looks at all of them
		a.purged = now
		for k, t := range a.reported {
			if now.Sub(t) >= reuseEvery {
				delete(a.reported, k)
			}
		}
	}
	if len(a.reported) >= reuseMax {
		return false
	}
	a.reported[key] = now
	return true
}

func (a *audit) storeError(ctx *fasthttp.RequestCtx, err error) {
	a.mu.Lock()
	a.errs++
	n, now := a.errs, a.now()
	quiet := now.Sub(a.lastErr) < storeErrorEvery
	if !quiet {
		a.errs, a.lastErr = 0, now
	}
	a.mu.Unlock()
	if !quiet {
		a.event(ctx, slog.LevelError, eventStoreError, "unavailable", slog.String("error", err.Error()), slog.Int("count", n))
	}
}
