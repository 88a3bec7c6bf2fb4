package servertest

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// An address that sends codes which the provider does not know is refused after a while without asking the provider.
func checkProviderLimit(h *harness) {
	p := h.serveProvider(nil, nil)
	usual := p.Behaviour
	p.Edit(func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("code", "x") } })
	b := h.person(p)
	require.Equal(h, map[answer]int{{Status: 400, Code: "oidc_code"}: 256}, b.repeat(256))
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
	assert.Equal(h, 429, b.login("").Status, "the address is refused, whoever logs in")
	h.Clock.Step(2 * time.Second)
	for range 5 {
		assert.Equal(h, 303, b.login("").Status, "a login that succeeds does not count")
	}
}

// tokenAnswer is a behaviour of which each code gets this answer.
func tokenAnswer(status int, body string) func(*oidctest.Behaviour) {
	return func(b *oidctest.Behaviour) {
		b.Handlers = map[string]http.HandlerFunc{"/token": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			answering(status, body)(w, r)
		}}
	}
}

// repeat sends the answer to one login n times, as a client does that ignores what the server clears, and returns how the server
// answered.
func (b *person) repeat(n int) map[answer]int {
	b.Helper()
	callback := b.authorize(b.begin(""))
	kept := b.cookies
	got := make(map[answer]int)
	for range n {
		b.cookies = maps.Clone(kept)
		resp := b.get(callback)
		got[answer{Status: resp.Status, Code: resp.Code()}]++
	}
	return got
}

// A login that fails at the provider counts whatever the provider answers: a client can repeat one callback any number of times.
func checkProviderLimitAnswers(h *harness) {
	p := h.serveProvider(nil, nil)
	usual := p.Behaviour
	for name, tt := range map[string]struct {
		edit func(*oidctest.Behaviour)
		want answer
	}{
		"invalid_request": {tokenAnswer(400, `{"error":"invalid_request"}`), answer{Status: 502, Code: "oidc_answer"}},
		"no error's name": {tokenAnswer(400, `{}`), answer{Status: 502, Code: "oidc_answer"}},
		"414":             {tokenAnswer(414, ""), answer{Status: 502, Code: "oidc_answer"}},
		"429":             {tokenAnswer(429, ""), answer{Status: 503, Code: "oidc_unavailable"}},
		"500":             {tokenAnswer(500, ""), answer{Status: 503, Code: "oidc_unavailable"}},
		"no JSON":         {tokenAnswer(200, "<"), answer{Status: 502, Code: "oidc_answer"}},
		"no ID token":     {tokenAnswer(200, `{"access_token":"x","token_type":"Bearer"}`), answer{Status: 502, Code: "oidc_answer"}},
		"a bad ID token":  {func(b *oidctest.Behaviour) { b.AnyCode = true; b.Token = func(c map[string]any) { c["nonce"] = "x" } }, answer{Status: 502, Code: "oidc_token"}},
		"too many claims": {func(b *oidctest.Behaviour) {
			b.AnyCode = true
			b.Claims = map[string]any{"groups": []string{strings.Repeat("x", 3000)}}
		}, answer{Status: 403, Code: "claims_too_large"}},
	} {
		p.Edit(func(b *oidctest.Behaviour) { *b = usual; tt.edit(b) })
		assert.Equal(h, map[answer]int{tt.want: 28}, h.person(p).repeat(28), name)
	}
	asked := p.Calls("/token")
	p.Edit(func(b *oidctest.Behaviour) { *b = usual; tokenAnswer(500, "")(b) })
	got := h.person(p).repeat(8)
	assert.Equal(h, map[answer]int{{Status: 503, Code: "oidc_unavailable"}: 256 - 9*28, {Status: 429, Code: "login_throttled"}: 4}, got)
	assert.Equal(h, 256-9*28, p.Calls("/token")-asked)
	h.Clock.Step(2 * time.Second)
	p.Edit(func(b *oidctest.Behaviour) { *b = usual })
	assert.Equal(h, 303, h.person(p).login("").Status, "the provider works again")
}

// A login that fails before the provider has a code does not count against the address, and neither does an operator's mistake.
func checkProviderLimitOthers(h *harness) {
	p := h.serveProvider(nil, nil)
	usual := p.Behaviour
	for name, tt := range map[string]struct {
		edit func(*oidctest.Behaviour)
		want answer
	}{
		"denied":              {func(b *oidctest.Behaviour) { b.Redirect = refusing("access_denied") }, answer{Status: 403, Code: "oidc_denied"}},
		"mix-up":              {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("iss", "https://other.example") } }, answer{Status: 400, Code: "oidc_issuer"}},
		"a wrong secret":      {tokenAnswer(401, `{"error":"invalid_client"}`), answer{Status: 502, Code: "oidc_answer"}},
		"a client without it": {tokenAnswer(400, `{"error":"unauthorized_client"}`), answer{Status: 502, Code: "oidc_answer"}},
	} {
		p.Edit(func(b *oidctest.Behaviour) { *b = usual; tt.edit(b) })
		assert.Equal(h, map[answer]int{tt.want: 70}, h.person(p).repeat(70), name) // more than 256 in all
	}
}

// The code of a login that was throttled is unused: the same address of the browser, asked for again, finishes the login.
func checkProviderThrottledLogin(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	callback := b.authorize(b.begin("?rd=/x"))
	usual := p.Behaviour
	p.Edit(func(bh *oidctest.Behaviour) { bh.Redirect = func(q url.Values) { q.Set("code", "x") } })
	require.Equal(h, map[answer]int{{Status: 400, Code: "oidc_code"}: 256}, h.person(p).repeat(256))
	p.Edit(func(bh *oidctest.Behaviour) { *bh = usual })
	for range 2 {
		assert.Equal(h, 429, b.get(callback).Status)
	}
	require.Len(h, b.cookies, 1, "the cookie of the attempt is kept")
	h.Clock.Step(2 * time.Second)
	resp := b.get(callback)
	assert.Equal(h, 303, resp.Status, resp.Body)
	assert.Equal(h, "/x", resp.Header.Get("Location"))
	require.Len(h, b.cookies, 1, "the session's cookie")
	assert.Equal(h, "sub-ann", b.user())
	assert.Equal(h, "oidc_state", b.get(callback).Code(), "now it is over")
}
