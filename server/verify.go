package server

import (
	"bytes"

	"github.com/gofiber/fiber/v2"
)

// verify answers a reverse proxy whether the request that it holds has a live session of a user. The verdict hangs on the
// session alone: no header, method, path or body changes it; with --verify-login-url a browser hears of a refusal by 302. It
// renews the session, and never sets or clears a cookie, which most proxies would drop.
func (s *Server) verify(c *fiber.Ctx) error {
	ctx, m := c.Context(), s.sessions
	if bytes.IndexByte(ctx.RequestURI(), '#') >= 0 { // no request target has one, and what follows it was another path to somebody
		return problemUnauthenticated
	}
	r := m.pool.Get().(*request)
	defer m.release(r)
	if err := m.open(ctx, r); err != nil {
		return m.notOpened(c, r, err)
	}
	sess := &r.session
	m.audit.report(ctx, sess)
	user := sess.RawUserID()
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
	id, _ := sess.ID().AppendText(name[:0]) // never fails
	h.SetCanonical(headerRemoteSession, id)
	if err := sess.Finish(m.context(ctx)); err != nil {
		return m.fail(c, err)
	}
	m.audit.settled(ctx, sess)
	return nil
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
