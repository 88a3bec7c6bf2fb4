package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/server/login"
)

// The stable names of the server's audit events, beside those of sessions.
const (
	eventLogin          = "login"
	eventLoginFailed    = "login_failed"
	eventLoginThrottled = "login_throttled"
	eventRefresh        = "refresh"
	eventLogout         = "logout"
	eventCrossSite      = "cross_site_refused"
)

// audit writes security events as structured log lines. None of them holds a token or a password; every attribute is of
// bounded length.
type audit struct {
	*middleware.Events
	log     *slog.Logger
	metrics *metrics
}

func newAudit(log *slog.Logger, now func() time.Time, metrics *metrics) *audit {
	return &audit{Events: middleware.NewEvents(log, now), log: log, metrics: metrics}
}

func (a *audit) refreshed(r *coatcheck.Request) {
	if user := r.UserID(); user != "" {
		a.Write(r.Client().IP, slog.LevelInfo, eventRefresh, "ok", middleware.User(user), slog.String("session_id", r.ID().String()))
	}
}

// began logs a login: the user whose session began, and the carried session that ended for it.
func (a *audit) began(r *coatcheck.Request, carriedUser string, carried coatcheck.ID) {
	a.Write(r.Client().IP, slog.LevelInfo, eventLogin, "ok", middleware.User(r.UserID()), slog.String("session_id", r.ID().String()), middleware.Expires(&r.Session))
	if n := r.Report().Replaced; n > 0 {
		a.Write(r.Client().IP, slog.LevelInfo, middleware.EventRevoke, "ok", slog.String("reason", "login"), middleware.User(carriedUser),
			slog.String("session_id", carried.String()), slog.Int("sessions", n))
	}
}

// ended logs that n sessions of the user were ended.
func (a *audit) ended(client netip.Addr, event, user, sessionID string, n int) {
	a.Write(client, slog.LevelInfo, event, "ok", middleware.User(user), slog.String("session_id", sessionID), slog.Int("sessions", n))
}

// endedByOperator is ended for sessions that were ended without a request.
func (a *audit) endedByOperator(user string, n int) {
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "audit", slog.String("event", middleware.EventRevoke), slog.String("outcome", "ok"),
		slog.String("reason", "users file"), middleware.User(user), slog.Int("sessions", n))
}

func (a *audit) loginFailed(client netip.Addr, user string, err error) {
	reason, event := outcomeUnavailable, eventLoginFailed
	var throttled *login.Throttled
	switch {
	case errors.As(err, &throttled):
		reason, event = throttled.By, eventLoginThrottled
	case errors.Is(err, login.ErrBusy):
		reason = outcomeBusy
	case errors.Is(err, login.ErrRefused):
		reason = outcomeRefused
	case errors.Is(err, coatcheck.ErrClaimsTooLarge):
		reason = outcomeClaims
	case errors.Is(err, coatcheck.ErrRevoked):
		reason = outcomeRevoked
	case errors.Is(err, coatcheck.ErrFull):
		reason = outcomeStoreFull
	}
	a.metrics.login(reason)
	attrs := []slog.Attr{middleware.User(login.Canonical(user))}
	if reason == outcomeUnavailable {
		attrs = append(attrs, slog.String("error", err.Error())) // of a back end or a store, whose answers are not quoted
	}
	a.Write(client, slog.LevelWarn, event, reason, attrs...)
}

func (a *audit) crossSite(client netip.Addr, origin []byte) {
	a.metrics.crossSite.Inc()
	origin = origin[:min(len(origin), 256)]
	a.Write(client, slog.LevelWarn, eventCrossSite, "refused", slog.String("origin", string(origin)))
}
