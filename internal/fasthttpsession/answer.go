package fasthttpsession

import (
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// fail replaces the handler's answer when the store could not load or persist; headers stay as they are. It writes the answer
// itself, because the application's error handler knows nothing of sessions. A requested upgrade of the connection does not
// happen.
func fail(fctx *fasthttp.RequestCtx, err error) {
	p := middleware.ProblemOf(err)
	fctx.Hijack(nil)
	fctx.Response.ResetBody()
	fctx.SetStatusCode(p.Status)
	p.Headers(fctx.Response.Header.Set)
	fctx.SetBody(p.Body)
	keepPrivate(fctx)
}

// keepPrivate keeps a personal response out of caches, whatever headers the handlers set: they do not know which of their
// responses get a cookie from the middleware (ASVS 14.3.2).
func keepPrivate(fctx *fasthttp.RequestCtx) {
	fctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	fctx.Response.Header.Add(fasthttp.HeaderVary, fasthttp.HeaderCookie)
}
