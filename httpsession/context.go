package httpsession

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// requestContext is the context of a request behind the middleware, in which handlers find the session. It may be kept beyond
// the request, so it holds the session that was lent, which never becomes another request's, and nothing that returns to the
// pool.
//
// It ends with its parent, or earlier when the client was answered that the session could not be persisted. Only a handler that
// waits for the end pays for that: see ending.
type requestContext struct {
	context.Context // the parent
	session         *coatcheck.Session
	cookie          string          // the name of the session's cookie
	outer           *requestContext // that of the enclosing middleware; nil: none

	x      atomic.Pointer[middleware.Exchange] // nil once the request has ended
	ending atomic.Pointer[ending]              // nil until somebody waits for the end, or it comes early; written by canEnd
}

// ending is a child of a requestContext's parent that can be ended.
type ending struct {
	context.Context
	end context.CancelCauseFunc
}

// canEnd returns the request's ending, which it makes when it is called first.
func (c *requestContext) canEnd() *ending {
	if e := c.ending.Load(); e != nil {
		return e
	}
	e := new(ending)
	e.Context, e.end = context.WithCancelCause(c.Context)
	if !c.ending.CompareAndSwap(nil, e) {
		e.end(nil) // another goroutine was faster
	}
	return c.ending.Load()
}

// Done returns a channel that is closed when the context has ended.
func (c *requestContext) Done() <-chan struct{} { return c.canEnd().Done() }

// Err returns why the context has ended, nil if it has not.
func (c *requestContext) Err() error {
	if e := c.ending.Load(); e != nil {
		return e.Err()
	}
	return c.Context.Err()
}

// contextKey is the key under which a requestContext returns itself.
type contextKey struct{}

func (c *requestContext) begin(parent context.Context, outer *requestContext, m *middleware.Middleware, x *middleware.Exchange) {
	c.Context, c.outer = parent, outer
	c.session, c.cookie = x.Lend(), m.Cookie.Name()
	c.x.Store(x)
}

// Value returns the context itself for contextKey.
func (c *requestContext) Value(key any) any {
	if key == (contextKey{}) {
		return c
	}
	if e := c.ending.Load(); e != nil {
		return e.Value(key) // package context asks for what can be cancelled
	}
	return c.Context.Value(key)
}

// contextOf returns the context of the innermost middleware that the request came through, nil if it came through none.
func contextOf(r *http.Request) *requestContext {
	c, _ := r.Context().Value(contextKey{}).(*requestContext)
	return c
}

// find returns the session of the innermost middleware if name is empty, else that of the cookie of this name; a detached
// session if there is none. c may be nil.
func (c *requestContext) find(name string) *coatcheck.Session {
	for ; c != nil; c = c.outer {
		if name == "" || name == c.cookie {
			return c.session
		}
	}
	return new(coatcheck.Session)
}

// exchange returns the middleware's state of the request, nil if the request came through none. c may be nil.
func (c *requestContext) exchange() *middleware.Exchange {
	if c == nil {
		return nil
	}
	return c.x.Load()
}

// lastingContext is the request's context without its cancellation, for the store: a client that disconnects does not undo
// what the handler has done. It is context.WithoutCancel without an allocation of its own.
type lastingContext struct{ context.Context }

// Deadline returns none.
func (*lastingContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done returns nil: the context never ends.
func (*lastingContext) Done() <-chan struct{} { return nil }

// Err returns nil.
func (*lastingContext) Err() error { return nil }
