package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

func TestNotes(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		store, err := openStore(t.Context(), "memory")
		require.NoError(t, err)
		visit(t, store)
	})
	t.Run("Redis", func(t *testing.T) {
		visit(t, redistest.StoreFor(t, "notes:", func(url string) (coatcheck.Store, error) { return openStore(t.Context(), url) }))
	})
}

// visit uses the application as a browser would, over TCP.
func visit(t *testing.T, store coatcheck.Store) {
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	app, err := newApp(store)
	require.NoError(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		assert.NoError(t, app.Shutdown())
		assert.NoError(t, <-served)
	})
	base := "http://" + ln.Addr().String()
	ask := func(browser *http.Client, method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
		require.NoError(t, err)
		if path == "/login" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := browser.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode, string(text)
	}
	newBrowser := func() *http.Client {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		return &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	}
	browser := newBrowser()
	_, text := ask(browser, "GET", "/", "")
	assert.JSONEq(t, `{"user":"","notes":null}`, text)
	at, err := url.Parse(base)
	require.NoError(t, err)
	assert.Empty(t, browser.Jar.Cookies(at), "a browser that only reads gets no cookie")

	ask(browser, "POST", "/notes", "milk")
	before := browser.Jar.Cookies(at)[0].Value
	_, text = ask(browser, "POST", "/login", "user=ada")
	assert.JSONEq(t, `{"user":"ada","notes":["milk"]}`, text)
	after := browser.Jar.Cookies(at)[0].Value
	assert.NotEqual(t, before, after, "a login gives a new ticket")

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { ask(browser, "POST", "/notes", "egg") })
	}
	all.Wait()
	_, text = ask(browser, "GET", "/", "")
	assert.Equal(t, 8, strings.Count(text, "egg"), "no note is lost: %s", text)
	status, _ := ask(browser, "POST", "/notes", strings.Repeat("x", 4000))
	assert.Equal(t, http.StatusRequestEntityTooLarge, status)
	status, _ = ask(browser, "POST", "/login", "user=")
	assert.Equal(t, http.StatusUnprocessableEntity, status)

	thief := newBrowser()
	status, _ = ask(browser, "POST", "/logout", "")
	assert.Equal(t, http.StatusNoContent, status)
	assert.Empty(t, browser.Jar.Cookies(at))
	thief.Jar.SetCookies(at, []*http.Cookie{{Name: "notes", Value: after}})
	_, text = ask(thief, "GET", "/", "")
	assert.JSONEq(t, `{"user":"","notes":null}`, text, "a kept ticket is dead")
}
