package middlewaretest

import (
	"encoding/json"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// checkRecipe checks a rule about login, me, refresh and logout on the recipe's application.
func (h *harness) checkRecipe(r httpcontract.Rule) {
	h.Repeats = false
	h.Start = func(edit func(*middleware.Config)) { h.serve(App{Layers: []Layer{h.sessions(edit)}, Handlers: recipe}) }
	r.Run(h.Harness)
}

// refreshed is the session value that tells whether the session was refreshed since the login.
const refreshed = "refreshed"

// recipe is what an application needs so that users can log in and out, as in package server.
var recipe = map[string]Handler{
	"/auth/login": func(c Context) error {
		var body struct {
			UserID string `json:"user_id"`
		}
		if err := json.Unmarshal(c.Body(), &body); err != nil || body.UserID == "" {
			return &Error{Status: 400, Text: "whose?"}
		}
		s := c.Session()
		if err := s.BeginLogin(c.Context(), body.UserID); err != nil {
			return failed(c, err)
		}
		if err := s.Authenticate(body.UserID); err != nil {
			return err
		}
		s.Remove(refreshed)
		return committed(c)
	},
	"/auth/me": view,
	"/auth/refresh": func(c Context) error {
		s := c.Session()
		if s.UserID() == "" {
			return view(c)
		}
		if err := s.Insert(refreshed, true); err != nil {
			return err
		}
		s.Rotate()
		return committed(c)
	},
	"/auth/dbsc/register": func(c Context) error { return c.RegisterDevice() },
	"/auth/dbsc/refresh":  func(c Context) error { return c.RefreshDevice() },
	"/auth/logout": func(c Context) error {
		c.Session().Destroy()
		if err := c.Session().Commit(c.Context()); err != nil {
			return failed(c, err)
		}
		c.Status(204)
		return nil
	},
}

// committed commits and answers with the view.
func committed(c Context) error {
	if err := c.Session().Commit(c.Context()); err != nil {
		return failed(c, err)
	}
	return view(c)
}

// failed answers when the handler's Commit has failed.
func failed(c Context, err error) error {
	p := middleware.ProblemOf(err)
	p.Headers(c.SetHeader)
	c.Status(p.Status)
	c.Write(string(p.Body))
	return nil
}

func view(c Context) error {
	s := c.Session()
	c.SetHeader("Content-Type", "application/json")
	if s.UserID() == "" {
		c.Write(httpcontract.AnonymousView)
		return nil
	}
	again, err := coatcheck.Get[bool](s, refreshed)
	if err != nil && s.Contains(refreshed) {
		return err
	}
	c.Write(httpcontract.UserView(s.UserID(), s.ID().String(), again))
	return nil
}
