package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// A logout of the provider that failed with Redis, whatever Redis does of it later, can be tried again with the same token until it is
// done, and not once more.
func TestProviderLogoutIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(primary, replica *redistest.Server) (begin, end func()){
		"Redis hangs": func(primary, _ *redistest.Server) (begin, end func()) {
			return func() { primary.Signal(syscall.SIGSTOP) }, func() { primary.Signal(syscall.SIGCONT) }
		},
		"Redis' writes pause": func(primary, _ *redistest.Server) (begin, end func()) {
			return func() { primary.Must("CLIENT", "PAUSE", "1000000", "WRITE") }, func() { primary.Must("CLIENT", "UNPAUSE") }
		},
		"the replica hangs": func(_, replica *redistest.Server) (begin, end func()) {
			return func() { replica.Signal(syscall.SIGSTOP) }, func() { replica.Signal(syscall.SIGCONT) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary, replica := redistest.StartReplicated(t)
			begin, end := outage(primary, replica)
			p := oidctest.New(t)
			_, node, _ := atProvider(t, p, "--store="+primary.URL(), "--redis-wait-replicas=1")
			for _, by := range []string{"sid", "sub"} {
				t.Run("by "+by, func(t *testing.T) { logoutIsTriedAgain(t, p, node, by, begin, end) })
			}
		})
	}
}

// logoutIsTriedAgain logs in, and out by the provider between begin and end of an outage.
func logoutIsTriedAgain(t *testing.T, p *oidctest.Provider, node, by string, begin, end func()) {
	t.Helper()
	value := "sub-ann"
	if by == "sid" {
		value = "session"
	}
	p.Edit(func(b *oidctest.Behaviour) { b.Claims = map[string]any{"sid": value} })
	login := func() (alive func() bool) {
		c := person(t)
		redistest.Eventually(t, patience, "a login", func() bool {
			status, text := fetch(t, c, node+"/auth/oidc/login?rd=/auth/me")
			return status == http.StatusOK && strings.Contains(text, "sub-ann")
		})
		return func() bool {
			status, text := fetch(t, c, node+"/auth/me")
			return status != http.StatusOK || strings.Contains(text, "sub-ann")
		}
	}
	alive := login()
	token := p.LogoutToken(map[string]any{by: value})

	begin()
	status, text := logoutToken(t, node, token)
	end()
	require.Equal(t, http.StatusBadRequest, status, text)
	require.Contains(t, text, "Try again")
	redistest.Eventually(t, patience, "the logout to be done", func() bool {
		status, text = logoutToken(t, node, token)
		lives := alive()
		require.False(t, lives && strings.Contains(text, "invalid_request"), "the token is refused, and the session lives")
		return !lives && !strings.Contains(text, "server_error")
	})

	if by == "sub" {
		alive = login()
	}
	status, text = logoutToken(t, node, token)
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, text, "invalid_request")
	assert.Equal(t, by == "sub", alive(), "a session that began afterwards stays")
}

// logoutToken posts a logout token as a provider does.
func logoutToken(t *testing.T, base, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/auth/oidc/backchannel-logout",
		strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	c := person(t)
	c.Timeout = 2 * time.Minute
	resp, err := c.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}
