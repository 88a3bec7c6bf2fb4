package servertest

import (
	"regexp"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/dbsctest"
	"github.com/coatcheck/coatcheck/server"
)

var challengeIn = regexp.MustCompile(`;challenge="([^"]+)"$`)

// A browser that comes back from the provider with a ticket that is bound and too old renews it first, or does without it; then it logs in.
func checkProviderDevice(h *harness) {
	p := h.serveProvider(nil, func(cfg *server.Config) { cfg.DBSC = true })
	b := h.person(p)
	m := challengeIn.FindStringSubmatch(b.login("").Header.Get("Secure-Session-Registration"))
	require.NotNil(h, m)
	bound := h.Post("/auth/dbsc/register", h.Cookie(b.session())+"; "+b.CookieName+"-name="+b.cookies[b.CookieName+"-name"], "Secure-Session-Response: "+dbsctest.NewDevice().Registration(m[1]))
	require.Equal(h, 200, bound.Status, bound.Body)
	b.cookies[b.CookieName] = h.Token(bound)
	require.Equal(h, "sub-ann", b.user(), "the bound ticket is used")
	h.Clock.Step(12 * time.Minute) // of 10, and a tenth

	callback := b.authorize(b.begin(""))
	resp := b.get(callback, "Sec-Fetch-Mode: navigate")
	assert.Equal(h, answer{Status: 307, Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, callback, resp.Header.Get("Location"))
	resp = b.get(callback, "Sec-Fetch-Mode: navigate")
	assert.Equal(h, answer{Status: 303, Cookie: "set"}, h.Answer(resp))
	assert.Equal(h, "sub-ann", b.user())
}
