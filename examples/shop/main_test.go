package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

func TestShop(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		store, err := openStore(t.Context(), "memory")
		require.NoError(t, err)
		visit(t, store)
	})
	t.Run("Redis", func(t *testing.T) {
		visit(t, redistest.StoreFor(t, "shop:", func(url string) (coatcheck.Store, error) { return openStore(t.Context(), url) }))
	})
}

// browser is a client with a cookie jar.
type browser struct {
	*testing.T
	http.Client
	base string
	at   *url.URL
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at, err := url.Parse(base)
	require.NoError(t, err)
	return &browser{t, http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}, base, at}
}

func (b *browser) ask(req *http.Request) (int, string) {
	b.Helper()
	resp, err := b.Do(req)
	require.NoError(b, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	require.NoError(b, resp.Body.Close())
	return resp.StatusCode, string(text)
}

func (b *browser) page() string {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), "GET", b.base+"/", http.NoBody)
	require.NoError(b, err)
	_, text := b.ask(req)
	return text
}

// post sends a form and returns what the browser shows after the redirect.
func (b *browser) post(path string, fields ...string) (int, string) {
	b.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequestWithContext(b.Context(), "POST", b.base+path, strings.NewReader(form.Encode()))
	require.NoError(b, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.ask(req)
}

var tokenField = regexp.MustCompile(`name="csrf_token" value="([^"]+)"`)

func token(t *testing.T, page string) string {
	t.Helper()
	found := tokenField.FindStringSubmatch(page)
	require.Len(t, found, 2, page)
	return found[1]
}

func visit(t *testing.T, store coatcheck.Store) {
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	_, err := newShop(store, []byte("short"))
	require.ErrorContains(t, err, "csrf")
	app, err := newShop(store, []byte(strings.Repeat("k", 32)))
	require.NoError(t, err)
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)

	ada := newBrowser(t, server.URL)
	assert.Contains(t, ada.page(), `action="/login"`)
	assert.Empty(t, ada.Jar.Cookies(ada.at), "a browser that only reads gets no cookie")
	status, _ := ada.post("/cart", "thing", "tea")
	assert.Equal(t, http.StatusForbidden, status)
	status, _ = ada.post("/login", "user", "")
	assert.Equal(t, http.StatusUnprocessableEntity, status)

	_, page := ada.post("/login", "user", "ada")
	assert.Contains(t, page, "The cart of ada")
	first := ada.Jar.Cookies(ada.at)[0].Value
	form := token(t, page)
	_, page = ada.post("/cart", "thing", "<tea>", "csrf_token", form)
	assert.Contains(t, page, "1 × &lt;tea&gt;")
	assert.Contains(t, page, "One more in the cart.")
	assert.NotContains(t, ada.page(), "One more in the cart.", "a message is shown once")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { ada.post("/cart", "thing", "egg", "csrf_token", form) })
	}
	all.Wait()
	assert.Contains(t, ada.page(), "8 × egg", "nothing is lost")
	status, _ = ada.post("/cart", "thing", strings.Repeat("x", 4000), "csrf_token", form)
	assert.Equal(t, http.StatusRequestEntityTooLarge, status)

	forged, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/login", strings.NewReader("user=mallory"))
	require.NoError(t, err)
	forged.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	forged.Header.Set("Sec-Fetch-Site", "cross-site")
	status, _ = ada.ask(forged)
	assert.Equal(t, http.StatusForbidden, status, "another site's form")
	assert.Contains(t, ada.page(), "The cart of ada", "and the session goes on")

	eve := newBrowser(t, server.URL)
	_, page = eve.post("/login", "user", "eve")
	status, _ = ada.post("/cart", "thing", "bomb", "csrf_token", token(t, page))
	assert.Equal(t, http.StatusForbidden, status, "a token of another session")

	_, page = ada.post("/login", "user", "ada")
	assert.Contains(t, page, "8 × egg", "the same user's cart is kept")
	kept := ada.Jar.Cookies(ada.at)[0].Value
	assert.NotEqual(t, first, kept, "a login gives a new ticket")
	status, _ = ada.post("/logout", "csrf_token", form)
	assert.Equal(t, http.StatusForbidden, status, "a form from before the login")
	_, page = ada.post("/logout", "csrf_token", token(t, page))
	assert.Contains(t, page, `action="/login"`)
	assert.Empty(t, ada.Jar.Cookies(ada.at))
	eve.Jar.SetCookies(eve.at, []*http.Cookie{{Name: "shop", Value: kept}})
	assert.Contains(t, eve.page(), `action="/login"`, "a kept ticket is dead")
}
