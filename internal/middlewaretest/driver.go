package middlewaretest

import (
	"context"
	"net"
	"testing"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// Driver serves applications with one framework and the session middleware for it. It only translates, and decides nothing.
type Driver struct {
	// New returns the error of the adapter's New for a store and a configuration.
	New func(store coatcheck.Store, cfg middleware.Config) error
	// Serve serves an application on a listener until the test is over. It accepts headers of 8 KiB and has no timeouts.
	Serve func(t *testing.T, ln net.Listener, app App)
	// Streams says that Context.Flush works.
	Streams bool
}

// App is an application, in terms that every framework has.
type App struct {
	// Layers are the middlewares around the handlers, the outermost first.
	Layers []Layer
	// Handlers are the handlers by path. They take every method.
	Handlers map[string]Handler
	// Outside is called when all layers and handlers have returned; where the framework has an error handler, it is called
	// from there as well. It may be nil.
	Outside func(c Context)
}

// Layer is one middleware around the handlers. One of its fields is set.
type Layer struct {
	// Sessions is the session middleware under test.
	Sessions *Sessions
	// Headers are headers that a middleware such as cors sets before it calls the next handler.
	Headers map[string]string
	// Recover answers 500 for a panic of an inner layer or handler.
	Recover bool
	// Poison overwrites every byte of the request's buffers once the inner layers have returned, if the framework hands out
	// those bytes.
	Poison bool
	// CSRF is checked by the adapter's Check.
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

	// Query returns a parameter of the request's address, and Body the request's body, as the framework hands them out: if
	// they share memory with the framework, so do these strings.
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

	// RegisterDevice and RefreshDevice answer as the adapter's handlers do.
	RegisterDevice() error
	RefreshDevice() error

	// Context returns the context for the session's calls of the store.
	Context() context.Context
}
