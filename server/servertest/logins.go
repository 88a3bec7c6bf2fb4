package servertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

var loginRules = []rule{
	{name: "refusals", unserved: true, check: checkLoginRefusals},
	{name: "what a mode is shown", unserved: true, check: checkAttempt},
	{name: "the mode says whose session it is", unserved: true, check: checkLoginName},
	{name: "all sessions ended while the login was on its way", unserved: true, check: checkLoginRevoked},
	{name: "remember", config: func(c *server.Config) { c.RememberTTL = 720 * time.Hour }, check: checkRemember},
	{name: "remember is not offered", check: checkNoRemember},
	{name: "whose sessions are sessions", unserved: true, check: checkAdmits},
	{name: "sessions not before", check: checkSetNotBefore},
	{name: "reauthentication", config: func(c *server.Config) { c.ReauthWithin = 5 * time.Minute }, check: checkReauth},
	{name: "a user that the operator ends", check: checkEndUser},
}

// modeFunc is a login mode of a test's own.
type modeFunc func(*login.Attempt) (string, error)

func (f modeFunc) Check(_ context.Context, a *login.Attempt) (string, error) { return f(a) }

func (h *harness) serveMode(mode login.Mode, edit func(*server.Config)) {
	h.Helper()
	h.serve(func(cfg *server.Config) {
		cfg.Login = mode
		if edit != nil {
			edit(cfg)
		}
	})
}

func checkLoginRefusals(h *harness) {
	var verdict error
	h.serveMode(modeFunc(func(a *login.Attempt) (string, error) { return a.UserID, verdict }), nil)
	user := h.user()
	token := h.login(user)
	for _, tt := range []struct {
		err        error
		want       answer
		retryAfter string
		event      string
	}{
		{login.ErrRefused, answer{401, "login_refused", ""}, "", "login_failed"},
		{fmt.Errorf("%w: it answered 500", login.ErrUnavailable), answer{503, "login_unavailable", ""}, "1", "login_failed"},
		{login.ErrBusy, answer{503, "login_busy", ""}, "1", "login_failed"},
		{&login.Throttled{RetryAfter: 89 * time.Second, By: "account"}, answer{429, "login_throttled", ""}, "89", "login_throttled"},
	} {
		verdict = tt.err
		before := len(h.events(tt.event))
		resp := h.tryLogin(user, h.cookie(token))
		assert.Equal(h, tt.want, h.answer(resp))
		assert.Equal(h, tt.retryAfter, strings.Join(resp.header["Retry-After"], ", "), tt.want.code)
		events := h.events(tt.event)
		require.Len(h, events, before+1, "one event")
		assert.Equal(h, errors.Is(tt.err, login.ErrUnavailable), events[before]["error"] != nil, "why it could not be decided")
		assert.Equal(h, user, h.me(token), "a refused login leaves the carried session alone")
	}
}

func checkAttempt(h *harness) {
	var seen login.Attempt
	h.serveMode(modeFunc(func(a *login.Attempt) (string, error) {
		seen = *a
		seen.Authorization, seen.Body = slices.Clone(a.Authorization), slices.Clone(a.Body)
		return a.UserID, nil
	}), func(cfg *server.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })

	body := `{"user_id":"` + h.user() + `","password":"pass\u0077ord"}`
	resp := h.send(request{method: "POST", path: "/auth/login", body: body, head: []string{
		asJSON, "Authorization: Bearer abc", "X-Forwarded-For: 198.51.100.9, 203.0.113.7",
	}})
	require.Equal(h, 200, resp.status, resp.body)
	assert.Equal(h, body, string(seen.Body))
	assert.Equal(h, "password", string(seen.Password))
	assert.Equal(h, "Bearer abc", string(seen.Authorization))
	assert.Equal(h, "203.0.113.7", seen.Client.String())

	h.send(request{method: "POST", path: "/auth/login", body: body, head: []string{asJSON, "Authorization: Bearer a", "Authorization: Bearer b"}})
	assert.Nil(h, seen.Authorization, "two credentials are none")
}

func checkLoginName(h *harness) {
	name := h.user()
	answerWith := name
	h.serveMode(modeFunc(func(*login.Attempt) (string, error) { return answerWith, nil }), nil)
	assert.Equal(h, name, h.me(h.login("as he typed it")))
	answerWith = ""
	assert.Equal(h, answer{503, "login_unavailable", ""}, h.answer(h.tryLogin("x")), "a mode that names nobody")
	answerWith = strings.Repeat("x", 257)
	assert.Equal(h, answer{503, "login_unavailable", ""}, h.answer(h.tryLogin("x")), "a mode that names nobody who can be")
}

// knowing is a mode that knows whom a name is for before it has checked anything.
type knowing struct {
	modeFunc
	user string
}

func (k knowing) UserOf(string) string { return k.user }

func checkLoginRevoked(h *harness) {
	user := h.user()
	var during func()
	mode := modeFunc(func(*login.Attempt) (string, error) {
		during()
		return user, nil
	})
	endAll := func() { require.NoError(h, h.srv.EndUser(context.Background(), user)) }
	revoked := answer{401, "login_revoked", ""}

	h.serveMode(mode, nil)
	during = endAll
	assert.Equal(h, revoked, h.answer(h.tryLogin(user)), "by the name that he typed")
	during = func() {}
	assert.Equal(h, 200, h.tryLogin(user).status, "begun after it")
	during = endAll
	assert.Equal(h, revoked, h.answer(h.tryLogin("alias of "+user)), "by another name")
	during = func() {}
	assert.Equal(h, revoked, h.answer(h.tryLogin("alias of "+user)), "by another name, it cannot be told which was first")

	h.serveMode(knowing{mode, user}, nil)
	assert.Equal(h, 200, h.tryLogin("alias of "+user).status, "unless the mode knows the name beforehand")
	during = endAll
	assert.Equal(h, revoked, h.answer(h.tryLogin("alias of "+user)))
}

func (h *harness) loginRemembered(user, remember string) response {
	h.Helper()
	return h.send(request{
		method: "POST", path: "/auth/login", head: []string{asJSON},
		body: `{"user_id":` + strconv.Quote(user) + `,"remember":` + remember + `}`,
	})
}

func checkRemember(h *harness) {
	user := h.user()
	resp := h.loginRemembered(user, "true")
	token := h.token(resp)
	assert.Contains(h, resp.header["Set-Cookie"][0], "Max-Age=2592000;")
	plain := h.token(h.loginRemembered(user, "false"))
	h.clock.step(ttl + time.Second)
	assert.Empty(h, h.me(plain), "remember false is an ordinary session")
	h.clock.step(700 * time.Hour)
	assert.Equal(h, user, h.me(token), "no idle time ends it")
	h.clock.step(10 * time.Hour)
	assert.Equal(h, user, h.me(token), "and a request does not shorten its life")
	h.clock.step(10 * time.Hour)
	assert.Empty(h, h.me(token), "but none lengthens it")
	for _, bad := range []string{`"true"`, "1", "null", "{}"} {
		assert.Equal(h, answer{400, "malformed_body", ""}, h.answer(h.loginRemembered(user, bad)), bad)
	}
}

func checkNoRemember(h *harness) {
	token := h.token(h.loginRemembered(h.user(), "true"))
	h.clock.step(ttl + time.Second)
	assert.Empty(h, h.me(token))
}

func checkAdmits(h *harness) {
	user, other := h.user(), h.user()
	gone := ""
	h.serve(func(cfg *server.Config) {
		cfg.Policy.Admits = func(userID []byte) bool { return string(userID) != gone }
	})
	token, others := h.login(user), h.login(other)
	gone = user
	assert.Empty(h, h.me(token))
	assert.Equal(h, 401, h.get("/auth/verify", h.cookie(token)).status)
	assert.JSONEq(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+user+"/sessions").body)
	assert.Equal(h, other, h.me(others), "nobody else is affected")
}

func checkSetNotBefore(h *harness) {
	user := h.user()
	old := h.login(user)
	h.clock.step(time.Second)
	h.srv.SetNotBefore(h.clock.now())
	fresh := h.login(user)
	assert.Empty(h, h.me(old))
	assert.Equal(h, user, h.me(fresh))
	assert.Empty(h, h.me(h.token(h.post("/auth/refresh", h.cookie(old)))), "nor does a refresh help")
}

func checkReauth(h *harness) {
	user := h.user()
	token := h.login(user)
	h.clock.step(5 * time.Minute)
	assert.Equal(h, 200, h.do("DELETE", "/auth/sessions?current=false", h.cookie(token)).status, "five minutes are within five minutes")
	other, token := h.login(user), h.login(user)
	id := idOf(h, other)
	h.clock.step(5*time.Minute + time.Millisecond)
	want := answer{403, "reauth_required", ""}
	assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions", h.cookie(token))))
	assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions?current=true", h.cookie(token))))
	assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions/"+id, h.cookie(token))))
	assert.Equal(h, user, h.me(other), "nothing was ended")
	token = h.refresh(token)
	assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions", h.cookie(token))), "a refresh is no login")
	own := idOf(h, token)
	assert.Equal(h, 204, h.do("DELETE", "/auth/sessions/"+own, h.cookie(token)).status, "its own it may always end")
}

func checkEndUser(h *harness) {
	user := h.user()
	token := h.login(user)
	require.NoError(h, h.srv.EndUser(context.Background(), user))
	assert.Empty(h, h.me(token))
	require.Len(h, h.events("revoke"), 1)
	assert.Equal(h, user, h.events("revoke")[0]["user"])
}
