package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Events writes the security events of sessions as structured log lines. None of them holds a token; every attribute is of
// bounded length. Safe for concurrent use.
type Events struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	counts   map[string]*lineCount // guarded by mu: by event
	reported map[report]time.Time  // guarded by mu: when an event of a session was last reported
	purged   time.Time             // guarded by mu: when old entries were last removed from reported
	lastErr  time.Time             // guarded by mu: when a store error was last reported
	errs     int                   // guarded by mu: store errors since then
}

// lineCount counts the lines of one kind of event.
type lineCount struct {
	began   time.Time // of the minute that shown counts
	shown   int
	omitted int // since the last line
}

// The stable names of the events.
const (
	EventLogin        = "login"
	EventLogout       = "logout"
	EventRevoke       = "revoke" // a session was ended, but not by its own request
	eventReuse        = "reuse"
	eventWatchLeft    = "watch_rotated"
	eventRenew        = "renew"
	eventTooOld       = "bound_token_too_old" // a copy, perhaps: browsers drop the token before
	eventBound        = "device_bound"
	eventProved       = "device_proved"
	eventNotProved    = "device_proof_failed"
	kindUnnamedProof  = eventNotProved + " without a session"
	eventDuplicate    = "duplicate_cookie"
	eventStoreError   = "store_error"
	eventNotPersisted = "not_persisted"
	eventNotRotated   = "not_rotated"
)

const (
	// linesPerMinute is the limit of each kind of event that is not kept: anybody can cause some of them, at any rate.
	linesPerMinute = 60
	// reuseEvery is the minimum time between two reports of one session's reuse, and of its other events of this kind.
	reuseEvery = time.Minute
	// reuseMax bounds the size of reported. Beyond it, within a minute, a session that was reported may be reported again. Each
	// is a session of a user who has logged in.
	reuseMax = 100_000
	// storeErrorEvery keeps an outage from filling the log with one line a request.
	storeErrorEvery = time.Second
)

// NewEvents returns events that go to log and are limited by the clock now.
func NewEvents(log *slog.Logger, now func() time.Time) *Events {
	return &Events{log: log, now: now, counts: make(map[string]*lineCount), reported: make(map[report]time.Time)}
}

// Write writes one event about a request of client, unless its kind has had its lines of this minute; then it counts the
// event, and the next line of the kind says how many were omitted. Events that are kept are always written. An attribute
// that is costly is a slog.LogValuer, which is asked only if the line is written.
func (e *Events) Write(client netip.Addr, level slog.Level, event, outcome string, attrs ...slog.Attr) {
	e.writeAs(event, client, level, event, outcome, attrs...)
}

// writeAs is Write for an event that is counted as another kind.
func (e *Events) writeAs(kind string, client netip.Addr, level slog.Level, event, outcome string, attrs ...slog.Attr) {
	if !e.Writes(level) {
		return
	}
	all := append([]slog.Attr{
		slog.String("event", event), slog.String("outcome", outcome), slog.String("client", client.String()),
	}, attrs...)
	e.Log(level, kind, "audit", all...)
}

// Writes reports whether lines of this level are written at all.
func (e *Events) Writes(level slog.Level) bool { return e.log.Enabled(context.Background(), level) }

// Log is Write for a line that is no audit event; event is its kind.
func (e *Events) Log(level slog.Level, event, msg string, attrs ...slog.Attr) {
	if isKept(event) {
		e.log.LogAttrs(keptContext, level, msg, attrs...)
		return
	}
	if !e.Writes(level) {
		return
	}
	show, omitted := e.count(event)
	if !show {
		return
	}
	if omitted > 0 {
		attrs = append(attrs, slog.Int("omitted", omitted))
	}
	e.log.LogAttrs(context.Background(), level, msg, attrs...)
}

// count counts a line, and reports whether it is written and how many of its kind before it were not.
func (e *Events) count(event string) (show bool, omitted int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, now := e.counts[event], e.now()
	if c == nil {
		c = new(lineCount)
		e.counts[event] = c // as many as there are constants
	}
	if passed(c.began, now, time.Minute) {
		c.began, c.shown = now, 0
	}
	if c.shown == linesPerMinute {
		c.omitted++
		return false, 0
	}
	c.shown++
	omitted, c.omitted = c.omitted, 0
	return true, omitted
}

// isKept reports whether each event of the kind is written: what begins and ends sessions, and what shows that a token was
// stolen. None of them can be caused without a credential or the token of a session.
func isKept(event string) bool {
	switch event {
	case EventLogin, EventLogout, EventRevoke, eventReuse:
		return true
	}
	return false
}

type keptKey struct{}

var keptContext = context.WithValue(context.Background(), keptKey{}, true)

// Kept reports whether a record that is logged with this context is one that other lines must not push out of the log. A
// slog.Handler calls it with the context that it gets.
func Kept(ctx context.Context) bool { return ctx.Value(keptKey{}) != nil }

// User is the attribute of a user ID. It is cut, because a user ID in an administrator's path has no bound.
func User(user string) slog.Attr {
	return slog.String("user", user[:min(len(user), coatcheck.MaxUserID)])
}

// Expires is when a session ends if it is not used any more. No event reports that end: a store may notice it late, and Redis
// does not report it.
func Expires(s *coatcheck.Session) slog.Attr { return slog.Time("expires", s.ExpiresAt().UTC()) }

// Opened writes the events of opening the request's session; err is the error of Manager.Open.
func (e *Events) Opened(r *coatcheck.Request, err error) {
	if err != nil {
		e.Failed(r.Client().IP, err)
		return
	}
	if !r.Eventful() {
		return
	}
	rep, client := r.Report(), r.Client().IP
	if rep.Duplicate {
		e.Write(client, slog.LevelWarn, eventDuplicate, "anonymous")
	}
	if rep.Reused.Key != (coatcheck.Key{}) && e.mayReport(report{eventReuse, rep.Reused.Key}) {
		outcome := "refused"
		if rep.Reused.Revoked {
			outcome = "revoked"
		}
		e.Write(client, slog.LevelWarn, eventReuse, outcome, User(rep.Reused.User), slog.String("session_id", rep.Reused.ID.String()))
	}
	if left := rep.Left; left.Key != (coatcheck.Key{}) && e.mayReport(report{eventWatchLeft, left.Key}) {
		e.Write(client, slog.LevelInfo, eventWatchLeft, "rotated", User(left.User), slog.String("session_id", left.ID.String()))
	}
	if old := rep.TooOld; old.Key != (coatcheck.Key{}) && e.mayReport(report{eventTooOld, old.Key}) {
		e.Write(client, slog.LevelWarn, eventTooOld, "refused", User(old.User), slog.String("session_id", old.ID.String()))
	}
	if rep.Reused.Revoked { // always written: the end of a session must not be lost to the limit above
		e.Write(client, slog.LevelWarn, EventRevoke, "ok", slog.String("reason", "reuse"), User(rep.Reused.User),
			slog.String("session_id", rep.Reused.ID.String()), slog.Int("sessions", 1))
	}
}

// Finished writes the events of persisting the request's session; err is the error of Request.Finish.
func (e *Events) Finished(r *coatcheck.Request, err error) {
	if err != nil {
		e.Failed(r.Client().IP, err)
		return
	}
	if !r.Eventful() {
		return
	}
	rep := r.Report()
	if rep.LimitEnded > 0 {
		e.Write(r.Client().IP, slog.LevelInfo, EventRevoke, "ok", slog.String("reason", "limit"), User(rep.LimitUser), slog.Int("sessions", rep.LimitEnded))
	}
	if rep.NotNoted > 0 {
		e.Failed(r.Client().IP, fmt.Errorf("the session was not renewed, which is left to its next request: %w", rep.NotNotedFor))
	}
	if rep.Renewed > 0 && len(r.RawUserID()) > 0 && e.Writes(slog.LevelDebug) {
		e.Write(r.Client().IP, slog.LevelDebug, eventRenew, "ok", User(r.UserID()), slog.String("session_id", r.ID().String()), Expires(&r.Session))
	}
}

// Failed writes that what a request of client asked for was not done, unless the error is the client's.
func (e *Events) Failed(client netip.Addr, err error) {
	switch p := ProblemOf(err); {
	case errors.Is(err, coatcheck.ErrHeaderSent): // the one error of a commit that was done, see Session.Commit
		e.Log(slog.LevelError, eventNotRotated, "the session's token was not rotated, its changes were persisted", slog.Any("error", err))
	case p == Internal, p == tooLarge, p == sessionBusy: // not the store's doing; if the answer has been sent, only the log shows it
		e.Log(slog.LevelError, eventNotPersisted, "the session's changes were not persisted", slog.Any("error", err))
	case p.Status == http.StatusServiceUnavailable:
		e.storeFailed(client, err)
	}
}

// storeFailed writes, at most once a second, that the store could not do what a request of client asked for.
func (e *Events) storeFailed(client netip.Addr, err error) {
	e.mu.Lock()
	e.errs++
	n, now := e.errs, e.now()
	quiet := !passed(e.lastErr, now, storeErrorEvery)
	if !quiet {
		e.errs, e.lastErr = 0, now
	}
	e.mu.Unlock()
	if !quiet {
		e.Write(client, slog.LevelError, eventStoreError, "unavailable", slog.String("error", err.Error()), slog.Int("count", n))
	}
}

// Device writes the event of a device's request.
func (e *Events) Device(r *coatcheck.Request, route DeviceRoute, outcome DeviceOutcome) {
	attrs := []slog.Attr{slog.String("route", string(route))}
	if user, id := r.Named(); id != (coatcheck.ID{}) {
		attrs = append(attrs, User(user), slog.String("session_id", id.String()))
	}
	client := r.Client().IP
	switch outcome {
	case DeviceOK:
		if route == DeviceRegister {
			e.Write(client, slog.LevelInfo, eventBound, "ok", attrs...)
		} else {
			e.Write(client, slog.LevelDebug, eventProved, "ok", attrs...)
		}
	case DeviceRefused, DeviceBound, DeviceThrottled:
		switch key := r.NamedKey(); {
		case key.IsZero(): // anybody can cause it: it has a limit of its own, and pushes out no line of a session
			e.writeAs(kindUnnamedProof, client, slog.LevelWarn, eventNotProved, string(outcome), attrs...)
		case e.mayReport(report{eventNotProved, key}):
			e.Write(client, slog.LevelWarn, eventNotProved, string(outcome), attrs...)
		}
	case DeviceChallenge, DeviceGone, DeviceFailed: // a step of each refresh; a session that has ended; reported as a failure of the store
	}
}

// report is what is reported at most once a minute.
type report struct {
	event string
	key   coatcheck.Key
}

func (e *Events) mayReport(key report) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if last, ok := e.reported[key]; ok && !passed(last, now, reuseEvery) {
		return false
	}
	if len(e.reported) >= reuseMax && passed(e.purged, now, time.Second) { // not with each call, because it looks at all entries
		e.purged = now
		for k, t := range e.reported {
			if passed(t, now, reuseEvery) {
				delete(e.reported, k)
			}
		}
	}
	if len(e.reported) >= reuseMax {
		for other := range e.reported { // a full map must not keep another session's reuse out of the log
			delete(e.reported, other)
			break
		}
	}
	e.reported[key] = now
	return true
}

// passed reports whether d has passed since last. A clock that was ahead and was set back must not silence reports until it
// has caught up.
func passed(last, now time.Time, d time.Duration) bool {
	since := now.Sub(last)
	return since >= d || since < 0
}

// Released does nothing: events are written when they happen.
func (*Events) Released(*coatcheck.Request) {}
