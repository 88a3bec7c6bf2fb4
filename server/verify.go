package server

import (
	"bytes"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
)

// verify tells a reverse proxy whether the request that the proxy holds has a live session of a user. The verdict depends on
// the session alone: no header, method, path or body changes it; with --verify-login-url a browser gets a refusal as 302.
// verify renews the session, and never sets or clears a cookie, which most proxies would drop.
func (s *Server) verify(c *fiber.Ctx, r *coatcheck.Request) error {
	ctx := c.Context()
	user := r.RawUserID()
	if len(user) == 0 {
		if s.loginPage != nil && s.loginPage.redirect(ctx) {
			return nil
		}
		return problemUnauthenticated
	}
	var space [3*256 + 22]byte
	name := appendHeaderValue(space[:0], user)
	h := &ctx.Response.Header
	h.SetCanonical(headerRemoteUser, name)
	id, _ := r.ID().AppendText(name[:0]) // never fails
	h.SetCanonical(headerRemoteSession, id)
	return nil
}

// noFragment refuses a request target with a #: no valid target has one, and servers disagree about the path of such a
// target.
func noFragment(c *fiber.Ctx) error {
	if bytes.IndexByte(c.Context().RequestURI(), '#') >= 0 {
		return problemUnauthenticated
	}
	return c.Next()
}

var (
	headerRemoteUser    = []byte("Remote-User")
	headerRemoteSession = []byte("Remote-Session-Id")
)

// appendHeaderValue percent-encodes every byte outside 0x21 to 0x7E, and the percent sign itself, so that no two users
// share a value and none breaks a line.
func appendHeaderValue(b, s []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range s {
		if c < 0x21 || c > 0x7E || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&0xF])
		} else {
			b = append(b, c)
		}
	}
	return b
}
