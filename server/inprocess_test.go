package server_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

const cookieName = "__Host-coatcheck"

// client drives the whole public application without a connection. Requests are parsed from bytes, because fasthttp's
// setters treat a Cookie header unlike its parser.
type client struct {
	testing.TB
	handler fasthttp.RequestHandler
	ctx     fasthttp.RequestCtx
	in      strings.Reader
	buffer  *bufio.Reader
}

// frozen is the clock of in-process tests: it never moves, so that nothing expires and nothing is renewed.
func frozen() func() time.Time {
	now := time.Now().Truncate(time.Millisecond)
	return func() time.Time { return now }
}

func newClient(t testing.TB, store coatcheck.Store, cfg server.Config) *client {
	t.Helper()
	if cfg.Login == nil {
		cfg.Login = login.Open{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s, err := server.New(store, cfg)
	require.NoError(t, err)
	c := &client{TB: t, handler: s.Handler(), buffer: bufio.NewReaderSize(nil, 64<<10)}
	c.ctx.Init(new(fasthttp.Request), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, nil)
	return c
}

// parse makes the request the one that handle answers. It reports whether the bytes are a request at all.
func (c *client) parse(text string) bool {
	c.in.Reset(text)
	c.buffer.Reset(&c.in)
	c.ctx.Request.Reset()
	c.ctx.Response.Reset()
	return c.ctx.Request.ReadLimitBody(c.buffer, server.MaxBody) == nil
}

func (c *client) handle() *fasthttp.Response {
	c.ctx.Response.Reset()
	c.handler(&c.ctx)
	return &c.ctx.Response
}

// do answers a request that must be one.
func (c *client) do(method, path, body string, head ...string) *fasthttp.Response {
	c.Helper()
	require.True(c, c.parse(requestText(method, path, body, head...)))
	return c.handle()
}

func requestText(method, path, body string, head ...string) string {
	text := method + " " + path + " HTTP/1.1\r\nHost: x\r\n"
	for _, line := range head {
		text += line + "\r\n"
	}
	if body != "" {
		text += "Content-Length: " + itoa(len(body)) + "\r\n"
	}
	return text + "\r\n" + body
}

// login returns a new session's token.
func (c *client) login(user string) string {
	c.Helper()
	resp := c.do("POST", "/auth/login", `{"user_id":"`+user+`"}`, "Content-Type: application/json")
	require.Equal(c, 200, resp.StatusCode(), string(resp.Body()))
	return cookieValue(resp)
}

// cookieValue is the value in the response's Set-Cookie, "" for none and for a clear.
func cookieValue(resp *fasthttp.Response) string {
	line := string(resp.Header.Peek("Set-Cookie"))
	value, _, _ := strings.Cut(strings.TrimPrefix(line, cookieName+"="), ";")
	return value
}

func cookieLine(value string) string { return "Cookie: " + cookieName + "=" + value }
