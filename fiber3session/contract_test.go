package fiber3session_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fiber3session"
	"github.com/coatcheck/coatcheck/internal/middlewaretest"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The contract of all middlewares, with Fiber v3.
func TestContract(t *testing.T) {
	middlewaretest.Run(t, func(t *testing.T) coatcheck.Store {
		// The janitor goes by the real time, and these tests' clocks go their own way.
		store, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
		require.NoError(t, err)
		return store
	}, middlewaretest.Driver{
		New: func(store coatcheck.Store, cfg fiber3session.Config) error {
			_, err := fiber3session.New(store, cfg)
			return err
		},
		Serve: serve,
	})
}

// serve serves an application of the contract.
func serve(t *testing.T, ln net.Listener, app middlewaretest.App) {
	t.Helper()
	outside := func(c fiber.Ctx) {
		if app.Outside != nil {
			app.Outside(request{c})
		}
	}
	f := fiber.New(fiber.Config{
		CaseSensitive: true, ReadBufferSize: 16 << 10,
		ErrorHandler: func(c fiber.Ctx, err error) error {
			outside(c)
			if e := new(fiber.Error); errors.As(err, &e) && e.Code == fiber.StatusBadRequest {
				err = fiber.ErrBadRequest // Fiber would answer a request that it cannot parse with its bytes, the cookie included
			}
			return fiber.DefaultErrorHandler(c, err)
		},
	})
	f.Use(func(c fiber.Ctx) error {
		defer outside(c)
		return c.Next()
	})
	for _, l := range app.Layers {
		f.Use(layer(t, l))
	}
	for path, handle := range app.Handlers {
		f.All(path, func(c fiber.Ctx) error {
			err := handle(request{c})
			var want *middlewaretest.Error
			if errors.As(err, &want) {
				return fiber.NewError(want.Status, want.Text)
			}
			return err
		})
	}
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(t, f.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})) })
	t.Cleanup(func() {
		_ = f.ShutdownWithTimeout(time.Millisecond)
		served.Wait()
	})
}

func layer(t *testing.T, l middlewaretest.Layer) fiber.Handler {
	t.Helper()
	switch {
	case l.Sessions != nil:
		handler, err := fiber3session.New(l.Sessions.Store, l.Sessions.Config)
		require.NoError(t, err)
		return handler
	case l.Headers != nil:
		return func(c fiber.Ctx) error {
			for name, value := range l.Headers {
				c.Set(name, value)
			}
			return c.Next()
		}
	case l.Recover:
		return recover.New()
	case l.CSRF != nil:
		return fiber3session.CSRF{CSRF: l.CSRF}.Check
	case l.Poison:
		return poison
	default:
		require.FailNow(t, "a layer of no kind")
		return nil
	}
}

func poison(c fiber.Ctx) error {
	err := c.Next()
	over := func(b []byte) { copy(b, bytes.Repeat([]byte("P"), len(b))) }
	over(c.RequestCtx().Request.Header.RawHeaders())
	over(c.RequestCtx().Request.Body())
	over(c.RequestCtx().Request.URI().FullURI())
	over(c.RequestCtx().Request.URI().QueryString())
	for _, value := range c.RequestCtx().Request.URI().QueryArgs().All() {
		over(value)
	}
	for _, value := range c.RequestCtx().Request.Header.All() {
		over(value)
	}
	return err
}

// request is a request of Fiber's, as the contract sees it.
type request struct{ c fiber.Ctx }

func (r request) Session() *coatcheck.Session          { return fiber3session.Get(r.c) }
func (r request) Named(name string) *coatcheck.Session { return fiber3session.Named(r.c, name) }
func (r request) Query(name string) string             { return r.c.Query(name) }
func (r request) Body() []byte                         { return r.c.Body() }
func (r request) SetHeader(name, value string)         { r.c.Set(name, value) }
func (r request) SetCookie(name, value string)         { r.c.Cookie(&fiber.Cookie{Name: name, Value: value}) }
func (r request) RegisterDevice() error                { return fiber3session.RegisterDevice(r.c) }
func (r request) RefreshDevice() error                 { return fiber3session.RefreshDevice(r.c) }
func (r request) Status(code int)                      { r.c.Status(code) }
func (r request) Write(text string)                    { r.c.RequestCtx().Response.AppendBodyString(text) }
func (request) Flush()                                 {} // Fiber sends nothing before the handlers have returned
func (r request) Context() context.Context             { return r.c.Context() }
