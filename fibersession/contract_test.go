package fibersession_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/internal/middlewaretest"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/shardstore"
)

var driver = middlewaretest.Driver{
	New: func(store coatcheck.Store, cfg fibersession.Config) error {
		_, err := fibersession.New(store, cfg)
		return err
	},
	Serve: serve,
}

// The contract of all middlewares, with Fiber v2.
func TestContract(t *testing.T) {
	middlewaretest.Run(t, func(t *testing.T) coatcheck.Store {
		// The janitor goes by the real time, and these tests' clocks go their own way.
		store, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
		require.NoError(t, err)
		return store
	}, driver)
}

// The same over Redis, with its cache: handlers cannot tell which store they have.
func TestContractOnRedis(t *testing.T) {
	redis := redistest.Start(t)
	middlewaretest.Run(t, func(t *testing.T) coatcheck.Store {
		return redistest.Store(t, redisstore.Options{URL: redis.URL(), Prefix: rand.Text() + ":"})
	}, driver)
}

// serve serves an application of the contract.
func serve(t *testing.T, ln net.Listener, app middlewaretest.App) {
	t.Helper()
	outside := func(c *fiber.Ctx) {
		if app.Outside != nil {
			app.Outside(request{c})
		}
	}
	f := fiber.New(fiber.Config{
		DisableStartupMessage: true, CaseSensitive: true, ReadBufferSize: 16 << 10,
		ErrorHandler: func(c *fiber.Ctx, err error) error {
			outside(c)
			if e := new(fiber.Error); errors.As(err, &e) && e.Code == fiber.StatusBadRequest {
				err = fiber.ErrBadRequest // Fiber would answer a request that it cannot parse with its bytes, the cookie included
			}
			return fiber.DefaultErrorHandler(c, err)
		},
	})
	f.Use(func(c *fiber.Ctx) error {
		defer outside(c)
		return c.Next()
	})
	for _, l := range app.Layers {
		f.Use(layer(t, l))
	}
	for path, handle := range app.Handlers {
		f.All(path, func(c *fiber.Ctx) error {
			err := handle(request{c})
			var want *middlewaretest.Error
			if errors.As(err, &want) {
				return fiber.NewError(want.Status, want.Text)
			}
			return err
		})
	}
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(t, f.Listener(ln)) })
	t.Cleanup(func() {
		_ = f.ShutdownWithTimeout(time.Millisecond)
		served.Wait()
	})
}

func layer(t *testing.T, l middlewaretest.Layer) fiber.Handler {
	t.Helper()
	switch {
	case l.Sessions != nil:
		handler, err := fibersession.New(l.Sessions.Store, l.Sessions.Config)
		require.NoError(t, err)
		return handler
	case l.Headers != nil:
		return func(c *fiber.Ctx) error {
			for name, value := range l.Headers {
				c.Set(name, value)
			}
			return c.Next()
		}
	case l.Recover:
		return recover.New()
	case l.CSRF != nil:
		return fibersession.CSRF{CSRF: l.CSRF}.Check
	case l.Poison:
		return poison
	default:
		require.FailNow(t, "a layer of no kind")
		return nil
	}
}

func poison(c *fiber.Ctx) error {
	err := c.Next()
	over := func(b []byte) { copy(b, bytes.Repeat([]byte("P"), len(b))) }
	over(c.Request().Header.RawHeaders())
	over(c.Request().Body())
	over(c.Request().URI().FullURI())
	over(c.Request().URI().QueryString())
	for _, value := range c.Request().URI().QueryArgs().All() {
		over(value)
	}
	for _, value := range c.Request().Header.All() {
		over(value)
	}
	return err
}

// request is a request of Fiber's, as the contract sees it.
type request struct{ c *fiber.Ctx }

func (r request) Session() *coatcheck.Session          { return fibersession.Get(r.c) }
func (r request) Named(name string) *coatcheck.Session { return fibersession.Named(r.c, name) }
func (r request) Query(name string) string             { return r.c.Query(name) }
func (r request) Body() []byte                         { return r.c.Body() }
func (r request) SetHeader(name, value string)         { r.c.Set(name, value) }
func (r request) SetCookie(name, value string)         { r.c.Cookie(&fiber.Cookie{Name: name, Value: value}) }
func (r request) RegisterDevice() error                { return fibersession.RegisterDevice(r.c) }
func (r request) RefreshDevice() error                 { return fibersession.RefreshDevice(r.c) }
func (r request) Status(code int)                      { r.c.Status(code) }
func (r request) Write(text string)                    { r.c.Context().Response.AppendBodyString(text) }
func (request) Flush()                                 {} // Fiber sends nothing before the handlers have returned
// Not c.Context(), which fasthttp reuses while a goroutine of package context may still look at it.
func (r request) Context() context.Context { return r.c.UserContext() }
