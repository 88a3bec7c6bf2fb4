package servertest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// logoutToken posts a logout token as a provider does.
func (h *harness) logoutToken(token string) response {
	h.Helper()
	return h.Send(request{
		Method: "POST", Path: "/auth/oidc/backchannel-logout", Head: []string{"Content-Type: application/x-www-form-urlencoded"}, Body: "logout_token=" + url.QueryEscape(token),
	})
}

// loggedInAt returns a person who has logged in with the provider's session sid.
func (h *harness) loggedInAt(p *oidctest.Provider, user, sid string) *person {
	h.Helper()
	p.Edit(func(b *oidctest.Behaviour) {
		b.User, b.Claims = user, map[string]any{"sid": sid}
		if sid == "" {
			b.Claims = nil
		}
	})
	b := h.person(p)
	require.Equal(h, 303, b.login("").Status)
	return b
}

func checkBackChannel(h *harness) {
	p := h.serveProvider(nil, nil)
	one, two, none := h.loggedInAt(p, "ann", "s1"), h.loggedInAt(p, "ann", "s2"), h.loggedInAt(p, "ann", "")
	same, bob := h.loggedInAt(p, "ann", "s1"), h.loggedInAt(p, "bob", "s3")
	one.cookies[h.CookieName] = h.Refresh(one.session())

	resp := h.logoutToken(p.LogoutToken(map[string]any{"sub": "bob", "sid": "s1"}))
	assert.Equal(h, 200, resp.Status)
	assert.Empty(h, resp.Body)
	assert.Equal(h, []string{"no-store"}, resp.Header["Cache-Control"])
	assert.Equal(h, "ann", one.user(), "another user's session of that name")

	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sub": "ann", "sid": "s1"})).Status)
	assert.Empty(h, one.user(), "a refresh changes nothing")
	assert.Empty(h, same.user(), "each session that began with it")
	assert.Equal(h, "ann", two.user())
	assert.Equal(h, "ann", none.user())

	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "s3"})).Status, "without a user")
	assert.Empty(h, bob.user())
	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "unknown"})).Status)

	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sub": "ann"})).Status)
	assert.Empty(h, two.user())
	assert.Empty(h, none.user())
	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sub": "nobody"})).Status)
	assert.Len(h, h.Events("revoke"), 6, "each has an event")
}

func checkBackChannelRefused(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.loggedInAt(p, "ann", "s1")
	send := func(contentType, body string) response {
		return h.Send(request{Method: "POST", Path: "/auth/oidc/backchannel-logout", Head: []string{"Content-Type: " + contentType}, Body: body})
	}
	good := func() string { return "logout_token=" + p.LogoutToken(map[string]any{"sub": "ann"}) }
	const form = "application/x-www-form-urlencoded"
	for name, resp := range map[string]response{
		"another client's": h.logoutToken(p.LogoutToken(map[string]any{"sub": "ann", "aud": "other"})),
		"a nonce":          h.logoutToken(p.LogoutToken(map[string]any{"sub": "ann", "nonce": "x"})),
		"no token":         send(form, ""),
		"another type":     send("text/plain", good()),
		"two tokens":       send(form, good()+"&"+good()),
		"JSON":             send("application/json", "{}"),
	} {
		assert.Equal(h, 400, resp.Status, name)
		assert.JSONEq(h, `{"error":"invalid_request","error_description":"The logout token is not valid."}`, resp.Body, name)
	}
	for _, neighbour := range []string{form + "XYZ", "x" + form, form + "/x", form + " x", "application", "application/x-www-form", "multipart/form-data", ";" + form} {
		assert.Equal(h, 400, send(neighbour, good()).Status, neighbour)
	}
	assert.Equal(h, "ann", b.user())
	for _, same := range []string{"Application/X-WWW-Form-Urlencoded", form + ";charset=UTF-8", form + " ; Charset=utf-8", "APPLICATION/X-WWW-FORM-URLENCODED;a=b;c=d"} {
		assert.Equal(h, 200, send(same, good()).Status, "%s: media types have no case (RFC 9110, section 8.3.1)", same)
	}
	assert.Empty(h, b.user())
	token := p.LogoutToken(map[string]any{"sub": "ann"})
	assert.Equal(h, 200, h.logoutToken(token).Status)
	assert.Equal(h, 400, h.logoutToken(token).Status, "a token is accepted once")
	failed := h.Events("provider_logout_failed")
	assert.Contains(h, failed[len(failed)-1]["error"], "used before")
	h.Clock.Step(5 * time.Minute)
	assert.Equal(h, 400, h.logoutToken(token).Status, "and the token is too old by the time the server forgets it")
	for _, event := range h.Events("provider_logout_failed") {
		assert.NotEmpty(h, event["error"], "why")
	}
}

// A session that the provider ends while its login is answered does not survive.
func checkBackChannelRace(h *harness) {
	p := h.serveProvider(nil, nil)
	end := func(w http.ResponseWriter, _ *http.Request) {
		assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "s1"})).Status)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"sub":"ann"}`))
	}
	p.Edit(func(b *oidctest.Behaviour) {
		b.User, b.Claims, b.Handlers = "ann", map[string]any{"sid": "s1"}, map[string]http.HandlerFunc{"/userinfo": end}
	})
	b := h.person(p)
	resp := b.login("")
	assert.Equal(h, 401, resp.Status, resp.Body)
	assert.Equal(h, "login_revoked", resp.Code())
	assert.Empty(h, b.session())
	assert.Zero(h, h.Store.Calls("create"), "no session has begun")
}

// crossingIndex is an index that a logout meets just after a login has asked it whether the provider's session has ended.
type crossingIndex struct {
	*oidc.MemoryIndex
	logout func()
}

func (x *crossingIndex) Ended(ctx context.Context, session [16]byte, now time.Time) (bool, error) {
	ended, err := x.MemoryIndex.Ended(ctx, session, now)
	x.logout()
	return ended, err
}

// Nor does one that the provider ends when its login has asked for that already.
func checkBackChannelCrossing(h *harness) {
	index := &crossingIndex{MemoryIndex: oidc.NewMemoryIndex()}
	p := h.serveProvider(nil, func(cfg *server.Config) { cfg.OIDCIndex = index })
	index.logout = func() {
		assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "session-1"})).Status)
	}
	b := h.person(p)
	assert.Equal(h, "login_revoked", b.login("").Code())
	assert.Empty(h, b.session())
	assert.Equal(h, 1, h.Store.Calls("create"))
	assert.Equal(h, 1, h.Store.Calls("end"), "the session that had begun has ended")
}

// failingIndex is an index that cannot be reached while away is true.
type failingIndex struct {
	*oidc.MemoryIndex
	away bool
}

func (x *failingIndex) Ended(ctx context.Context, session [16]byte, now time.Time) (bool, error) {
	if x.away {
		return false, coatcheck.ErrUnavailable
	}
	return x.MemoryIndex.Ended(ctx, session, now)
}

func (x *failingIndex) Add(ctx context.Context, session [16]byte, entry string, now, until time.Time) (bool, error) {
	if x.away {
		return false, coatcheck.ErrUnavailable
	}
	return x.MemoryIndex.Add(ctx, session, entry, now, until)
}

// A login whose session at the provider has ended, or of which the index cannot tell, leaves the carried session alone, whosever it is,
// and those of the user's other devices.
func checkProviderRefusedEndsNothing(h *harness) {
	index := &failingIndex{MemoryIndex: oidc.NewMemoryIndex()}
	p := h.serveProvider(nil, func(cfg *server.Config) { cfg.OIDCIndex, cfg.Policy.MaxPerUser = index, 1 })
	bob, elsewhere := h.loggedInAt(p, "bob", "s1"), h.loggedInAt(p, "ann", "s2")
	carried := bob.session()
	begins := h.Store.Calls("create")
	refused := func(want answer, callback string) {
		h.Helper()
		resp := bob.get(callback)
		assert.Equal(h, want.Status, resp.Status)
		assert.Equal(h, want.Code, resp.Code())
		assert.Equal(h, carried, bob.session(), "the cookie is as it was")
		assert.Equal(h, "bob", bob.user())
		assert.Equal(h, "ann", elsewhere.user())
		assert.Equal(h, begins, h.Store.Calls("create"))
	}
	p.Edit(func(b *oidctest.Behaviour) { b.User, b.Claims = "ann", map[string]any{"sid": "s3"} })
	callback := bob.authorize(bob.begin(""))
	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "s3"})).Status)
	refused(answer{Status: 401, Code: "login_revoked"}, callback)

	p.Edit(func(b *oidctest.Behaviour) { b.Claims = map[string]any{"sid": "s4"} })
	callback, index.away = bob.authorize(bob.begin("")), true
	refused(answer{Status: 503, Code: "store_unavailable"}, callback)
	index.away = false
	assert.Equal(h, 303, bob.login("").Status)
	assert.Equal(h, "ann", bob.user())
	assert.Empty(h, elsewhere.user())
}

// A logout whose work failed can be tried again with the same token.
func checkBackChannelStore(h *harness) {
	p := h.serveProvider(nil, nil)
	// Two users: on Redis a mark stands for a minute of its clock, which does not step.
	for user, claims := range map[string]map[string]any{"ann": {"sub": "ann"}, "bob": {"sid": "s1"}} {
		b := h.loggedInAt(p, user, "s1")
		token := p.LogoutToken(claims)
		h.Store.Failing(coatcheck.ErrUnavailable)
		resp := h.logoutToken(token)
		assert.Equal(h, 400, resp.Status)
		assert.Contains(h, resp.Body, "server_error")
		h.Store.On(nil)
		assert.Equal(h, user, b.user())
		assert.Equal(h, 200, h.logoutToken(token).Status)
		assert.Empty(h, b.user())
		h.Clock.Step(11 * time.Minute)
	}
}

// unsureIndex is an index whose note that a token's work is done is not acknowledged. It is made all the same if noted is true.
type unsureIndex struct {
	*oidc.MemoryIndex
	noted bool
}

func (x *unsureIndex) Done(ctx context.Context, token [16]byte, attempt string, now, until time.Time) error {
	if x.noted {
		_ = x.MemoryIndex.Done(ctx, token, attempt, now, until) // never fails
	}
	return coatcheck.ErrUnavailable
}

// A logout whose work is done, and whose note of that was not acknowledged, is in the audit log, and is not carried out again if the
// note was made.
func checkBackChannelNote(h *harness) {
	for user, noted := range map[string]bool{"ann": true, "bob": false} {
		p := h.serveProvider(nil, func(cfg *server.Config) { cfg.OIDCIndex = &unsureIndex{oidc.NewMemoryIndex(), noted} })
		before := len(h.Events("revoke"))
		first, token := h.loggedInAt(p, user, ""), p.LogoutToken(map[string]any{"sub": user})
		resp := h.logoutToken(token)
		assert.Equal(h, 400, resp.Status)
		assert.Contains(h, resp.Body, "server_error")
		assert.Empty(h, first.user())
		events := h.Events("revoke")
		require.Len(h, events, before+1)
		assert.Equal(h, user, events[before]["user"])
		assert.InDelta(h, 1, events[before]["sessions"], 0)
		assert.NotEmpty(h, h.Events("provider_logout_failed"))

		h.Clock.Step(time.Second)
		second := h.person(p)
		if resp = second.login(""); resp.Status == 302 { // the store's mark
			resp = second.get(second.authorize(resp.Header.Get("Location")))
		}
		require.Equal(h, user, second.user())
		resp = h.logoutToken(token)
		assert.Equal(h, 400, resp.Status)
		assert.Contains(h, resp.Body, map[bool]string{true: "invalid_request", false: "server_error"}[noted])
		assert.Equal(h, user, second.user(), "a login that began afterwards stays")
		h.Clock.Step(10 * time.Second)
		resp = h.logoutToken(token)
		assert.Contains(h, resp.Body, map[bool]string{true: "invalid_request", false: "server_error"}[noted])
		assert.Equal(h, noted, second.user() == user, "without a note nobody can know that the work was done")
	}
}

// Sessions that a logout has ended before it failed are in the audit log.
func checkBackChannelHalfWay(h *harness) {
	p := h.serveProvider(nil, nil)
	one, two, token := h.loggedInAt(p, "ann", "s1"), h.loggedInAt(p, "ann", "s1"), p.LogoutToken(map[string]any{"sid": "s1"})
	ends := 0
	h.Store.On(func(op string) error {
		if op == "end" {
			ends++
		}
		if ends > 1 {
			return coatcheck.ErrUnavailable
		}
		return nil
	})
	assert.Contains(h, h.logoutToken(token).Body, "server_error")
	h.Store.On(nil)
	events := h.Events("revoke")
	require.Len(h, events, 1)
	assert.InDelta(h, 1, events[0]["sessions"], 0)
	assert.Equal(h, 200, h.logoutToken(token).Status)
	assert.Empty(h, one.user()+two.user())
	assert.Len(h, h.Events("revoke"), 2)
}

func checkProviderRestart(h *harness) {
	p := h.serveProvider(nil, nil)
	one, two := h.loggedInAt(p, "ann", "s1"), h.loggedInAt(p, "ann", "s2")
	h.serveAt(p, nil, nil)
	assert.Equal(h, "ann", one.user())
	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "s1"})).Status)
	assert.Empty(h, one.user())
	assert.Equal(h, "ann", two.user())
}

func checkProviderRestartRemembers(h *harness) {
	if h.Store.Shared() {
		return // redisstore.TestProviderIndex: such a store has an index of its own
	}
	keys := oidc.RandomStateKey()
	same := func(opt *oidc.Options) { opt.StateKeys = keys }
	p := h.serveProvider(same, nil)
	first, done := h.loggedInAt(p, "bob", ""), p.LogoutToken(map[string]any{"sub": "bob"})
	assert.Equal(h, 200, h.logoutToken(done).Status)
	assert.Empty(h, first.user())
	h.Clock.Step(coatcheck.MarkLife)
	second := h.loggedInAt(p, "bob", "")
	p.Edit(func(b *oidctest.Behaviour) { b.User, b.Claims = "ann", map[string]any{"sid": "s1"} })
	late := h.person(p)
	callback := late.authorize(late.begin(""))
	assert.Equal(h, 200, h.logoutToken(p.LogoutToken(map[string]any{"sid": "s1"})).Status)

	h.serveAt(p, same, nil)
	assert.Contains(h, h.logoutToken(done).Body, "invalid_request", "its work is done")
	assert.Equal(h, "bob", second.user())
	assert.Equal(h, "login_revoked", late.get(callback).Code())
	assert.Empty(h, late.session())
	h.Clock.Step(oidc.CookieLife)
	assert.Equal(h, "ann", h.loggedInAt(p, "ann", "s1").user(), "ten minutes later")
}

func checkProviderStoreFailure(h *harness) {
	p := h.serveProvider(nil, nil)
	b := h.person(p)
	callback := b.authorize(b.begin(""))
	h.Store.Failing(coatcheck.ErrUnavailable)
	resp := b.get(callback)
	assert.Equal(h, 503, resp.Status)
	assert.Equal(h, "store_unavailable", resp.Code())
	assert.Empty(h, b.session())
	h.Store.On(nil)
	assert.Equal(h, 303, b.get(callback).Status, "the store failed before the provider was asked: the code is unused, and the login goes on")
	assert.Equal(h, 1, p.Calls("/token"))
}

func checkNoProvider(h *harness) {
	for _, route := range []string{"GET /auth/oidc/login", "GET /auth/oidc/callback", "POST /auth/oidc/backchannel-logout"} {
		method, path, _ := strings.Cut(route, " ")
		resp, err := h.Wire.Send(request{Method: method, Path: path})
		require.NoError(h, err)
		assert.Equal(h, 404, resp.Status, route)
	}
}
