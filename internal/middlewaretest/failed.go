package middlewaretest

import (
	"errors"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// asks is what the handlers here ask of a session: that the answer is the commit's error does not depend on it. TestAskedForAfterAFailedCommit
// asks for all that there is.
var asks = map[string]func(s *coatcheck.Session) error{
	"insert":       func(s *coatcheck.Session) error { return s.Insert("b", 2) },
	"authenticate": func(s *coatcheck.Session) error { return s.Authenticate("v") },
	"destroy":      func(s *coatcheck.Session) error { s.Destroy(); return nil },
}

// A handler that reacts to the error by signing out, for instance, must not report a logout that did not happen, although the store is
// well by then.
func checkAskedAfterFailure(h *harness) {
	handlers := with(basics)
	handlers["/try"] = func(c Context) error {
		s := c.Session()
		h.Store.Failing(httpcontract.ErrLost, httpcontract.OpSwap)
		err := errors.Join(s.Insert("x", 1), s.Commit(c.Context()))
		h.Store.On(nil)
		if !errors.Is(err, coatcheck.ErrUnavailable) {
			return errors.New("the commit passed")
		}
		c.SetHeader("X-Done", "yes")
		return errors.Join(asks[c.Query("then")](s), text(c, "done"))
	}
	handlers["/large"] = func(c Context) error {
		s := c.Session()
		err := s.Insert(c.Query("name"), strings.Repeat("x", 2000))
		if c.Query("name") == "other" {
			return err
		}
		if err := errors.Join(err, s.Commit(c.Context())); !errors.Is(err, coatcheck.ErrTooLarge) {
			return errors.New("the commit passed")
		}
		s.Destroy()
		return text(c, "done")
	}
	h.app(handlers)
	token := h.begin("u")
	h.Post("/set?name=a&value=1", h.Cookie(token))
	for ask := range asks {
		resp := h.Post("/try?then="+ask, h.Cookie(token))
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), ask)
		assert.Empty(h, resp.Header["X-Done"], ask)
		require.Equal(h, "u", h.who(token), ask)
		assert.Equal(h, `"1"`, h.value("a", token), ask)
		assert.Empty(h, h.value("b", token), ask)
	}
	assert.Empty(h, h.sessionsOf("v"))

	h.Store.Once(httpcontract.OpSwap, func() { h.Post("/large?name=other", h.Cookie(token)) })
	resp := h.Post("/large?name=mine", h.Cookie(token))
	assert.Equal(h, answer{Status: 503, Code: "session_too_large"}, h.Answer(resp), "it takes no outage")
	assert.Equal(h, "u", h.who(token))
	assert.Equal(h, "cleared", h.CookieOf(h.Post("/logout", h.Cookie(token))), "which the next request can do")
}

// BeginLogin only reads: what else the request asks for is done, only no login.
func checkBeginLoginFails(h *harness) {
	handlers := with(basics)
	handlers["/begin"] = func(c Context) error {
		s := c.Session()
		if err := s.Insert("before", 1); err != nil {
			return err
		}
		if err := s.BeginLogin(c.Context(), "v"); !errors.Is(err, coatcheck.ErrUnavailable) {
			return errors.New("the login began")
		}
		if ask := asks[c.Query("then")]; ask != nil {
			return errors.Join(ask(s), text(c, "done"))
		}
		return text(c, "not now")
	}
	h.app(handlers)
	h.Store.Failing(httpcontract.ErrLost, httpcontract.OpMark)
	token := h.begin("u") // without BeginLogin
	assert.Equal(h, 200, h.Post("/begin", h.Cookie(token)).Status)
	assert.Equal(h, "1", h.value("before", token))
	assert.Equal(h, 200, h.Post("/begin?then=insert", h.Cookie(token)).Status)
	assert.Equal(h, "2", h.value("b", token))

	resp := h.Post("/begin?then=authenticate", h.Cookie(token))
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "no login without a mark")
	assert.Empty(h, h.sessionsOf("v"))
	assert.Equal(h, "u", h.who(token))

	assert.Equal(h, "cleared", h.CookieOf(h.Post("/begin?then=destroy", h.Cookie(token))))
	assert.Empty(h, h.who(token))
}
