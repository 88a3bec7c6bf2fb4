package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
)

// sessionView is one session as its user, or an administrator, sees it.
type sessionView struct {
	Handle     string    `json:"handle"`
	SessionID  string    `json:"session_id"`
	Current    *bool     `json:"current,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	IP         *string   `json:"ip"`
	UserAgent  string    `json:"user_agent"`
}

// sessionViews returns the user's live sessions, newest first. A zero current leaves that member out.
func (s *Server) sessionViews(ctx context.Context, user string, current coatcheck.Key) ([]sessionView, error) {
	views := []sessionView{}
	err := s.manager.List(ctx, user, func(r *coatcheck.Record) bool {
		v := sessionView{
			Handle:     r.Key.Handle().String(),
			SessionID:  r.ID.String(),
			CreatedAt:  time.UnixMilli(r.CreatedAt).UTC(),
			LastSeenAt: time.UnixMilli(r.LastSeen).UTC(),
			ExpiresAt:  time.UnixMilli(r.Expiry()).UTC(),
			UserAgent:  strings.ToValidUTF8(string(r.UserAgent()), "\uFFFD"),
		}
		if ip := r.IP(); ip.IsValid() {
			text := ip.String()
			v.IP = &text
		}
		if current != (coatcheck.Key{}) {
			isCurrent := r.Key == current
			v.Current = &isCurrent
		}
		views = append(views, v)
		return true
	})
	slices.SortFunc(views, func(a, b sessionView) int {
		if n := b.CreatedAt.Compare(a.CreatedAt); n != 0 {
			return n
		}
		return strings.Compare(a.Handle, b.Handle)
	})
	return views, err
}

// mayEndOthers refuses a session whose login is too old to end others: whoever holds a stolen one should not be able to
// lock its owner out (ASVS 7.5.2). A session may always end itself.
func (s *Server) mayEndOthers(sess *coatcheck.Session) error {
	if s.reauth > 0 && s.sessions.now().Sub(sess.CreatedAt()) > s.reauth {
		return problemReauth
	}
	return nil
}

// caller returns whose session it is, or the refusal.
func caller(sess *coatcheck.Session) (user string, err error) {
	if user = sess.UserID(); user == "" {
		return "", problemUnauthenticated
	}
	return user, nil
}

func (s *Server) listSessions(c *fiber.Ctx, sess *coatcheck.Session) error {
	user, err := caller(sess)
	if err != nil {
		return err
	}
	ctx := s.sessions.context(c.Context())
	if err := sess.Finish(ctx); err != nil { // so that the list shows this request, too
		return s.sessions.fail(c, err)
	}
	views, err := s.sessionViews(ctx, user, sess.Key())
	if err != nil {
		return s.sessions.fail(c, err)
	}
	return c.JSON(fiber.Map{"sessions": views})
}

// endSession ends one of the caller's sessions. Somebody else's and one that does not exist get the same answer.
func (s *Server) endSession(c *fiber.Ctx, sess *coatcheck.Session) error {
	user, err := caller(sess)
	if err != nil {
		return err
	}
	ctx := s.sessions.context(c.Context())
	key, id, err := s.findSession(ctx, user, c.Params("id"))
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemSessionNotFound
	case err != nil:
		return s.sessions.fail(c, err)
	case key == sess.Key():
		sess.Destroy()
		err = sess.Commit(ctx)
	default:
		if err := s.mayEndOthers(sess); err != nil {
			return err
		}
		err = s.endOne(ctx, key, user)
	}
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemSessionNotFound // it ended a moment ago
	case err != nil:
		return s.sessions.fail(c, err)
	}
	s.audit.ended(c.Context(), eventRevoke, user, id.String(), 1)
	return c.SendStatus(fiber.StatusNoContent)
}

// findSession returns the user's session that has this handle, current or previous ID.
func (s *Server) findSession(ctx context.Context, user, name string) (key coatcheck.Key, id coatcheck.ID, err error) {
	want, ok := coatcheck.ParseID([]byte(name))
	if !ok || want == (coatcheck.ID{}) {
		return key, id, coatcheck.ErrNotFound
	}
	err = s.manager.List(ctx, user, func(r *coatcheck.Record) bool {
		if r.ID == want || r.PrevID == want || coatcheck.ID(r.Key.Handle()) == want {
			key, id = r.Key, r.ID
		}
		return key == coatcheck.Key{}
	})
	if err == nil && key == (coatcheck.Key{}) {
		err = coatcheck.ErrNotFound
	}
	return key, id, err
}

// endSessions signs the caller out everywhere else, and with ?current=true here too.
func (s *Server) endSessions(c *fiber.Ctx, sess *coatcheck.Session) error {
	user, err := caller(sess)
	if err != nil {
		return err
	}
	if err := s.mayEndOthers(sess); err != nil {
		return err
	}
	keep, id := sess.Key(), sess.ID().String()
	here := false
	switch c.Query("current", "false") {
	case "false":
	case "true":
		here = true
	default:
		return problemBadQuery
	}
	if here {
		keep = coatcheck.Key{}
	}
	ctx := s.sessions.context(c.Context())
	n, err := s.endUser(ctx, user, keep)
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemUnauthenticated // the caller's own session ended meanwhile
	case err != nil:
		return s.sessions.fail(c, err)
	}
	if here {
		sess.Destroy()
		if err := sess.Commit(ctx); err != nil {
			return s.sessions.fail(c, err)
		}
	}
	s.audit.ended(c.Context(), eventRevoke, user, id, n)
	return c.JSON(fiber.Map{"revoked": n})
}
