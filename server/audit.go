package server

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// The stable names of the server's audit events, beside those of sessions.
const (
	eventLoginFailed    = "login_failed"
	eventLoginThrottled = "login_throttled"
	eventRefresh        = "refresh"
	eventProviderLogout = "provider_logout_failed"
	eventCrossSite      = "cross_site_refused"
	eventPanic          = "panic" // a line, not an audit event
)

// audit writes security events as structured log lines. None of them holds a token or a password, unless somebody types a password as
// a name; every attribute is of bounded length.
type audit struct {
	*middleware.Events
	metrics *metrics
}

func newAudit(log *slog.Logger, now func() time.Time, metrics *metrics) *audit {
	return &audit{Events: middleware.NewEvents(log, now), metrics: metrics}
}

func (a *audit) refreshed(r *coatcheck.Request) {
	if user := r.UserID(); user != "" {
		a.Write(r.Client().IP, slog.LevelInfo, eventRefresh, "ok", middleware.User(user), slog.String("session_id", r.ID().String()))
	}
}

// began logs a login: the user whose session began.
func (a *audit) began(r *coatcheck.Request) {
	if !a.Writes(slog.LevelInfo) {
		return
	}
	a.Write(r.Client().IP, slog.LevelInfo, middleware.EventLogin, "ok", middleware.User(r.UserID()), slog.String("session_id", r.ID().String()), middleware.Expires(&r.Session))
}

// ends logs each session that the request ended because it carried a token of it: for a login, also one that failed after that, or by a
// logout.
func (a *audit) ends(r *coatcheck.Request) {
	for _, end := range r.Report().Ends {
		if end.Replaced {
			a.Write(r.Client().IP, slog.LevelInfo, middleware.EventRevoke, "ok", slog.String("reason", "login"), middleware.User(end.User),
				slog.String("session_id", end.ID.String()), slog.Int("sessions", 1))
		} else {
			a.ended(r.Client().IP, middleware.EventLogout, end.User, end.ID.String(), 1)
		}
	}
}

// ended logs that n sessions of the user were ended. An empty sessionID, of no session in particular, is left out.
func (a *audit) ended(client netip.Addr, event, user, sessionID string, n int) {
	var one slog.Attr // the zero Attr is not written
	if sessionID != "" {
		one = slog.String("session_id", sessionID)
	}
	a.Write(client, slog.LevelInfo, event, "ok", middleware.User(user), one, slog.Int("sessions", n))
}

// endedByOperator is ended for sessions that were ended without a request.
func (a *audit) endedByOperator(user string, n int) {
	a.Log(slog.LevelInfo, middleware.EventRevoke, "audit", slog.String("event", middleware.EventRevoke), slog.String("outcome", "ok"),
		slog.String("reason", "users file"), middleware.User(user), slog.Int("sessions", n))
}

func (a *audit) loginFailed(client netip.Addr, user slog.LogValuer, err error) {
	reason, event := outcomeUnavailable, eventLoginFailed
	var throttled *login.Throttled
	var failed *oidc.Failure
	switch {
	case errors.As(err, &throttled):
		reason, event = throttled.By, eventLoginThrottled
	case errors.Is(err, login.ErrBusy):
		reason = outcomeBusy
	case errors.Is(err, login.ErrRefused):
		reason = outcomeRefused
	case errors.As(err, &failed):
		reason = providerProblems[failed.Kind].Code
	case errors.Is(err, coatcheck.ErrClaimsTooLarge):
		reason = outcomeClaims
	case errors.Is(err, coatcheck.ErrRevoked):
		reason = outcomeRevoked
	case errors.Is(err, coatcheck.ErrFull):
		reason = outcomeStoreFull
	}
	a.metrics.login(reason)
	attrs := []slog.Attr{slog.Any("user", user)}
	if reason == outcomeUnavailable || failed != nil {
		attrs = append(attrs, slog.String("error", err.Error())) // of a back end, whose answers are not quoted, or a store, whose words are bounded
	}
	a.Write(client, slog.LevelWarn, event, reason, attrs...)
}

// endedByProvider is ended for sessions that a logout at the provider has ended. It is written even if there were none any more.
func (a *audit) endedByProvider(client netip.Addr, user string, n int) {
	a.Write(client, slog.LevelInfo, middleware.EventRevoke, "ok", slog.String("reason", "provider"), middleware.User(user), slog.Int("sessions", n))
}

func (a *audit) providerLogoutFailed(client netip.Addr, err error) {
	a.Write(client, slog.LevelWarn, eventProviderLogout, "refused", slog.String("error", err.Error()))
}

// canonicalName is a name as it came, which is normalised only for a line that is written.
type canonicalName string

// LogValue implements slog.LogValuer.
func (n canonicalName) LogValue() slog.Value {
	return middleware.User(login.Canonical(string(n))).Value
}

// typedName is a name that a person has typed, perhaps into the wrong field. What has a token's form is not written.
type typedName string

// LogValue implements slog.LogValuer.
func (n typedName) LogValue() slog.Value {
	name := login.Canonical(string(n))
	for word := range strings.FieldsFuncSeq(name, notOfToken) {
		if len(word) >= coatcheck.TokenLen && !isDigest(word) { // something may stick to a token
			return slog.StringValue("[token]")
		}
	}
	return middleware.User(name).Value
}

// isDigest reports whether a word is 64 hex digits, as IDs of users are that were hashed with SHA-256.
func isDigest(word string) bool {
	return len(word) == 64 && strings.Trim(word, "0123456789abcdef") == ""
}

// notOfToken reports whether no token holds the character, in either case.
func notOfToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func (a *audit) crossSite(client netip.Addr, origin []byte) {
	a.metrics.crossSite.Inc()
	origin = origin[:min(len(origin), 256)]
	a.Write(client, slog.LevelWarn, eventCrossSite, "refused", slog.String("origin", string(origin)))
}
