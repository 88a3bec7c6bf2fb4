package servertest

import (
	"net/url"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// Who sends codes that the provider does not know is not asked about after a while, and nobody else is kept out.
func checkProviderLimit(h *harness) {
	p := h.serveProvider(nil, nil)
	usual := p.Behaviour
	p.Edit(func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("code", "x") } })
	b := h.person(p)
	for range 32 {
		require.Equal(h, "oidc_code", b.login("").Code())
	}
	asked := p.Calls("/token")
	resp := b.login("")
	assert.Equal(h, 429, resp.Status)
	assert.Equal(h, "login_throttled", resp.Code())
	assert.Equal(h, "2", resp.Header.Get("Retry-After"))
	assert.Contains(h, b.login("?rd=/x", asBrowser).Body, "/auth/oidc/login?rd=%2fx")
	assert.Equal(h, asked, p.Calls("/token"), "the provider is not asked")
	events := h.Events("login_throttled")
	require.NotEmpty(h, events)
	assert.Equal(h, "address", events[0]["outcome"])

	p.Edit(func(b *oidctest.Behaviour) { *b = usual })
	assert.Equal(h, 429, b.login("").Status, "the address, whoever it is")
	h.Clock.Step(2 * time.Second)
	for range 5 {
		assert.Equal(h, 303, b.login("").Status, "what succeeds does not count")
	}
}
