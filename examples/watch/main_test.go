package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

const patience = 30 * time.Second

// serve starts a server and returns its URL.
func serve(t *testing.T) string {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	srv, err := server.New(store, server.Config{Login: login.Open{}, Cookie: cookie.Config{Name: "coatcheck", Insecure: true}})
	require.NoError(t, err)
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, srv.Shutdown(ctx))
		assert.NoError(t, <-served)
		assert.NoError(t, store.Close())
	})
	return "http://" + ln.Addr().String()
}

// post sends a request and returns the cookie that it was answered with.
func post(t *testing.T, url, body, cookie string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Less(t, resp.StatusCode, 300)
	set, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	return set
}

func TestUntilEnded(t *testing.T) {
	url := serve(t)
	session := post(t, url+"/auth/login", `{"user_id":"ann"}`, "")
	reason := make(chan string, 1)
	go func() { reason <- untilEnded(t.Context(), url, session) }()
	post(t, url+"/auth/logout", "", session)
	select {
	case got := <-reason:
		assert.Equal(t, "ended", got)
	case <-time.After(patience):
		require.Fail(t, "the watcher is told nothing")
	}
	assert.Equal(t, "ended", untilEnded(t.Context(), url, session), "a session that had ended before")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Empty(t, untilEnded(ctx, url, session))
}

// The page in docs shows the programs as they are.
func TestWatchPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/watch.md")
	require.NoError(t, err)
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	i := strings.Index(string(source), "// untilEnded returns")
	assert.Contains(t, string(page), "```go\n"+string(source[i:])+"```\n")
	script, err := os.ReadFile("watch.mjs")
	require.NoError(t, err)
	i = strings.Index(string(script), "// untilEnded returns")
	assert.Contains(t, string(page), "```js\n"+string(script[i:])+"```\n")
}
