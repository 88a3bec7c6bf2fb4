package servertest

import (
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func checkProviderRemoteUser(h *harness) {
	p := h.serveProvider(func(o *oidc.Options) { o.RemoteUser, o.Claims = "email", []string{"groups"} }, nil)
	b := h.person(p)
	require.Equal(h, 303, b.login("").Status)
	verdict := h.Get("/auth/verify", h.Cookie(b.session()))
	assert.Equal(h, []string{"ann@example.com"}, verdict.Header["Remote-User"])
	assert.Equal(h, "sub-ann", b.user(), "the user ID is always sub")
	for name, claims := range map[string]map[string]any{
		"not verified": {"email": "a@b", "email_verified": false}, "no word on it": {"email": "a@b"}, "none": {"email_verified": true}, "empty": {"email": "", "email_verified": true},
	} {
		p.Edit(func(bh *oidctest.Behaviour) { bh.Claims = claims })
		resp := h.person(p).login("")
		assert.Equal(h, "oidc_not_verified", resp.Code(), name)
	}
}

// Nobody has checked the claim that Remote-User shows where another one was shown as the session began: the address may be anybody's.
func checkProviderOtherRemoteUser(h *harness) {
	shows := func(claim string, claims ...string) func(*oidc.Options) {
		return func(o *oidc.Options) { o.RemoteUser, o.Claims = claim, claims }
	}
	p := oidctest.New(h.T)
	p.Edit(func(b *oidctest.Behaviour) {
		b.Now, b.Claims = h.Clock.Now, map[string]any{"email": "boss@example.com", "email_verified": false, "upn": "boss@example.com"}
	})
	sessions := make(map[string]*person)
	for name, before := range map[string]func(*oidc.Options){
		"sub": nil, "another claim": shows("upn", "email", "upn"), "another claim under this name": shows("login", "login=upn", "email"),
	} {
		h.serveAt(p, before, nil)
		sessions[name] = h.person(p)
		require.Equal(h, 303, sessions[name].login("").Status, name)
	}
	h.serve(func(cfg *server.Config) {
		cfg.Login = believer{func(a *login.Attempt) (user string, err error) {
			a.Claims, err = coatcheck.ParseClaims([]byte(`{"email":"boss@example.com","login":"boss@example.com","upn":"boss@example.com"}`))
			return a.UserID, err
		}}
	})
	sessions["another login mode"] = &person{h, p, map[string]string{h.CookieName: h.Login("boss")}}

	for _, now := range []func(*oidc.Options){shows("email"), shows("login", "login=email"), shows("upn", "email=upn")} {
		h.serveAt(p, now, func(cfg *server.Config) { cfg.VerifyLoginURL = "http://localhost:4000/auth/login" })
		for name, b := range sessions {
			require.NotEmpty(h, b.user(), name)
			for _, path := range []string{"/auth/verify", "/auth/verify?group=staff"} {
				assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(b.get(path)), name)
			}
			assert.Equal(h, 302, b.get("/auth/verify", asBrowser).Status, "%s: a browser can log in again", name)
			assert.Equal(h, 200, b.get("/auth/login").Status, "%s: and the page shows how", name)
		}
		p.Edit(func(b *oidctest.Behaviour) { b.Claims["email_verified"] = true })
		b := sessions["sub"]
		require.Equal(h, 303, b.login("").Status)
		h.serveAt(p, now, nil)
		assert.Equal(h, 200, b.get("/auth/verify").Status, "a restart changes nothing")
		p.Edit(func(b *oidctest.Behaviour) { b.Claims["email_verified"] = false })
	}
}
