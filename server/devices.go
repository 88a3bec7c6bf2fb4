package server

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/internal/perminute"
)

// sessionView is a session as its user, or an administrator, sees it.
type sessionView struct {
	Handle     coatcheck.Handle `json:"handle"`
	SessionID  coatcheck.ID     `json:"session_id"`
	Current    *bool            `json:"current,omitempty"`
	Bound      bool             `json:"bound"`
	CreatedAt  timestamp        `json:"created_at"`
	CreatedIP  *netip.Addr      `json:"created_ip"`
	LastSeenAt timestamp        `json:"last_seen_at"`
	ExpiresAt  timestamp        `json:"expires_at"`
	IP         *netip.Addr      `json:"ip"`
	UserAgent  string           `json:"user_agent"`
}

// timestamp is a time as the API writes it: RFC 3339 in UTC, with exactly three digits of fraction, because some clients
// misread a field of varying width.
type timestamp time.Time

// MarshalText implements encoding.TextMarshaler.
func (t timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00"), nil
}

func viewOf(one *coatcheck.Info) sessionView {
	return sessionView{
		Handle:     one.Handle,
		SessionID:  one.ID,
		Bound:      one.Bound,
		CreatedAt:  timestamp(one.CreatedAt),
		CreatedIP:  known(one.CreatedIP),
		LastSeenAt: timestamp(one.LastSeenAt),
		ExpiresAt:  timestamp(one.ExpiresAt),
		IP:         known(one.LastIP),
		UserAgent:  strings.ToValidUTF8(one.UserAgent, "\uFFFD"),
	}
}

// known returns nil, which becomes null, for an address that is not known.
func known(addr netip.Addr) *netip.Addr {
	if !addr.IsValid() {
		return nil
	}
	return &addr
}

// sessionViews returns the user's live sessions, newest first. A zero current leaves that member out.
func (s *Server) sessionViews(ctx context.Context, user string, current coatcheck.Key) ([]sessionView, error) {
	sessions, err := s.manager.List(ctx, user)
	views := make([]sessionView, 0, len(sessions))
	for _, one := range sessions {
		v := viewOf(&one)
		if !current.IsZero() {
			isCurrent := one.Key == current
			v.Current = &isCurrent
		}
		views = append(views, v)
	}
	return views, err
}

// mayEndOthers refuses a session whose login is too old to end others, because the holder of a stolen session should not be
// able to lock its owner out (ASVS 7.5.2). A session may always end itself.
func (s *Server) mayEndOthers(r *coatcheck.Request) error {
	// A session that began while the clock was ahead proves no recent login either; a minute is what clocks of nodes may differ by.
	if age := s.manager.Now().Sub(s.loggedInAt(r)); s.reauth > 0 && (age > s.reauth || age < -time.Minute) {
		return problemReauth
	}
	return nil
}

// loggedInAt is when the session's user logged in: when the session began, or when the provider authenticated the person, if that is
// earlier by more than the minute that clocks may differ by. A provider with single sign-on begins sessions for whoever sits at the
// browser.
func (s *Server) loggedInAt(r *coatcheck.Request) time.Time {
	at := r.CreatedAt()
	var space [noteSpace]byte
	if note := noted(space[:0], r, authTimeValue); len(note) == 8 && s.provider != nil {
		if authenticated := time.UnixMilli(int64(binary.BigEndian.Uint64(note))); authenticated.Before(at.Add(-time.Minute)) {
			return authenticated
		}
	}
	return at
}

// A session may end others of its user only so often, because the holder of a stolen session must not be able to sign its owner
// out again and again, and because each try reads the user's list of sessions.
const (
	// endOthersPerMinute is how often a session may end all others in a minute.
	endOthersPerMinute = 6
	// endOnePerMinute is how often it may end, or try to end, a single one.
	endOnePerMinute = 60
	// endLimitSessions bounds the memory of these counts. Each key is a session of a user.
	endLimitSessions = 100_000
)

// mayEndNow counts a request against the limit of its session, or refuses it.
func (s *Server) mayEndNow(c *fiber.Ctx, r *coatcheck.Request, limit *perminute.Counts[coatcheck.Key]) error {
	wait := limit.Allow(r.Key(), s.manager.Now())
	if wait == 0 {
		return nil
	}
	c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	return problemTooManyEnds
}

// caller returns the user of the session, or the refusal.
func caller(r *coatcheck.Request) (user string, err error) {
	if user = r.UserID(); user == "" {
		return "", problemUnauthenticated
	}
	return user, nil
}

func (s *Server) listSessions(c *fiber.Ctx, r *coatcheck.Request) error {
	user, err := caller(r)
	if err != nil {
		return err
	}
	ctx := s.context(c.Context())
	if err := r.Finish(ctx); err != nil { // so that the list shows this request, too
		return err
	}
	views, err := s.sessionViews(ctx, user, r.Key())
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"sessions": views})
}

// endSession ends one of the caller's sessions. Another user's session and one that does not exist get the same answer.
func (s *Server) endSession(c *fiber.Ctx, r *coatcheck.Request) error {
	user, err := caller(r)
	if err != nil {
		return err
	}
	ctx, name := s.context(c.Context()), c.Params("id")
	if name != r.ID().String() && name != r.Key().Handle().String() { // a session may always end itself
		if err := s.mayEndNow(c, r, s.endOneLimit); err != nil {
			return err
		}
	}
	found, err := s.manager.Find(ctx, user, name)
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemSessionNotFound
	case err != nil:
		return err
	case found.Key == r.Key():
		return s.logout(c, r)
	default:
		if err := s.mayEndOthers(r); err != nil {
			return err
		}
		err = s.endOne(ctx, user, found.Key)
	}
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemSessionNotFound // it ended a moment ago
	case err != nil:
		return err
	}
	s.audit.ended(r.Client().IP, middleware.EventRevoke, user, found.ID.String(), 1)
	return c.SendStatus(fiber.StatusNoContent)
}

// endSessions signs the caller out everywhere else, and with ?current=true here too.
func (s *Server) endSessions(c *fiber.Ctx, r *coatcheck.Request) error {
	user, err := caller(r)
	if err != nil {
		return err
	}
	here := false
	switch string(c.Request().URI().QueryString()) { // a misspelt parameter must end nothing
	case "":
	case "current=true":
		here = true
	default:
		return problemBadQuery
	}
	if err := s.mayEndOthers(r); err != nil {
		return err
	}
	if err := s.mayEndNow(c, r, s.endOthersLimit); err != nil {
		return err
	}
	ctx, keep := s.context(c.Context()), r.Key()
	if here {
		keep = coatcheck.Key{}
	}
	n, err := s.endOthers(ctx, user, keep)
	if err == nil || n > 0 {
		s.audit.ended(r.Client().IP, middleware.EventRevoke, user, "", n)
	}
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemUnauthenticated // the caller's own session ended meanwhile
	case err != nil:
		return err
	}
	if here {
		r.Destroy()
		err := r.Commit(ctx)
		s.audit.ends(r)
		if err != nil {
			return err
		}
	}
	return c.JSON(fiber.Map{"revoked": n})
}
