package fibersession

import (
	"bytes"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// CSRF makes and checks tokens for the forms of an application: Token(session) for the page, Check or Valid(session, token) for
// what it sends. A token is bound to the session by its handle, which a refresh does not change and a login does; nothing is
// stored for it and no cookie is read or set.
type CSRF struct{ *middleware.CSRF }

// NewCSRF returns the tokens of these keys, each of at least 32 bytes. The first one signs; all of them verify, so that a key is
// replaced without refusing a form that is open. No error holds a key.
func NewCSRF(keys ...[]byte) (CSRF, error) {
	c, err := middleware.NewCSRF(keys...)
	return CSRF{c}, err
}

// Check is a handler that refuses unsafe requests (RFC 9110, section 9.2.1) with 403 unless the header X-CSRF-Token, or
// else the form field csrf_token, holds a valid token. Mount it behind the session middleware. Only urlencoded and multipart
// bodies of at most 1 MiB are looked at, and only where there is a stored session.
func (c CSRF) Check(ctx *fiber.Ctx) error {
	switch ctx.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions, fiber.MethodTrace:
		return ctx.Next()
	}
	s := Get(ctx)
	if token := ctx.Get(middleware.CSRFHeader); token != "" {
		if c.Valid(s, token) {
			return ctx.Next()
		}
	} else if !s.Key().IsZero() && c.Valid(s, csrfField(ctx.Request())) {
		return ctx.Next()
	}
	return fiber.NewError(fiber.StatusForbidden, "the form has expired; load the page again")
}

// csrfField reads the form past Fiber, whose FormValue also looks at the query: what stands in an address ends up in logs.
// Browsers compress no form, and the form parser would expand one without a limit; nor does it bound what is streamed.
func csrfField(req *fasthttp.Request) string {
	if len(req.Header.PeekAll(fiber.HeaderContentEncoding)) > 0 {
		return ""
	}
	if n := req.Header.ContentLength(); req.IsBodyStream() && (n < 0 || n > middleware.CSRFBody) {
		return ""
	}
	if bytes.HasPrefix(req.Header.ContentType(), []byte(fiber.MIMEMultipartForm)) {
		form, err := req.MultipartForm()
		if err != nil || len(form.Value[middleware.CSRFField]) != 1 {
			return ""
		}
		return form.Value[middleware.CSRFField][0]
	}
	if fields := req.PostArgs().PeekMulti(middleware.CSRFField); len(fields) == 1 {
		return string(fields[0])
	}
	return ""
}
