package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/internal/remote"
	"github.com/coatcheck/coatcheck/server/login"
)

// refreshedValue is the session value that tells whether the session was refreshed since the login.
const refreshedValue = "refreshed"

// checkedValue is the note by which a login tells which claim it has checked so that Remote-User can show it.
const checkedValue = "oidc_remote_user"

// login begins a session if the mode accepts the login. A refused login leaves the carried session alone.
func (s *Server) login(c *fiber.Ctx, r *coatcheck.Request) error {
	attempt, remember, err := s.readLogin(c.Request())
	if err != nil {
		return err
	}
	ctx := s.context(c.Context())
	attempt.Client = r.Client().IP
	var beginning error
	user, err := login.Check(ctx, s.mode, attempt, func(user string) error {
		if !s.traits.DecidesAtOnce {
			beginning = r.BeginLogin(ctx, user)
		}
		return beginning
	})
	if beginning != nil {
		s.audit.loginFailed(r.Client().IP, s.shownName(attempt), beginning)
		return beginning
	}
	if err == nil {
		err = attempt.ClaimsTooLarge
	}
	if err == nil {
		err = s.authenticate(r, user, attempt.Claims)
	}
	if err != nil {
		return s.refuse(c, r, attempt, err)
	}
	r.Remove(refreshedValue)
	if remember {
		r.Remember(s.remember)
	}
	if err := r.Commit(ctx); err != nil {
		s.audit.loginFailed(r.Client().IP, canonicalName(user), err)
		s.audit.ends(r)
		if errors.Is(err, coatcheck.ErrRevoked) {
			s.challenge(c)
		}
		return err
	}
	s.audit.began(r)
	s.audit.ends(r)
	s.metrics.loginsOK.Inc()
	return writeView(c, r)
}

// authenticate begins the user's session with these claims. It fails if the mode returned no valid user ID, or if there is no
// room for the claims. The session notes which claim was checked for Remote-User.
func (s *Server) authenticate(r *coatcheck.Request, user string, claims coatcheck.ClaimSet) error {
	shown := user
	if s.remoteUser != "" {
		shown = claims.Text(s.remoteUser)
	}
	if claims.JSON() != nil && !remote.Fit(shown, claims) {
		return fmt.Errorf("%w for the headers of verify", coatcheck.ErrClaimsTooLarge)
	}
	if err := r.AuthenticateWith(user, claims); err != nil {
		return err
	}
	if s.remoteUser == "" {
		return nil
	}
	if err := leaveNote(r, checkedValue, s.checked[:]); err != nil {
		r.Abandon()
		return fmt.Errorf("%w: %w", coatcheck.ErrClaimsTooLarge, err)
	}
	return nil
}

// refuse answers a login that the mode refused.
func (s *Server) refuse(c *fiber.Ctx, r *coatcheck.Request, a *login.Attempt, err error) error {
	s.audit.loginFailed(r.Client().IP, s.shownName(a), err)
	var throttled *login.Throttled
	switch {
	case errors.As(err, &throttled):
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(throttled.Seconds()))
		return problemLoginThrottled
	case errors.Is(err, login.ErrRefused):
		s.challenge(c)
		return problemLoginRefused
	case errors.Is(err, login.ErrBusy):
		return problemLoginBusy
	case errors.Is(err, coatcheck.ErrClaimsTooLarge):
		return problemClaimsTooLarge
	default:
		return problemLoginBackEnd
	}
}

// shownName is the attempt's name for the log. People type names where they type passwords; elsewhere a back end sends user IDs, of which
// some have a token's form.
func (s *Server) shownName(a *login.Attempt) slog.LogValuer {
	if s.traits.Guesses == login.GuessesPassword {
		return typedName(a.UserID)
	}
	return canonicalName(a.UserID)
}

// challenge sets the WWW-Authenticate of a login's 401, where it is not that of every other 401.
func (s *Server) challenge(c *fiber.Ctx) {
	if s.traits.TakesKeys {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="coatcheck"`)
	}
}

func (s *Server) me(c *fiber.Ctx, r *coatcheck.Request) error { return writeView(c, r) }

// refresh rotates the token of a user's live session. If the session ends meanwhile, the view is the anonymous one.
func (s *Server) refresh(c *fiber.Ctx, r *coatcheck.Request) error {
	if len(r.RawUserID()) == 0 {
		return writeView(c, r)
	}
	if err := r.Insert(refreshedValue, true); err != nil {
		return err
	}
	r.Rotate()
	if err := r.Commit(s.context(c.Context())); err != nil {
		return err
	}
	if r.Report().Rotated > 0 {
		s.audit.refreshed(r)
	}
	return writeView(c, r)
}

// logout ends every live session among the request's cookies, and clears the cookie whether there was one or not.
func (s *Server) logout(c *fiber.Ctx, r *coatcheck.Request) error {
	r.Destroy()
	err := r.Commit(s.context(c.Context()))
	s.audit.ends(r) // those that had ended before a failure, too
	if err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// writeView answers with the four members of the contract.
func writeView(c *fiber.Ctx, r *coatcheck.Request) error {
	var space [256]byte
	body := appendView(space[:0], r)
	c.Response().Header.SetContentTypeBytes(contentTypeJSON)
	c.Response().SetBody(body)
	return nil
}

var (
	contentTypeJSON = []byte("application/json")
	contentTypeForm = []byte("application/x-www-form-urlencoded")
)

func appendView(b []byte, r *coatcheck.Request) []byte {
	user := r.RawUserID()
	if len(user) == 0 {
		return append(b, `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`...)
	}
	b = append(b, `{"authenticated":true,"user_id":`...)
	b = appendJSONString(b, user)
	b = append(b, `,"refreshed":`...)
	if raw, _ := r.Raw(refreshedValue); string(raw) == "true" {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"session_id":"`...)
	b, _ = r.ID().AppendText(b) // never fails
	return append(b, `"}`...)
}
