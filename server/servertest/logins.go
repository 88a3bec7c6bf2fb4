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

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

var loginRules = []rule{
	{name: "refusals", unserved: true, check: checkLoginRefusals},
	{name: "what a mode is shown", unserved: true, transport: true, check: checkAttempt},
	{name: "a password is a string", unserved: true, transport: true, check: checkPasswordType},
	{name: "the mode says whose session it is", unserved: true, check: checkLoginName},
	{name: "all sessions ended while the login was on its way", unserved: true, check: checkLoginRevoked},
	{name: "a login that is decided at once begins with its session", unserved: true, check: checkLoginAtOnce},
	{name: "remember", config: func(c *server.Config) { c.RememberTTL = 720 * time.Hour }, check: checkRemember},
	{name: "remember is not offered", transport: true, check: checkNoRemember},
	{name: "whose sessions are sessions", unserved: true, check: checkAdmits},
	{name: "sessions not before", check: checkSetNotBefore},
	{name: "reauthentication", config: func(c *server.Config) { c.ReauthWithin = 5 * time.Minute }, check: checkReauth},
	{name: "a user that the operator ends", check: checkEndUser},
}

// modeFunc is a login mode of a test's own.
type modeFunc func(*login.Attempt) (string, error)

func (f modeFunc) Check(_ context.Context, a *login.Attempt) (string, error) { return f(a) }
func (modeFunc) UserOf(a *login.Attempt) string                              { return a.UserID }
func (modeFunc) Traits() login.Traits                                        { return login.Traits{Guesses: login.GuessesNothing} }

// believing decides as login.Open does, but it does not say that it decides at once, so the server reads the user's mark before it.
var believing = modeFunc(func(a *login.Attempt) (string, error) { return a.UserID, nil })

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
	user := h.User()
	token := h.Login(user)
	for _, tt := range []struct {
		err        error
		want       answer
		retryAfter string
		event      string
	}{
		{login.ErrRefused, answer{Status: 401, Code: "login_refused", Cookie: ""}, "", "login_failed"},
		{fmt.Errorf("%w: it answered 500", login.ErrUnavailable), answer{Status: 503, Code: "login_unavailable", Cookie: ""}, "1", "login_failed"},
		{login.ErrBusy, answer{Status: 503, Code: "login_busy", Cookie: ""}, "1", "login_failed"},
		{&login.Throttled{RetryAfter: 89 * time.Second, By: "account"}, answer{Status: 429, Code: "login_throttled", Cookie: ""}, "89", "login_throttled"},
	} {
		verdict = tt.err
		before := len(h.Events(tt.event))
		resp := h.TryLogin(user, h.Cookie(token))
		assert.Equal(h, tt.want, h.Answer(resp))
		assert.Equal(h, tt.retryAfter, strings.Join(resp.Header["Retry-After"], ", "), tt.want.Code)
		events := h.Events(tt.event)
		require.Len(h, events, before+1, "one event")
		assert.Equal(h, errors.Is(tt.err, login.ErrUnavailable), events[before]["error"] != nil, "why it could not be decided")
		assert.Equal(h, user, h.Me(token), "a refused login leaves the carried session alone")

		want := tt.want
		if want.Status != 503 { // which says nothing of the session
			want.Cookie = "cleared"
		}
		assert.Equal(h, want, h.Answer(h.TryLogin(user, h.Cookie("malformed"))))
		assert.Equal(h, want, h.Answer(h.TryLogin(user, h.Cookie(httpcontract.MadeUp()))), "an unknown token")
	}
}

func checkAttempt(h *harness) {
	var seen login.Attempt
	h.serveMode(modeFunc(func(a *login.Attempt) (string, error) {
		seen = *a
		seen.Authorization, seen.Body = slices.Clone(a.Authorization), slices.Clone(a.Body)
		return a.UserID, nil
	}), func(cfg *server.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })

	body := `{"user_id":"` + h.User() + `","password":"pass\u0077ord"}`
	resp := h.Send(request{Method: "POST", Path: "/auth/login", Body: body, Head: []string{
		asJSON, "Authorization: Bearer abc", "X-Forwarded-For: 198.51.100.9, 203.0.113.7",
	}})
	require.Equal(h, 200, resp.Status, resp.Body)
	assert.Equal(h, body, string(seen.Body))
	assert.Equal(h, "password", string(seen.Password))
	assert.Equal(h, "Bearer abc", string(seen.Authorization))
	assert.Equal(h, "203.0.113.7", seen.Client.String())

	h.Send(request{Method: "POST", Path: "/auth/login", Body: body, Head: []string{asJSON, "Authorization: Bearer a", "Authorization: Bearer b"}})
	assert.Nil(h, seen.Authorization, "two credentials are none")
}

// guarded is a mode that checks passwords.
type guarded struct{ modeFunc }

func (guarded) Traits() login.Traits { return login.Traits{Guesses: login.GuessesPassword} }

// A webhook passes the body on, whose back end could take an object for a condition of its database.
func checkPasswordType(h *harness) {
	asked := 0
	var password []byte
	h.serveMode(guarded{func(a *login.Attempt) (string, error) {
		asked++
		password = slices.Clone(a.Password)
		return a.UserID, nil
	}}, nil)
	for _, bad := range []string{`{"$ne":null}`, `{}`, `["x"]`, `[]`, "17", "0", "1e400", "true", "false"} {
		for _, body := range []string{`{"user_id":"u","password":` + bad + `}`, `{"password": ` + bad + ` ,"user_id":""}`} {
			assert.Equal(h, answer{Status: 400, Code: "malformed_body"}, h.Answer(h.loginBody(body, asJSON)), body)
		}
	}
	assert.Zero(h, asked)
	for member, want := range map[string]string{"": "", `,"password":null`: "", `,"password":""`: "", `,"password":"pass\u0077ord"`: "password"} {
		require.Equal(h, 200, h.loginBody(`{"user_id":"u"`+member+`}`, asJSON).Status, member)
		assert.Equal(h, want, string(password), member)
	}
}

func checkLoginName(h *harness) {
	name := h.User()
	answerWith := name
	h.serveMode(modeFunc(func(*login.Attempt) (string, error) { return answerWith, nil }), nil)
	assert.Equal(h, name, h.Me(h.Login("as it was typed")))
	answerWith = ""
	assert.Equal(h, answer{Status: 503, Code: "login_unavailable", Cookie: ""}, h.Answer(h.TryLogin("x")), "a mode that names no user")
	answerWith = strings.Repeat("x", 257)
	assert.Equal(h, answer{Status: 503, Code: "login_unavailable", Cookie: ""}, h.Answer(h.TryLogin("x")), "a mode that names a user whose ID is too long")
}

// knowing is a mode that knows the user of a name before it has checked anything.
type knowing struct {
	modeFunc
	user string
}

func (k knowing) UserOf(*login.Attempt) string { return k.user }

func checkLoginRevoked(h *harness) {
	user := h.User()
	var during func()
	mode := modeFunc(func(*login.Attempt) (string, error) {
		during()
		return user, nil
	})
	endAll := func() { require.NoError(h, h.srv.EndUser(context.Background(), user)) }
	revoked := answer{Status: 401, Code: "login_revoked", Cookie: ""}

	h.serveMode(mode, nil)
	during = endAll
	assert.Equal(h, revoked, h.Answer(h.TryLogin(user)), "by the user ID itself")
	during = func() {}
	assert.Equal(h, 200, h.TryLogin(user).Status, "begun after it")
	during = endAll
	assert.Equal(h, revoked, h.Answer(h.TryLogin("alias of "+user)), "by another name")
	during = func() {}
	assert.Equal(h, revoked, h.Answer(h.TryLogin("alias of "+user)), "by another name, the server cannot tell whether the login or the end came first")

	h.serveMode(knowing{mode, user}, nil)
	assert.Equal(h, 200, h.TryLogin("alias of "+user).Status, "unless the mode knows the name beforehand")
	during = endAll
	assert.Equal(h, revoked, h.Answer(h.TryLogin("alias of "+user)))
}

// No time passes before the session begins, so no mark has to be read, and none refuses the login.
func checkLoginAtOnce(h *harness) {
	user := h.User()
	h.serveMode(login.Open{}, nil)
	h.Store.On(func(op string) error {
		assert.NotEqual(h, httpcontract.OpMark, op)
		return nil
	})
	token := h.Login(user)
	h.Store.Once(httpcontract.OpCreate, func() { require.NoError(h, h.srv.EndUser(context.Background(), user)) })
	last := h.Login(user)
	assert.Equal(h, "", h.Me(token))
	assert.Equal(h, user, h.Me(last))
	assert.Equal(h, 200, h.TryLogin(user).Status)
}

func (h *harness) loginRemembered(user, remember string) response {
	h.Helper()
	return h.Send(request{
		Method: "POST", Path: "/auth/login", Head: []string{asJSON},
		Body: `{"user_id":` + strconv.Quote(user) + `,"remember":` + remember + `}`,
	})
}

func checkRemember(h *harness) {
	user := h.User()
	resp := h.loginRemembered(user, "true")
	token := h.Token(resp)
	assert.Contains(h, resp.Header["Set-Cookie"][0], "Max-Age=2592000;")
	plain := h.Token(h.loginRemembered(user, "false"))
	h.Clock.Step(ttl + time.Second)
	assert.Empty(h, h.Me(plain), "remember false is an ordinary session")
	h.Clock.Step(700 * time.Hour)
	assert.Equal(h, user, h.Me(token), "no idle time ends it")
	h.Clock.Step(10 * time.Hour)
	assert.Equal(h, user, h.Me(token), "and a request does not shorten its life")
	h.Clock.Step(10 * time.Hour)
	assert.Empty(h, h.Me(token), "but none lengthens it")
	h.checkRememberType()
}

func (h *harness) checkRememberType() {
	h.Helper()
	for _, bad := range []string{`"true"`, "1", "null", "{}"} {
		assert.Equal(h, answer{Status: 400, Code: "malformed_body", Cookie: ""}, h.Answer(h.loginRemembered(h.User(), bad)), bad)
	}
}

func checkNoRemember(h *harness) {
	token := h.Token(h.loginRemembered(h.User(), "true"))
	h.Clock.Step(ttl + time.Second)
	assert.Empty(h, h.Me(token))
	h.checkRememberType()
}

func checkAdmits(h *harness) {
	user, other := h.User(), h.User()
	gone := ""
	h.serve(func(cfg *server.Config) {
		cfg.Policy.Admits = func(userID []byte) bool { return string(userID) != gone }
	})
	token, others := h.Login(user), h.Login(other)
	gone = user
	assert.Empty(h, h.Me(token))
	assert.Equal(h, 401, h.Get("/auth/verify", h.Cookie(token)).Status)
	assert.JSONEq(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+user+"/sessions").Body)
	assert.Equal(h, other, h.Me(others), "other users are not affected")
}

func checkSetNotBefore(h *harness) {
	user := h.User()
	old := h.Login(user)
	h.Clock.Step(time.Second)
	h.srv.SetNotBefore(h.Clock.Now())
	fresh := h.Login(user)
	assert.Empty(h, h.Me(old))
	assert.Equal(h, user, h.Me(fresh))
	assert.Empty(h, h.Me(h.Token(h.Post("/auth/refresh", h.Cookie(old)))), "nor does a refresh help")
}

func checkReauth(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.Clock.Step(5 * time.Minute)
	assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(token)).Status, "five minutes are within five minutes")
	other, token := h.Login(user), h.Login(user)
	id := h.IDOf(other)
	h.Clock.Step(5*time.Minute + time.Millisecond)
	want := answer{Status: 403, Code: "reauth_required", Cookie: ""}
	assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions", h.Cookie(token))))
	assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions?current=true", h.Cookie(token))))
	assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions/"+id, h.Cookie(token))))
	assert.Equal(h, user, h.Me(other), "nothing was ended")
	token = h.Refresh(token)
	assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions", h.Cookie(token))), "a refresh is no login")
	own := h.IDOf(token)
	assert.Equal(h, 204, h.Do("DELETE", "/auth/sessions/"+own, h.Cookie(token)).Status, "a session may always end itself")
}

func checkEndUser(h *harness) {
	user := h.User()
	token := h.Login(user)
	require.NoError(h, h.srv.EndUser(context.Background(), user))
	assert.Empty(h, h.Me(token))
	require.Len(h, h.Events("revoke"), 1)
	assert.Equal(h, user, h.Events("revoke")[0]["user"])
}
