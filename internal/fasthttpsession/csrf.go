package fasthttpsession

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// PassesCSRF is middleware.PassesCSRF for a request of fasthttp's.
func PassesCSRF(c *middleware.CSRF, req *fasthttp.Request, s *coatcheck.Session) bool {
	return middleware.PassesCSRF(c, s, string(req.Header.Method()), headerOf(req), func() string { return csrfField(req) })
}

// csrfField reads the form without Fiber, whose FormValue also reads the query: URLs end up in logs. It reads no compressed
// body, because browsers send none and the form parser would expand one without a limit, and no streamed body without a
// known, bounded length.
func csrfField(req *fasthttp.Request) string {
	if len(req.Header.PeekAll(fasthttp.HeaderContentEncoding)) > 0 {
		return ""
	}
	// A form of many small fields takes a hundred times its own memory. Of a chunked body the length is known when it is buffered.
	n := req.Header.ContentLength()
	if n < 0 && !req.IsBodyStream() {
		n = len(req.Body())
	}
	if n < 0 || n > middleware.CSRFBody {
		return ""
	}
	if bytes.HasPrefix(req.Header.ContentType(), []byte("multipart/form-data")) {
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
