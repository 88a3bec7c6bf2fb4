package httpsession

import (
	"net/http"

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

// Check wraps handlers; mount it behind the session middleware. It refuses unsafe requests (RFC 9110, section 9.2.1) with 403
// unless the header X-CSRF-Token, or else the form field csrf_token, holds a valid token. Only urlencoded and multipart
// bodies of at most 1 MiB are looked at, and only where there is a stored session; the handler finds the form parsed.
func (c CSRF) Check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if middleware.PassesCSRF(c.CSRF, Get(r), r.Method, r.Header.Get, func() string { return csrfField(w, r) }) {
			next.ServeHTTP(w, r)
			return
		}
		http.Error(w, middleware.CSRFForbidden, http.StatusForbidden)
	})
}

// csrfField reads the form from the body alone, because URLs end up in logs.
func csrfField(w http.ResponseWriter, r *http.Request) string {
	if r.ContentLength > middleware.CSRFBody {
		return ""
	}
	r.Body = http.MaxBytesReader(w, r.Body, middleware.CSRFBody)
	_ = r.ParseMultipartForm(middleware.CSRFBody) // an error may be the query's alone; of a multipart body that is wrong PostForm has nothing
	if fields := r.PostForm[middleware.CSRFField]; len(fields) == 1 {
		return fields[0]
	}
	return ""
}
