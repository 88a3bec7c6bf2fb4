package fibersession

import (
	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck/internal/fasthttpsession"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// CSRF makes and checks tokens for the forms of an application: Token(session) for the page, Check or Valid(session, token)
// for the form that it sends. A token is bound to the session by its handle, which changes with a login but not with a
// refresh; no token is stored, and no cookie is read or set. Token is empty for a session that is not stored, also after an
// Authenticate or a Destroy: Commit first.
type CSRF struct{ *middleware.CSRF }

// NewCSRF returns a CSRF with these keys, each of at least 32 bytes. The first key signs and all of them verify, so that a
// key can be replaced without refusing an open form. No error contains a key.
func NewCSRF(keys ...[]byte) (CSRF, error) {
	c, err := middleware.NewCSRF(keys...)
	return CSRF{c}, err
}

// Check is a handler that refuses unsafe requests (RFC 9110, section 9.2.1) with 403 unless the header X-CSRF-Token, or
// else the form field csrf_token, holds a valid token. Mount it behind the session middleware. Only urlencoded and multipart
// bodies of at most 1 MiB are looked at, and only where there is a stored session.
func (c CSRF) Check(ctx *fiber.Ctx) error {
	if fasthttpsession.PassesCSRF(c.CSRF, ctx.Request(), Get(ctx)) {
		return ctx.Next()
	}
	return fiber.NewError(fiber.StatusForbidden, middleware.CSRFForbidden)
}
