package middlewaretest

import (
	"context"
	"net"
	"testing"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Driver serves applications with one framework and the session middleware for it. It translates and decides nothing.
type Driver struct {
	// New calls the adapter's New with a store and a configuration, and returns its error.
	New func(store coatcheck.Store, cfg middleware.Config) error
	// Serve serves an application on a listener until the test is over. It accepts headers of 8 KiB and has no time limits.
	Serve func(t *testing.T, ln net.Listener, app App)
	// Streams says that Context.Flush works.
	Streams bool
}

// App is an application, described in terms that every framework has.
type App struct {
	// Layers are around the handlers, the outermost first.
	Layers []Layer
	// Handlers are the handlers by path. They take every method.
	Handlers map[string]Handler
	// Outside is called when all layers and handlers have returned, and also from the framework's error handler, if it has one.
	// Nil: it is not called.
	Outside func(c Context)
}

// Layer is a middleware around the handlers. One of its fields is set.
type Layer struct {
	// Sessions is the session middleware under test.
	Sessions *Sessions
	// Headers are headers that a middleware such as cors sets before it calls the inner layers.
	Headers map[string]string
	// Recover answers 500 for a panic of the inner layers and handlers.
	Recover bool
	// Poison overwrites every byte of the received request, once the inner layers have returned, if the framework hands out such
	// bytes.
	Poison bool
	// CSRF is the adapter's Check of these tokens.
	CSRF *middleware.CSRF
}

// Sessions is a session middleware under test.
type Sessions struct {
	Store  coatcheck.Store
	Config middleware.Config
}

// Handler handles a request. An error is answered in the framework's way: an *Error with its status and text, any other with 500.
type Handler func(c Context) error

// Error is an error of a handler that asks for a status.
type Error struct {
	Status int
	Text   string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Context is a request and its response. It is handed to one handler and must not be kept.
type Context interface {
	// Session is the adapter's Get, and Named its Named.
	Session() *coatcheck.Session
	Named(cookieName string) *coatcheck.Session

	// Query returns a parameter of the request's URL, and Body the request's body, as the framework hands them out: if their
	// bytes belong to the framework, they are not copied.
	Query(name string) string
	Body() []byte

	SetHeader(name, value string)
	SetCookie(name, value string)
	// Status sets the response's status, before anything is written.
	Status(code int)
	// Write appends to the response's body.
	Write(text string)
	// Flush sends what was written so far.
	Flush()

	// Context is the context of the session's store operations.
	Context() context.Context
}
