//go:build real

package browsertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
)

// Login, me, refresh, logout, and the cookie as the browser stores it.
func TestRecipe(t *testing.T) {
	s := serveTLS(t, nil)
	b := newProfile(t)
	b.visit(s.url(page))
	assert.Empty(t, b.cookies())
	assert.Empty(t, b.me())

	b.login()
	first := b.cookies()
	require.Len(t, first, 1)
	c := first[0]
	assert.Equal(t, "__Host-coatcheck", c.Name)
	assert.Len(t, c.Value, 43)
	assert.Equal(t, "app.test", c.Domain, "of this host only: no leading dot")
	assert.Equal(t, "/", c.Path)
	assert.True(t, c.Secure)
	assert.True(t, c.HTTPOnly)
	assert.Equal(t, network.CookieSameSiteLax, c.SameSite)
	assert.False(t, c.Session, "it outlives the browser")
	left := time.Until(time.Unix(int64(c.Expires), 0))
	assert.InDelta(t, 12*time.Hour, left, float64(5*time.Minute), "Max-Age is the absolute lifetime")
	assert.Empty(t, eval[string](b, "document.cookie"), "no script reads it")
	assert.Equal(t, "user-42", b.me())

	status, text := b.ask("POST", "/auth/refresh")
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"refreshed":true`)
	second := b.cookies()
	require.Len(t, second, 1, "it replaces the first")
	assert.NotEqual(t, c.Value, second[0].Value)
	assert.Equal(t, "user-42", b.me())

	status, _ = b.ask("POST", "/auth/logout")
	assert.Equal(t, 204, status)
	assert.Empty(t, b.cookies(), "a clear leaves nothing")
	assert.Empty(t, b.me())
}

// Where Chromium stores a Secure cookie over plain http: on loopback, which it trusts, and nowhere else.
func TestSecureCookieOverPlainHTTP(t *testing.T) {
	for _, tt := range []struct {
		name, host string
		edit       func(*server.Config)
		stored     bool
	}{
		{"__Host- on localhost", "localhost", nil, true},
		{"__Host- on 127.0.0.1", "127.0.0.1", nil, true},
		{"__Host- on a name", "app.test", nil, false},
		{"as with --dev, on localhost", "localhost", insecure, true},
		{"as with --dev, on 127.0.0.1", "127.0.0.1", insecure, true},
		{"as with --dev, on a name", "app.test", insecure, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := servePlain(t, tt.edit)
			b := newProfile(t)
			b.visit(s.http(tt.host) + "/auth/devices")
			b.login()
			if tt.stored {
				assert.Len(t, b.cookies(), 1)
				assert.Equal(t, "user-42", b.me())
			} else {
				assert.Empty(t, b.cookies())
				assert.Empty(t, b.me())
			}
		})
	}
}

func insecure(cfg *server.Config) { cfg.Cookie = server.Cookie{Name: "coatcheck", Insecure: true} }

// elsewhereOrigin is a page of another origin, which may run what it likes.
func elsewhereOrigin(t *testing.T) (port string) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>elsewhere</title>"))
	}))
	t.Cleanup(srv.Close)
	return srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
}

// SameSite=Lax goes by site, not by origin: what the browser does not hold back, Sec-Fetch-Site must.
func TestOtherSites(t *testing.T) {
	s := serveTLS(t, func(cfg *server.Config) { cfg.TrustedOrigins = []string{"https://trusted.test"} })
	port := elsewhereOrigin(t)
	b := newProfile(t)
	b.visit(s.url(page))
	b.login()

	attack := func(method, path string) {
		b.Helper()
		eval[string](b, "fetch('"+s.url(path)+"', {method: '"+method+"', mode: 'no-cors', credentials: 'include'}).then((r) => r.type, (e) => e.name)")
	}
	for _, page := range []struct {
		name, host string
		sameSite   bool
	}{
		{"another site", "evil.test", false},
		{"another origin of the site", "app.test", true}, // another port
		{"a sibling name", "evil.app.test", true},
	} {
		b.visit("https://" + page.host + ":" + port + "/")
		assert.Equal(t, page.sameSite, s.cookieCame(func() { attack("GET", "/auth/me") }), "%s: the cookie with a safe request", page.name)
		assert.False(t, s.cookieCame(func() { attack("POST", "/auth/logout") }), "%s: logout does not get as far as the session", page.name)
		assert.False(t, s.cookieCame(func() { attack("POST", "/auth/refresh") }), page.name)
	}
	b.visit("https://evil.test:" + port + "/")
	assert.True(t, s.cookieCame(func() {
		eval[bool](b, "void (location = '"+s.url(page)+"') || true")
		b.until("location.host.startsWith('app.test') && document.readyState == 'complete'")
		b.sees("user-42")
	}), "a link from another site arrives logged in: Lax")
	assert.Equal(t, "user-42", b.me(), "nothing ended the session")
}

// A trusted origin of the same site reads and writes with the user's cookie; any other may not even read.
func TestTrustedOrigin(t *testing.T) {
	port := elsewhereOrigin(t)
	s := serveTLS(t, func(cfg *server.Config) { cfg.TrustedOrigins = []string{"https://front.app.test:" + port} })
	b := newProfile(t)
	b.visit(s.url(page))
	b.login()
	ask := func(method, path string) string {
		b.Helper()
		return eval[string](b, "fetch('"+s.url(path)+"', {method: '"+method+"', credentials: 'include'}).then(async (r) => r.status + ' ' + await r.text(), (e) => e.name)")
	}
	b.visit("https://other.app.test:" + port + "/")
	assert.Equal(t, "TypeError", ask("GET", "/auth/me"), "no CORS")
	b.visit("https://front.app.test:" + port + "/")
	assert.Contains(t, ask("GET", "/auth/me"), `200 {"authenticated":true,"user_id":"user-42"`)
	assert.Contains(t, ask("POST", "/auth/refresh"), `"refreshed":true`)
	assert.Contains(t, ask("DELETE", "/auth/sessions"), `200 {"revoked":0}`, "after a preflight")
	assert.Equal(t, "204 ", ask("POST", "/auth/logout"))
	assert.Empty(t, b.cookies())
}

// Two tabs that refresh at once both stay logged in, whatever order the answers come in.
func TestTwoTabsRefreshAtOnce(t *testing.T) {
	s := serveTLS(t, nil)
	one := newProfile(t)
	two := one.another()
	one.visit(s.url(page))
	two.visit(s.url(page))
	one.login()
	seen := map[string]bool{}
	for range 10 {
		var both sync.WaitGroup
		for _, b := range []*tab{one, two} {
			both.Go(func() {
				eval[bool](b, "Promise.all([1, 2, 3].map(() => fetch('/auth/refresh', {method: 'POST'}))).then((all) => all.every((r) => r.ok))")
			})
		}
		both.Wait()
		assert.Equal(t, "user-42", one.me())
		assert.Equal(t, "user-42", two.me())
		jar := one.cookies()
		require.Len(t, jar, 1)
		seen[jar[0].Value] = true
	}
	assert.Len(t, seen, 10, "each round rotated")
}

// A logout in one tab is seen in the other: at once by its next request, and on the page when one comes back to it.
func TestLogoutInAnotherTab(t *testing.T) {
	s := serveTLS(t, nil)
	one := newProfile(t)
	one.visit(s.url(page))
	one.login()
	two := one.another()
	two.visit(s.url(page))
	two.sees("Signed in as user-42")
	one.visit(s.url(page))
	one.sees("Signed in as user-42")
	one.press("Sign out")
	one.sees("You are signed out.")
	assert.Empty(t, two.me())
	two.comeBack()
	two.sees("You are not signed in")
}
