package fasthttpsession

import (
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// fail answers for a store that could not load or persist, in place of whatever the handler answered; headers stay as they are. It
// writes the answer itself, because the application's error handler knows nothing of sessions. An upgrade of the connection
// does not happen.
func fail(fctx *fasthttp.RequestCtx, err error) {
	p := middleware.ProblemOf(err)
	fctx.Hijack(nil)
	fctx.Response.ResetBody()
	fctx.SetStatusCode(p.Status)
	p.Headers(fctx.Response.Header.Set)
	fctx.SetBody(p.Body)
	keepPrivate(fctx)
}

// keepPrivate keeps a response that is about one person out of caches, whatever the handlers said: they do not know which
// of their responses the middleware gives a cookie (ASVS 14.3.2).
func keepPrivate(fctx *fasthttp.RequestCtx) {
	fctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	fctx.Response.Header.Add(fasthttp.HeaderVary, fasthttp.HeaderCookie)
}
