package fibersession

import (
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// headers is a pool of *fasthttp.ResponseHeader.
var headers = sync.Pool{New: func() any { return new(fasthttp.ResponseHeader) }}

// fail answers for a store that could not load or persist, in place of whatever the handler answered; headers stay as they are. It
// writes the answer itself, because the application's error handler knows nothing of sessions. An upgrade of the connection
// does not happen.
func (*Around) fail(fctx *fasthttp.RequestCtx, err error) error {
	p := middleware.ProblemOf(err)
	fctx.Hijack(nil)
	fctx.Response.ResetBody()
	fctx.SetStatusCode(p.Status)
	p.Headers(fctx.Response.Header.Set)
	fctx.SetBody(p.Body)
	keepPrivate(fctx)
	return nil
}

// keepPrivate keeps a response that is about one person out of caches, whatever the handlers said: they do not know which
// of their responses the middleware gives a cookie (ASVS 14.3.2).
func keepPrivate(fctx *fasthttp.RequestCtx) {
	fctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	fctx.Response.Header.Add(fasthttp.HeaderVary, fasthttp.HeaderCookie)
}
