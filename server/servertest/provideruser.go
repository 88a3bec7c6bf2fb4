package servertest

import (
	"time"

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

// A login keeps the values of the session that it replaces. At a node that knows no notes, such as one of an earlier release, that is also
// what the login before has noted.
func checkProviderEarlierNotes(h *harness) {
	ago := func(d time.Duration) func(map[string]any) {
		return func(claims map[string]any) { claims["auth_time"] = h.Clock.Now().Add(-d).Unix() }
	}
	p := h.serveProvider(func(o *oidc.Options) { o.RemoteUser = "email" }, func(cfg *server.Config) { cfg.ReauthWithin = 5 * time.Minute })
	b := h.person(p)
	p.Edit(func(bh *oidctest.Behaviour) { bh.Token = ago(time.Hour) })
	require.Equal(h, 303, b.login("").Status)
	shown := func() string {
		resp := b.get("/auth/verify")
		if resp.Status != 200 {
			assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(resp))
		}
		return resp.Header.Get("Remote-User")
	}
	require.Equal(h, "ann@example.com", shown())
	require.Equal(h, "reauth_required", b.Do("DELETE", "/auth/sessions", h.Cookie(b.session())).Code())
	b.cookies[h.CookieName] = h.Refresh(b.session())
	require.Equal(h, "ann@example.com", shown(), "a refresh is no login")
	require.Equal(h, "reauth_required", b.Do("DELETE", "/auth/sessions", h.Cookie(b.session())).Code())

	b.loginWithoutNotes("sub-ann", `{"email":"boss@example.com"}`)
	assert.Equal(h, "sub-ann", b.user())
	assert.Empty(h, shown(), "nobody has verified this address")
	assert.Equal(h, 200, b.Do("DELETE", "/auth/sessions", h.Cookie(b.session())).Status, "this login is a recent one")
	require.Equal(h, 303, b.login("").Status)
	assert.Equal(h, "ann@example.com", shown())
}

// loginWithoutNotes is a login of the person at a node that notes nothing.
func (b *person) loginWithoutNotes(user, claims string) {
	b.Helper()
	m, err := coatcheck.NewManager(b.Store, b.config(nil).Policy)
	require.NoError(b, err)
	c, err := coatcheck.ParseClaims([]byte(claims))
	require.NoError(b, err)
	var r coatcheck.Request
	var p coatcheck.Presented
	p.Add([]byte(b.session()))
	require.NoError(b, m.Open(b.Context(), &r, &p, coatcheck.Client{}, b.Clock.Now()))
	require.NoError(b, r.AuthenticateWith(user, c))
	require.NoError(b, r.Finish(b.Context()))
	require.Equal(b, 1, r.Report().Replaced)
	token, _ := r.Token(b.Clock.Now())
	b.cookies[b.CookieName] = string(token.AppendSecretText(nil))
}
