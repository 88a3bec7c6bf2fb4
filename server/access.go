package server

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// accessPerSecond is how many requests the access log shows in a second; the others are counted.
const accessPerSecond = 100

// accessLog writes a debug line for each request: its route, its status and its duration, and nothing that the client wrote.
// It is made only if the logger takes debug lines, so that it costs nothing otherwise.
type accessLog struct {
	log    *slog.Logger
	client func(*fasthttp.RequestCtx) netip.Addr

	mu      sync.Mutex
	second  int64 // guarded by mu: the Unix second that shown counts
	shown   int   // guarded by mu
	omitted int   // guarded by mu: requests since the last line
}

func newAccessLog(log *slog.Logger, client func(*fasthttp.RequestCtx) netip.Addr) *accessLog {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return nil
	}
	return &accessLog{log: log, client: client}
}

// routeKey is the key of the route's pattern in a request's context.
type routeKey struct{}

// noteRoute is the first handler of an application whose requests are logged.
func noteRoute(c *fiber.Ctx) error {
	err := c.Next()
	c.Context().SetUserValue(routeKey{}, c.Route().Path)
	return err
}

// around returns the handler with a line for each request, written when its answer is complete.
func (a *accessLog) around(handler fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		method := shownMethod(ctx) // before the handler, which replaces an unknown one
		handler(ctx)
		route, _ := ctx.UserValue(routeKey{}).(string)
		if route == "" || route == "/" { // the route of noteRoute itself
			route = noRoute
		}
		a.write(ctx, method, route)
	}
}

// refused writes the line of a request that could not be read: its method and route are not known.
func (a *accessLog) refused(ctx *fasthttp.RequestCtx) {
	if a != nil {
		a.write(ctx, noRoute, noRoute)
	}
}

func (a *accessLog) write(ctx *fasthttp.RequestCtx, method, route string) {
	now := time.Now()
	show, omitted := a.sample(now)
	if !show {
		return
	}
	var took time.Duration // what could not be read has no time at which it was complete
	if began := ctx.Time(); !began.IsZero() && method != noRoute {
		took = now.Sub(began)
	}
	a.log.LogAttrs(context.Background(), slog.LevelDebug, "request",
		slog.String("method", method), slog.String("route", route), slog.Int("status", ctx.Response.StatusCode()),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("client", a.client(ctx).String()),
		slog.Int("omitted", omitted))
}

// sample reports whether a request that ends now is shown, and how many before it were omitted.
func (a *accessLog) sample(now time.Time) (show bool, omitted int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := now.Unix(); s != a.second {
		a.second, a.shown = s, 0
	}
	if a.shown == accessPerSecond {
		a.omitted++
		return false, 0
	}
	a.shown++
	omitted, a.omitted = a.omitted, 0
	return true, omitted
}
