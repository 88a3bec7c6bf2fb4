package httpcontract

import (
	"net/netip"
	"slices"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

func checkNoOtherCookie(h *Harness) {
	user := h.User()
	b := h.bound(user)
	resp := h.Post("/auth/refresh", b.cookies(b.token))
	assert.Equal(h, Answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, UserView(user, h.IDOf(b.token), true), resp.Body)
	assert.Equal(h, user, h.Me(b.token))

	next := h.TryLogin(user, b.cookies(b.token))
	assert.NotEqual(h, b.name, h.nameOf(next), "a login begins another session")
	assert.Empty(h, h.Me(b.token))
	assert.Equal(h, 404, b.refresh("").Status)
}

func checkNavigations(h *Harness) {
	b := h.bound(h.User())
	h.Clock.Step(tooOld)
	navigate := "Sec-Fetch-Mode: navigate"
	for _, target := range append([]string{"/auth/me", "/auth/me?x=//evil.example", "/auth/me?a=%0d%0a"}, h.Pages...) {
		resp := h.Get(target, b.cookies(b.token), navigate)
		assert.Equal(h, Answer{Status: 307, Cookie: "cleared"}, h.Answer(resp), target)
		assert.Equal(h, target, resp.Header.Get("Location"))
		assert.Empty(h, h.nameOf(resp))
		assert.Empty(h, resp.Body)
	}
	for what, resp := range map[string]Response{
		"a fetch":                  h.Get("/auth/me", b.cookies(b.token), "Sec-Fetch-Mode: cors"),
		"without the token":        h.Get("/auth/me", b.cookies(""), navigate),
		"a token that is no token": h.Get("/auth/me", b.cookies("x"), navigate),
		"a form":                   h.Post("/auth/refresh", b.cookies(b.token), navigate),
	} {
		assert.Equal(h, 200, resp.Status, what)
		assert.Empty(h, resp.Header.Get("Location"), what)
	}
	for _, target := range []string{"//evil.example/auth/me", `/\evil.example/auth/me`, "http://evil.example/auth/me"} {
		resp := h.Get(target, b.cookies(b.token), navigate)
		assert.NotRegexp(h, `^(//|/\\|http)`, resp.Header.Get("Location"), "a redirect to another host") // a router may clean the path
	}
	b.renew()
	resp := h.Get("/auth/me", b.cookies(b.token), navigate)
	assert.Equal(h, Answer{Status: 200}, h.Answer(resp))
}

func checkPending(h *Harness) {
	b := h.bound(h.User())
	skipped := "Secure-Session-Skipped: quota_exceeded"
	pending := Answer{Status: 429, Code: "binding_pending"}
	for _, route := range h.PendingRoutes {
		resp := h.Do(route.Method, route.Path, b.cookies(""), skipped)
		assert.Equal(h, pending, h.Answer(resp), route)
		assert.NotEmpty(h, resp.Header.Get("Retry-After"), route)
		assert.Empty(h, resp.Header["Set-Cookie"])
	}
	for what, resp := range map[string]Response{
		"a dead token": h.Get("/auth/me", b.cookies(MadeUp()), skipped), "no token's form": h.Get("/auth/me", b.cookies("x"), skipped),
	} {
		assert.Equal(h, pending, h.Answer(resp), what)
	}
	for what, resp := range map[string]Response{
		"a live session": h.Get("/auth/me", b.cookies(b.token), skipped),
		"no name cookie": h.Get("/auth/me", skipped),
		"no name":        h.Get("/auth/me", "Cookie: "+h.CookieName+"-name=x", skipped),
		"a name only":    h.Get("/auth/me", b.cookies("")),
	} {
		assert.Equal(h, Answer{Status: 200}, h.Answer(resp), what)
	}
	resp := b.refresh("", b.cookies(""), skipped)
	assert.Equal(h, 403, resp.Status, "a browser that could not renew renews: to a 429 Chromium throws the binding away")
	b.told(resp)
	resp = h.Post("/auth/dbsc/register", b.cookies(""), skipped, "Secure-Session-Response: x")
	assert.NotEqual(h, 429, resp.Status, "a proof is judged")
	b.renew()
	assert.Equal(h, 200, h.Get("/auth/me", b.cookies(b.token), skipped).Status)
}

func checkBoundLogout(h *Harness) {
	b := h.bound(h.User())
	copied := b.token
	b.renew()
	resp := h.Post("/auth/logout", b.cookies(b.token))
	assert.Equal(h, Answer{Status: 204, Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, "cleared", h.nameOf(resp))
	h.nobody(h.Cookie(b.token))
	h.nobody(h.Cookie(copied))

	b = h.bound(h.User())
	h.Clock.Step(tooOld)
	resp = h.Post("/auth/logout", b.cookies(b.token))
	assert.Equal(h, Answer{Status: 204, Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, "cleared", h.nameOf(resp))
	assert.Equal(h, 404, b.refresh("").Status, "a token that is too old ends its session")
	resp = h.Post("/auth/logout")
	assert.Equal(h, "cleared", h.nameOf(resp))
}

func checkProofsAtOnce(h *Harness) {
	user := h.User()
	b := h.bound(user)
	proof := b.device.Refresh(b.challenge)
	var answers [4]Response
	h.AtOnce(len(answers), func(i int) { answers[i] = b.refresh(proof) })
	statuses := make([]int, 0, len(answers))
	for _, r := range answers {
		statuses = append(statuses, r.Status)
	}
	slices.Sort(statuses)
	assert.Equal(h, []int{200, 403, 403, 403}, statuses)
	for _, r := range answers {
		b.told(r)
		if r.Status == 200 {
			assert.Equal(h, user, h.Me(h.Token(r)))
		}
	}
	b.renew()
	assert.Equal(h, user, h.Me(b.token))
}

func checkThrottledProofs(h *Harness) {
	b, other := h.bound(h.User()), h.bound(h.User())
	wrong := other.device.Refresh(b.challenge)
	from := func(addr string) []string { return []string{b.cookies(""), "X-Forwarded-For: " + addr} }
	for range 30 {
		require.Equal(h, 403, b.refresh(wrong, from("2001:db8::1")...).Status)
	}
	throttled := Answer{Status: 503, Code: "too_many_proofs"}
	assert.Equal(h, throttled, h.Answer(b.refresh(wrong, from("2001:db8::2")...)), "the same /64")
	assert.Equal(h, throttled, h.Answer(b.refresh(b.device.Refresh(b.challenge), from("2001:db8::2")...)))
	assert.Equal(h, throttled, h.Answer(b.refresh("x", from("2001:db8::2")...)), "not even read")
	assert.Equal(h, 403, b.refresh("", from("2001:db8::2")...).Status, "no proof is no failure")
	assert.Equal(h, 200, other.refresh(other.device.Refresh(other.challenge), other.cookies(""), "X-Forwarded-For: 2001:db8::1").Status, "another session")
	b.took(b.refresh(b.device.Refresh(b.challenge), from("192.0.2.1")...)) // another client
	h.Clock.Step(Grace * 6)
	b.took(b.refresh(b.device.Refresh(b.challenge), from("2001:db8::1")...))

	c := h.newBrowser(h.User(), dbsctest.NewDevice())
	forged := c.device.Header()
	forged["jwk"] = other.device.JWK()
	for range 30 {
		require.Equal(h, 400, c.register(c.device.Sign(forged, dbsctest.Object{"jti": c.challenge})).Status)
	}
	assert.Equal(h, throttled, h.Answer(c.register(c.device.Registration(c.challenge))))
	c.took(c.register(c.device.Registration(c.challenge), c.cookies(c.token), "X-Forwarded-For: 192.0.2.1"))
}

func checkDeviceStoreFailures(h *Harness) {
	b := h.newBrowser(h.User(), dbsctest.NewDevice())
	down := Answer{Status: 503, Code: "store_unavailable"}
	for _, op := range []string{OpLoad, OpSwap} {
		h.Store.Failing(ErrLost, op)
		assert.Equal(h, down, h.Answer(b.register(b.device.Registration(b.challenge), b.cookies(""))), op)
		h.Store.On(nil)
	}
	b.took(b.register(b.device.Registration(b.challenge)))
	for _, op := range []string{OpLoad, OpSwap} {
		h.Store.Failing(ErrLost, op)
		assert.Equal(h, down, h.Answer(b.refresh(b.device.Refresh(b.challenge))), op)
		h.Store.On(nil)
	}
	h.Store.Failing(coatcheck.ErrNewer, OpLoad)
	assert.Equal(h, Answer{Status: 503, Code: "record_newer"}, h.Answer(b.refresh("")))
	h.Store.On(nil)
	b.renew()
}

// Without the option no login offers a binding, and the sessions that are bound go on.
func checkSwitchedOff(h *Harness) {
	h.Start(withDBSC)
	user := h.User()
	b, named := h.bound(user), h.newBrowser(h.User(), dbsctest.NewDevice())
	h.Start(nil)
	resp := h.TryLogin(h.User())
	assert.Empty(h, resp.Header.Get("Secure-Session-Registration"))
	assert.Empty(h, h.nameOf(resp))
	assert.Equal(h, Answer{Status: 404, Code: "not_found"}, h.Answer(named.register(named.device.Registration(named.challenge))))
	h.Clock.Step(tooOld)
	h.nobody(h.Cookie(b.token))
	b.renew()
	assert.Equal(h, user, h.Me(b.token))
	assert.Empty(h, h.nameOf(h.Post("/auth/logout", h.Cookie(h.Login(h.User())))))
	assert.Equal(h, "cleared", h.nameOf(h.TryLogin(h.User(), b.cookies(""))), "a browser must not go on with another session's name")
	assert.Equal(h, "cleared", h.nameOf(h.Post("/auth/logout", b.cookies(b.token))))
}

func checkDeviceEvents(h *Harness) {
	user := h.User()
	b := h.bound(user)
	bound := h.Events("device_bound")
	require.Len(h, bound, 1)
	assert.Equal(h, user, bound[0]["user"])
	for range 3 {
		b.refresh("x")
	}
	assert.Len(h, h.Events("device_proof_failed"), 1, "at most one a session and minute")
	b.register("x")
	failed := h.Events("device_proof_failed")
	require.Len(h, failed, 2)
	assert.Equal(h, user, failed[0]["user"])
	assert.NotContains(h, failed[1], "user", "the request named no session, and is not logged with the session of an earlier one")
	assert.NotContains(h, failed[1], "session_id")
	b.renew()
	assert.Len(h, h.Events("device_proved"), 1)
	h.Clock.Step(tooOld)
	h.Me(b.token)
	h.Me(b.token)
	old := h.Events("bound_token_too_old")
	require.Len(h, old, 1)
	assert.Equal(h, user, old[0]["user"])
	assert.Equal(h, netip.MustParseAddr("127.0.0.1").String(), old[0]["client"])
}
