package servertest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// What --reauth-within counts from is when the provider authenticated the person, which single sign-on does not do, and never after
// the session began.
func checkProviderReauth(h *harness) {
	p := h.serveProvider(nil, func(cfg *server.Config) { cfg.ReauthWithin = 5 * time.Minute })
	b := h.person(p)
	logIn := func(query string, authTime func(claims map[string]any)) {
		h.Helper()
		p.Edit(func(bh *oidctest.Behaviour) { bh.Token = authTime })
		require.Equal(h, 303, b.login(query).Status)
	}
	ago := func(d time.Duration) func(map[string]any) {
		at := h.Clock.Now().Add(-d).Unix()
		return func(claims map[string]any) { claims["auth_time"] = at }
	}
	mayEnd := func() bool {
		h.Helper()
		resp := h.Do("DELETE", "/auth/sessions", h.Cookie(b.session()))
		if resp.Status != 200 {
			assert.Equal(h, answer{Status: 403, Code: "reauth_required"}, h.Answer(resp))
		}
		return resp.Status == 200
	}

	logIn("", ago(24*time.Hour))
	assert.False(h, mayEnd(), "nobody has asked the person for anything today")
	b.cookies[h.CookieName] = h.Refresh(b.session())
	assert.False(h, mayEnd(), "a refresh is no login")
	logIn("?reauth=1", ago(0))
	assert.True(h, mayEnd())

	logIn("", ago(4*time.Minute))
	assert.True(h, mayEnd())
	h.Clock.Step(time.Minute + 2*time.Second) // the provider names whole seconds
	assert.False(h, mayEnd(), "it counts from the authentication")

	logIn("", ago(-10*time.Minute))
	assert.True(h, mayEnd())
	h.Clock.Step(5*time.Minute + 2*time.Second)
	assert.False(h, mayEnd(), "a time in the future is none: it counts from the session's beginning")

	logIn("", ago(24*time.Hour))
	logIn("", func(claims map[string]any) { delete(claims, "auth_time") })
	assert.True(h, mayEnd(), "a provider that does not say when, and nothing is left of the login before")
	h.Clock.Step(5*time.Minute + 2*time.Second)
	assert.False(h, mayEnd())

	h.serveAt(p, nil, func(cfg *server.Config) { cfg.ReauthWithin = 30 * time.Second })
	b = h.person(p)
	logIn("?reauth=1", ago(50*time.Second))
	assert.True(h, mayEnd(), "a provider whose clock is behind")
	logIn("", ago(70*time.Second))
	assert.False(h, mayEnd(), "by more than clocks may differ")

	p.Edit(func(bh *oidctest.Behaviour) { bh.Redirect = refusing("access_denied") })
	page := b.login("?rd=/x&reauth=1", asBrowser)
	assert.Contains(h, page.Body, `href="/auth/oidc/login?reauth=1&amp;rd=%2fx"`, "trying again asks for the same")
	page = b.login("?reauth=1", asBrowser)
	assert.Contains(h, page.Body, `href="/auth/oidc/login?reauth=1"`)
}
