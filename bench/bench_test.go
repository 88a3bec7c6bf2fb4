// Package bench measures the hot path with go test -bench: each benchmark through the whole Fiber application, in process,
// beside a twin that answers the same status, headers and body with no session work.
package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

const cookieName = "coatcheck"

// client drives one application in process, with a request context of its own.
type client struct {
	tb      testing.TB
	handler fasthttp.RequestHandler
	ctx     fasthttp.RequestCtx
	raw     []byte
	reader  bytes.Reader
	buffer  *bufio.Reader
}

func newClient(tb testing.TB, handler fasthttp.RequestHandler) *client {
	tb.Helper()
	c := &client{tb: tb, handler: handler, buffer: bufio.NewReader(nil)}
	c.ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, nil)
	return c
}

// prepare sets the request that do will send. The request is parsed from bytes, as one on a connection is, because fasthttp's
// setters treat a Cookie header differently from its parser.
func (c *client) prepare(method, path string, cookie []byte, body string) {
	c.raw = append(append(append(c.raw[:0], method...), ' '), path...)
	c.raw = append(c.raw, " HTTP/1.1\r\n"+requestHeaders...)
	if cookie != nil {
		c.raw = append(append(append(c.raw, "Cookie: "...), cookie...), "\r\n"...)
	}
	if body != "" {
		c.raw = fmt.Appendf(c.raw, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	c.raw = append(append(c.raw, "\r\n"...), body...)
	c.reader.Reset(c.raw)
	c.buffer.Reset(&c.reader)
	if err := c.ctx.Request.Read(c.buffer); err != nil {
		c.tb.Fatal(err)
	}
}

const requestHeaders = "Host: 127.0.0.1:3000\r\nAccept: application/json\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"

func (c *client) do(status int) {
	c.ctx.Response.Reset()
	c.handler(&c.ctx)
	if got := c.ctx.Response.StatusCode(); got != status {
		c.tb.Fatalf("%s %s: status %d, want %d: %s", c.ctx.Method(), c.ctx.Path(), got, status, c.ctx.Response.Body())
	}
}

// token returns the cookie that the response set.
func (c *client) token() []byte {
	var k fasthttp.Cookie
	require.NoError(c.tb, k.ParseBytes(c.ctx.Response.Header.PeekCookie(cookieName)))
	require.Len(c.tb, k.Value(), coatcheck.TokenLen)
	return append([]byte(cookieName+"="), k.Value()...)
}

func (c *client) login(user string) []byte {
	c.prepare(fasthttp.MethodPost, "/auth/login", nil, fmt.Sprintf(`{"user_id":%q}`, user))
	c.do(fasthttp.StatusOK)
	return c.token()
}

// me presents a cookie, and fails if it opens nothing.
func (c *client) me(cookie []byte) {
	c.prepare(fasthttp.MethodGet, "/auth/me", cookie, "")
	c.do(fasthttp.StatusOK)
	if !bytes.HasPrefix(c.ctx.Response.Body(), []byte(`{"authenticated":true,`)) {
		c.tb.Fatalf("the session does not live: %s", c.ctx.Response.Body())
	}
}

func newServer(tb testing.TB, store coatcheck.Store) *server.Server {
	tb.Helper()
	s, err := server.New(store, server.Config{
		Cookie: server.Cookie{Name: cookieName, Insecure: true},
		Login:  login.Open{},
		Policy: policy,
		Logger: discard(),
	})
	require.NoError(tb, err)
	return s
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newStore(tb testing.TB) coatcheck.Store {
	tb.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, store.Close()) })
	return store
}

// newTwin is the ceiling: a Fiber application of the same settings that answers a fixed response.
func newTwin(tb testing.TB, like *fasthttp.Response) fasthttp.RequestHandler {
	tb.Helper()
	app := fiber.New(fiber.Config{CaseSensitive: true, StrictRouting: true, DisableStartupMessage: true})
	status, body := like.StatusCode(), append([]byte(nil), like.Body()...)
	contentType, cookie := append([]byte(nil), like.Header.ContentType()...), like.Header.PeekCookie(cookieName)
	var headers [][2][]byte
	for k, v := range like.Header.All() {
		switch string(k) {
		case "Content-Type", "Content-Length", "Set-Cookie":
		default:
			headers = append(headers, [2][]byte{append([]byte(nil), k...), append([]byte(nil), v...)})
		}
	}
	setCookie := string(cookie)
	app.All("/auth/:any", func(c *fiber.Ctx) error {
		r := &c.Context().Response
		r.SetStatusCode(status)
		r.Header.SetContentTypeBytes(contentType)
		for i := range headers {
			r.Header.SetCanonical(headers[i][0], headers[i][1])
		}
		if setCookie != "" {
			r.Header.Add(fasthttp.HeaderSetCookie, setCookie)
		}
		r.SetBody(body)
		return nil
	})
	return app.Handler()
}

// onBoth runs a benchmark on each kind of store.
func onBoth(b *testing.B, f func(b *testing.B, store coatcheck.Store)) {
	b.Helper()
	b.Run("memory", func(b *testing.B) { f(b, newStore(b)) })
	b.Run("redis", func(b *testing.B) { f(b, newRedis(b, redistest.Start(b), 0)) })
}

// withTwin runs one exchange against the server and against its twin.
func withTwin(b *testing.B, handler fasthttp.RequestHandler, status int, before func(c *client, i int)) {
	b.Helper()
	run := func(handler fasthttp.RequestHandler) func(*testing.B) {
		return func(b *testing.B) {
			c := newClient(b, handler)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				before(c, i)
				c.do(status)
			}
		}
	}
	c := newClient(b, handler)
	before(c, 0)
	c.do(status)
	twin := newTwin(b, &c.ctx.Response)
	b.Run("coatcheck", run(handler))
	b.Run("twin", run(twin))
}
