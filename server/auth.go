package server

import (
	"errors"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// refreshedValue is the session value that tells whether the session was refreshed since the login.
const refreshedValue = "refreshed"

// login begins a session for whoever the mode lets in. A refused one leaves the carried session alone.
func (s *Server) login(c *fiber.Ctx, sess *coatcheck.Session) error {
	attempt, remember, err := readLogin(c.Request())
	if err != nil {
		return err
	}
	ctx := s.sessions.context(c.Context())
	carriedUser, carried := sess.UserID(), sess.ID()
	attempt.Client = s.sessions.proxies.client(c.Context())
	if err := sess.BeginLogin(ctx, s.userOf(attempt.UserID)); err != nil {
		return s.sessions.fail(c, err)
	}
	user, err := s.mode.Check(ctx, attempt)
	if err == nil {
		err = sess.Authenticate(user) // fails if what the mode answered is no user ID
	}
	if err != nil {
		return s.refuse(c, attempt.UserID, err)
	}
	sess.Remove(refreshedValue)
	if remember {
		sess.Remember(s.remember)
	}
	if err := sess.Commit(ctx); err != nil {
		s.audit.loginFailed(c.Context(), user, err)
		return s.sessions.fail(c, err)
	}
	s.audit.began(c.Context(), sess, carriedUser, carried)
	s.metrics.login(outcomeOK)
	return writeView(c, sess)
}

// userOf returns whom a login by this name is for, where the mode knows before it has checked anything.
func (s *Server) userOf(name string) string {
	if m, ok := s.mode.(interface{ UserOf(name string) string }); ok {
		return m.UserOf(name)
	}
	return name
}

// refuse answers for a login that the mode did not let in.
func (s *Server) refuse(c *fiber.Ctx, user string, err error) error {
	s.audit.loginFailed(c.Context(), user, err)
	var throttled *login.Throttled
	switch {
	case errors.As(err, &throttled):
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(throttled.Seconds()))
		return problemLoginThrottled
	case errors.Is(err, login.ErrRefused):
		return problemLoginRefused
	case errors.Is(err, login.ErrBusy):
		return problemLoginBusy
	default:
		return problemLoginBackEnd
	}
}

func (s *Server) me(c *fiber.Ctx, sess *coatcheck.Session) error { return writeView(c, sess) }

// refresh rotates the token of a user's live session. If the session ends meanwhile, the view is the anonymous one.
func (s *Server) refresh(c *fiber.Ctx, sess *coatcheck.Session) error {
	if len(sess.RawUserID()) == 0 {
		return writeView(c, sess)
	}
	if err := sess.Insert(refreshedValue, true); err != nil {
		return s.sessions.fail(c, err)
	}
	sess.Rotate()
	if err := sess.Commit(s.sessions.context(c.Context())); err != nil {
		return s.sessions.fail(c, err)
	}
	if sess.Report().Rotated > 0 {
		s.audit.session(c.Context(), eventRefresh, sess)
	}
	return writeView(c, sess)
}

// logout ends every live session among the request's cookies, and clears the cookie whether there was one or not.
func (s *Server) logout(c *fiber.Ctx, sess *coatcheck.Session) error {
	user, id := sess.UserID(), sess.ID()
	sess.Destroy()
	if err := sess.Commit(s.sessions.context(c.Context())); err != nil {
		return s.sessions.fail(c, err)
	}
	if n := sess.Report().Ended; n > 0 {
		s.audit.ended(c.Context(), eventLogout, user, id.String(), n)
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// writeView answers with the four members of the contract.
func writeView(c *fiber.Ctx, sess *coatcheck.Session) error {
	var space [256]byte
	body := appendView(space[:0], sess)
	c.Response().Header.SetContentTypeBytes(contentTypeJSON)
	c.Response().SetBody(body)
	return nil
}

var contentTypeJSON = []byte("application/json")

func appendView(b []byte, sess *coatcheck.Session) []byte {
	user := sess.RawUserID()
	if len(user) == 0 {
		return append(b, `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`...)
	}
	b = append(b, `{"authenticated":true,"user_id":`...)
	b = appendJSONString(b, user)
	b = append(b, `,"refreshed":`...)
	if raw, _ := sess.Raw(refreshedValue); string(raw) == "true" {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"session_id":"`...)
	b, _ = sess.ID().AppendText(b) // never fails
	return append(b, `"}`...)
}
