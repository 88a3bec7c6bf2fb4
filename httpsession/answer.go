package httpsession

import (
	"net/http"
	"strconv"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// fail answers when the store could not load or persist. It flushes, because a handler that streams may not return at once.
func fail(w http.ResponseWriter, err error) {
	p, h := middleware.ProblemOf(err), w.Header()
	p.Headers(h.Set)
	h.Set("Content-Length", strconv.Itoa(len(p.Body)))
	keepPrivate(h)
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.Body)
	_ = http.NewResponseController(w).Flush()
}

// setCookie adds the Set-Cookie line that the response needs, with what accompanies it, if it needs one.
func setCookie(m *middleware.Middleware, x *middleware.Exchange, r *http.Request, h http.Header) {
	var space [512]byte
	if line := m.SetCookie(space[:0], x); len(line) > 0 {
		h.Add("Set-Cookie", string(line))
		m.Beside(x, func() []string { return r.Header["Cookie"] }, h.Add)
		keepPrivate(h)
	}
}

// keepPrivate keeps a personal response out of caches, whatever headers the handlers set: they do not know which of their
// responses get a cookie from the middleware (ASVS 14.3.2).
func keepPrivate(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Cookie")
}
