package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

type accessLine struct {
	Msg, Method, Route, Client string
	Status, Omitted            int
	MS                         *float64
}

func accessLog(t *testing.T, level slog.Level) (serve func(method, uri string) int, lines func() []accessLine) {
	t.Helper()
	var out bytes.Buffer
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	s, err := server.New(store, server.Config{
		Login: login.Open{}, Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level})),
	})
	require.NoError(t, err)
	serve = func(method, uri string) int {
		ctx := new(fasthttp.RequestCtx)
		ctx.Init(new(fasthttp.Request), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, nil)
		ctx.Request.Header.SetMethod(method)
		ctx.Request.SetRequestURI(uri)
		s.Handler()(ctx)
		return ctx.Response.StatusCode()
	}
	return serve, func() []accessLine {
		var all []accessLine
		for line := range bytes.Lines(out.Bytes()) {
			var l accessLine
			require.NoError(t, json.Unmarshal(line, &l))
			if l.Msg == "request" {
				all = append(all, l)
			}
		}
		assert.NotContains(t, out.String(), "canary")
		return all
	}
}

func TestAccessLog(t *testing.T) {
	serve, lines := accessLog(t, slog.LevelDebug)
	want := []struct {
		method, uri, route string
		status             int
	}{
		{"GET", "/auth/me?token=canary", "/auth/me", 200},
		{"HEAD", "/auth/me", "/auth/me", 200},
		{"DELETE", "/auth/sessions/canary", "/auth/sessions/:id", 401},
		{"PATCH", "/auth/verify", "/auth/verify", 401},
		{"PUT", "/auth/login", "none", 405},
		{"GET", "/canary", "none", 404},
		{"GET", "/", "none", 404},
		{"CANARY", "/auth/me", "none", 405},
	}
	for _, w := range want {
		assert.Equal(t, w.status, serve(w.method, w.uri), w.uri)
	}
	got := lines()
	require.Len(t, got, len(want))
	for i, w := range want {
		assert.Equal(t, w.route, got[i].Route, w.uri)
		assert.Equal(t, w.status, got[i].Status, w.uri)
		assert.Equal(t, "127.0.0.1", got[i].Client)
		assert.NotNil(t, got[i].MS)
		if w.method == "CANARY" {
			w.method = "_OTHER" // which no client is said to have sent, and is no text of its own
		}
		assert.Equal(t, w.method, got[i].Method)
	}
}

// However many requests there are, a second has a bounded number of lines, and none is forgotten.
func TestAccessLogIsSampled(t *testing.T) {
	serve, lines := accessLog(t, slog.LevelDebug)
	const requests, perSecond = 20_000, 100
	began := time.Now()
	for range requests {
		serve(fasthttp.MethodGet, "/auth/me")
	}
	most := perSecond * (int(time.Since(began)/time.Second) + 2) // seconds of the clock: the first and the last are parts of one
	assert.LessOrEqual(t, len(lines()), most)
	require.Eventually(t, func() bool { // the last of them are told of by the first of another second
		serve(fasthttp.MethodGet, "/auth/verify")
		all := lines()
		return all[len(all)-1].Route == "/auth/verify"
	}, time.Minute, 20*time.Millisecond)
	total := 0
	for _, l := range lines() {
		total += 1 + l.Omitted
	}
	assert.GreaterOrEqual(t, total, requests)
}

func TestAccessLogIsOff(t *testing.T) {
	serve, lines := accessLog(t, slog.LevelInfo)
	serve(fasthttp.MethodGet, "/auth/me")
	assert.Empty(t, lines())
}

// Requests that cannot be read have a line too: without it an operator looks for a 431 in vain.
func TestAccessLogOfUnreadableRequests(t *testing.T) {
	var out syncBuffer
	ln := serveOn(t, server.Config{Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for text, want := range map[string]struct {
		method string
		status int
	}{
		"GET /auth/me HTTP/1.1\r\nHost: x\r\nX-Canary: " + strings.Repeat("canary", 2000) + "\r\n\r\n": {"none", 431},
		"GET /auth/me HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("canary:\r\n", 129) + "\r\n":           {"GET", 431},
		"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n":                      {"none", 413},
		"canary\r\n\r\n": {"none", 400},
	} {
		out.reset()
		conn := dial(t, ln)
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		require.NoError(t, err)
		var line accessLine
		require.NoError(t, json.Unmarshal([]byte(out.text()), &line), "one line: %s", out.text())
		assert.Equal(t, want.method, line.Method)
		assert.Equal(t, "none", line.Route)
		assert.Equal(t, want.status, line.Status)
		assert.Equal(t, "127.0.0.1", line.Client)
		assert.NotContains(t, out.text(), "canary")
	}
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}
