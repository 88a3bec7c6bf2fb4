package servertest

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// claimRules are the rules about claims: how a session gets them, who shows them, and the groups of verify.
var claimRules = []rule{
	{name: "of a login", config: takingClaims, check: checkClaims},
	{name: "stay until the next login", config: takingClaims, check: checkClaimsStay},
	{name: "refused", config: takingClaims, check: checkClaimsRefused},
	{name: "are no member in other modes", check: checkClaimsUnknown},
	{name: "that the mode tells", unserved: true, check: checkClaimsOfMode},
	{name: "userinfo", config: takingClaims, check: checkUserInfo},
	{name: "headers of verify", config: takingClaims, check: checkRemoteHeaders},
	{name: "verify fits 4 KiB", config: takingClaims, check: checkVerifySize},
	{name: "groups of verify", config: takingClaims, check: checkGroupRule},
	{name: "groups are nothing but the rule's", config: takingClaims, check: checkGroupForgeries},
	{name: "rules that are none", config: takingClaims, check: checkNoRules},
	{name: "browsers without a group", config: takingClaimsAndRedirecting, transport: true, check: checkGroupRedirect},
}

// believer is a mode that believes a login's claims, as trusted does.
type believer struct{ modeFunc }

func (believer) Traits() login.Traits {
	return login.Traits{Guesses: login.GuessesNothing, TakesClaims: true}
}

func takingClaims(cfg *server.Config) {
	cfg.Login = believer{func(a *login.Attempt) (string, error) {
		if strings.HasPrefix(a.UserID, "refused") {
			return "", login.ErrRefused
		}
		return a.UserID, nil
	}}
}

func takingClaimsAndRedirecting(cfg *server.Config) {
	redirecting(cfg)
	takingClaims(cfg)
}

func (h *harness) tryClaims(user, claims string, head ...string) response {
	h.Helper()
	return h.Send(request{Method: "POST", Path: "/auth/login", Head: append(head, asJSON), Body: fmt.Sprintf(`{"user_id":%q,"claims":%s}`, user, claims)})
}

// loginWith returns the token of a session with these claims.
func (h *harness) loginWith(user, claims string, head ...string) string {
	h.Helper()
	resp := h.tryClaims(user, claims, head...)
	require.Equal(h, 200, resp.Status, resp.Body)
	return h.Token(resp)
}

const annsClaims = `{"name":"Ann Ä","email":"ann@example.com","groups":["staff","a,b","100%"],"site":["x"]}`

func checkClaims(h *harness) {
	user := h.User()
	token := h.loginWith(user, annsClaims)
	assert.Equal(h, fmt.Sprintf(`{"sub":%q,`, user)+annsClaims[1:], h.Get("/auth/userinfo", h.Cookie(token)).Body)
	assert.Equal(h, fmt.Sprintf(`{"authenticated":true,"user_id":%q,"refreshed":false,"session_id":%q}`, user, h.IDOf(token)),
		h.Get("/auth/me", h.Cookie(token)).Body, "the view has its four members and no others")
	assert.Equal(h, fmt.Sprintf(`{"sub":%q}`, user), h.Get("/auth/userinfo", h.Cookie(h.loginWith(user, "{}"))).Body)
}

func checkClaimsStay(h *harness) {
	user := h.User()
	token := h.loginWith(user, annsClaims)
	for range 3 {
		token = h.Refresh(token)
		h.Clock.Step(renewEvery + time.Second)
		assert.Equal(h, fmt.Sprintf(`{"sub":%q,`, user)+annsClaims[1:], h.Get("/auth/userinfo", h.Cookie(token)).Body)
	}
	next := h.loginWith(user, `{"groups":["ops"]}`, h.Cookie(token))
	assert.Equal(h, fmt.Sprintf(`{"sub":%q,"groups":["ops"]}`, user), h.Get("/auth/userinfo", h.Cookie(next)).Body)
	assert.Equal(h, 401, h.Get("/auth/userinfo", h.Cookie(token)).Status)
	last := h.Token(h.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON, h.Cookie(next)}, Body: fmt.Sprintf(`{"user_id":%q}`, user)}))
	assert.Equal(h, fmt.Sprintf(`{"sub":%q}`, user), h.Get("/auth/userinfo", h.Cookie(last)).Body, "a login without claims has none")
}

func checkClaimsRefused(h *harness) {
	members := func(n int) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(`"c%d":"x"`, i))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	of := func(n int) string { return `{"x":"` + strings.Repeat("a", n-8) + `"}` }
	user := h.User()
	token := h.loginWith(user, annsClaims)
	for claims, want := range map[string]answer{
		members(32): {Status: 200},
		members(33): {Status: 403, Code: "claims_too_large"},
		of(2048):    {Status: 200},
		of(2049):    {Status: 403, Code: "claims_too_large"},
		`{"name":"` + strings.Repeat("ä", 512) + `"}`: {Status: 200}, // 3 KiB once encoded
		`{"name":"` + strings.Repeat("ä", 513) + `"}`: {Status: 403, Code: "claims_too_large"},
		`{"x":"` + strings.Repeat("ä", 1000) + `"}`:   {Status: 200}, // which verify does not show
		`null`:                 {Status: 422, Code: "invalid_claims"},
		`[]`:                   {Status: 422, Code: "invalid_claims"},
		`"admins"`:             {Status: 422, Code: "invalid_claims"},
		`{"a":1}`:              {Status: 422, Code: "invalid_claims"},
		`{"groups":"a"}`:       {Status: 422, Code: "invalid_claims"},
		`{"groups":[""]}`:      {Status: 422, Code: "invalid_claims"},
		`{"name":["a"]}`:       {Status: 422, Code: "invalid_claims"},
		`{"sub":"root"}`:       {Status: 422, Code: "invalid_claims"},
		`{"a":"b","a":"c"}`:    {Status: 400, Code: "malformed_body"},
		`{"a":1,"\u0061":1}`:   {Status: 400, Code: "malformed_body"}, // before what claims must be
		`{"a":"\ud800"}`:       {Status: 400, Code: "malformed_body"},
		`{},"claims":{}`:       {Status: 400, Code: "malformed_body"},
		`{"name":"x"},"x":"y"`: {Status: 400, Code: "malformed_body"},
	} {
		resp := h.tryClaims(h.User(), claims)
		got := h.Answer(resp)
		assert.Equal(h, want.Status, got.Status, "%.60s", claims)
		assert.Equal(h, want.Code, got.Code, "%.60s", claims)
		if want.Status != 200 {
			assert.Empty(h, resp.Header["Set-Cookie"], "%.60s", claims)
		}
	}
	resp := h.tryClaims(user, of(2049), h.Cookie(token))
	assert.Equal(h, answer{Status: 403, Code: "claims_too_large"}, h.Answer(resp))
	assert.Equal(h, user, h.Me(token), "a refused login leaves the carried session alone")
	assert.Equal(h, answer{Status: 401, Code: "login_refused"}, h.Answer(h.tryClaims("refused", of(2049))), "a person who may not log in learns no more than that")
	assert.Equal(h, answer{Status: 422, Code: "invalid_user_id"}, h.Answer(h.tryClaims("", `{"a":1}`)), "the user ID is checked first")
	events := h.Events("login_failed")
	require.NotEmpty(h, events)
	assert.True(h, slices.ContainsFunc(events, func(e map[string]any) bool { return e["outcome"] == "claims_too_large" }))
}

func checkClaimsUnknown(h *harness) {
	assert.Equal(h, answer{Status: 400, Code: "malformed_body"}, h.Answer(h.tryClaims(h.User(), annsClaims)))
}

func checkClaimsOfMode(h *harness) {
	told := coatcheck.ClaimSet{}
	h.serveMode(modeFunc(func(a *login.Attempt) (string, error) {
		a.Claims = told
		return a.UserID, nil
	}), nil)
	user := h.User()
	var err error
	told, err = coatcheck.ParseClaims([]byte(annsClaims))
	require.NoError(h, err)
	assert.Equal(h, fmt.Sprintf(`{"sub":%q,`, user)+annsClaims[1:], h.Get("/auth/userinfo", h.Cookie(h.Login(user))).Body)
	told, err = coatcheck.ParseClaims([]byte(`{"name":"` + strings.Repeat("ä", 513) + `"}`))
	require.NoError(h, err)
	assert.Equal(h, answer{Status: 403, Code: "claims_too_large"}, h.Answer(h.TryLogin(user)), "verify has no room for them")
}

func checkUserInfo(h *harness) {
	for name, line := range map[string]string{"none": "X-None: 1", "malformed": h.Cookie("x"), "unknown": h.Cookie(madeUp())} {
		resp := h.Get("/auth/userinfo", line)
		assert.Equal(h, "unauthenticated", resp.Code(), name)
		assert.Equal(h, 401, resp.Status, name)
	}
	const user = "a\"b\\ä\u2028"
	token := h.Token(h.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: `{"user_id":"a\"b\\ä\u2028","claims":{"x":"\"\\\u0000"}}`}))
	resp := h.Get("/auth/userinfo", h.Cookie(token))
	assert.Contains(h, resp.Header.Get("Content-Type"), "application/json")
	assert.JSONEq(h, `{"sub":"a\"b\\ä\u2028","x":"\"\\\u0000"}`, resp.Body)
	assert.Equal(h, user, h.Me(token))
}

// remotes are the headers in which verify tells who a user is, beside the session's.
var remotes = []string{"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups"}

func checkRemoteHeaders(h *harness) {
	for claims, want := range map[string][3]string{
		annsClaims: {"Ann%20%C3%84", "ann@example.com", "staff,a%2Cb,100%25"},
		`{}`:       {"", "", ""},
		`{"name":"","groups":[],"Name":"x","remote-user":"root"}`: {"", "", ""},
		`{"groups":["\r\nRemote-User: root"," a ","🧥"]}`:          {"", "", "%0D%0ARemote-User:%20root,%20a%20,%F0%9F%A7%A5"},
		`{"name":"\u0000\u007f%41","email":"a\"<b>@c"}`:           {"%00%7F%2541", `a"<b>@c`, ""},
	} {
		user := h.User()
		resp := h.Get("/auth/verify", h.Cookie(h.loginWith(user, claims)))
		require.Equal(h, 200, resp.Status)
		for i, value := range []string{user, want[0], want[1], want[2]} {
			assert.Equal(h, []string{value}, resp.Header[remotes[i]], "%s: %s", claims, remotes[i])
		}
		require.Len(h, resp.Header["Remote-Session-Id"], 1)
	}
	for _, resp := range []response{h.Get("/auth/verify"), h.Get("/auth/verify?group=x", h.Cookie(h.loginWith(h.User(), annsClaims)))} {
		for _, name := range remotes {
			assert.NotContains(h, resp.Header, name, "a refusal names no user")
		}
	}
	token := h.loginWith(h.User(), annsClaims)
	for _, name := range append(slices.Clone(remotes), "Remote_Groups", "Remote-Session-Id", "X-Forwarded-Groups") {
		resp := h.Get("/auth/verify?group=admins", h.Cookie(token), name+": admins")
		assert.Equal(h, 403, resp.Status, name)
		resp = h.Get("/auth/verify", h.Cookie(token), name+": admins")
		assert.NotContains(h, fmt.Sprint(resp.Header), "admins", name)
	}
}

// FWD-09: the largest session that can be begun has an answer that every proxy has room for.
// The answer is at its longest where TLS ends here, the request has a body, and its Origin is the longest that can be trusted.
func checkVerifySize(h *harness) {
	claims := `{"name":"` + strings.Repeat("ä", 512) + `"}` // as much as verify takes of them
	user := strings.Repeat("x", coatcheck.MaxUserID)
	for user != "" && h.tryClaims(user, claims).Status != 200 {
		user = user[1:]
	}
	require.Greater(h, len(user), 100)
	origin := "https://" + strings.Repeat("a.", 127) + ":65535"
	conn := h.dialTLS(func(cfg *server.Config) {
		takingClaims(cfg)
		cfg.TrustedOrigins = []string{origin}
	})
	request := "POST /auth/verify HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\n" + h.Cookie(h.loginWith(user, claims)) + "\r\nContent-Length: 1\r\n\r\nx"
	_, err := conn.Write([]byte(request))
	require.NoError(h, err)
	resp, err := io.ReadAll(conn)
	require.NoError(h, err)
	require.NoError(h, conn.Close())
	for _, part := range []string{"HTTP/1.1 200 OK\r\n", "\r\nRemote-User: " + user + "\r\n", "\r\nStrict-Transport-Security: ", "\r\nConnection: close\r\n", ": " + origin + "\r\n"} {
		assert.Contains(h, string(resp), part)
	}
	assert.LessOrEqual(h, len(resp), 4096)
}

func checkGroupRule(h *harness) {
	token := h.loginWith(h.User(), `{"groups":["staff","a,b","100%","ä b","x&y","#"]}`)
	poor := h.loginWith(h.User(), `{"name":"staff","staff":["staff"]}`)
	for rule, want := range map[string]int{
		"staff": 200, "admins,staff": 200, "staff,admins": 200, "admins": 403, "Staff": 403, "staf": 403, "staffs": 403, "%73taff": 200, "%2573taff": 403,
		"a%2Cb": 200, "a%2cb": 200, "a,b": 403, "100%25": 200, "%C3%A4%20b": 200, "ä%20b": 200, "ä+b": 403, "x%26y": 200, "%23": 200, "staff%00": 403, "staff%2Cadmins": 403,
		"staff=": 403, "=": 403, "group=staff": 403, "staff;x": 403, "staff?x": 403, "staff/../x": 403, strings.Repeat("x,", 15) + "staff": 200,
	} {
		resp := h.Get("/auth/verify?group="+rule, h.Cookie(token))
		assert.Equal(h, want, resp.Status, rule)
		if want == 403 {
			assert.Equal(h, answer{Status: 403, Code: "group_required"}, h.Answer(resp), rule)
			assert.Empty(h, resp.Header["Remote-User"])
		}
		assert.Equal(h, 403, h.Get("/auth/verify?group="+rule, h.Cookie(poor)).Status, "other claims are no groups")
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(h.Get("/auth/verify?group="+rule)), rule)
	}
	for _, method := range methods {
		assert.Equal(h, 403, h.Do(method, "/auth/verify?group=admins", h.Cookie(token)).Status, method)
		assert.Equal(h, 200, h.Do(method, "/auth/verify?group=staff", h.Cookie(token)).Status, method)
	}
}

// FWD-03 and FWD-06, of groups: nothing in the request but the query is part of the rule.
func checkGroupForgeries(h *harness) {
	token := h.loginWith(h.User(), `{"groups":["staff"]}`)
	for _, line := range []string{
		"Remote-Groups: admins", "remote-groups: admins", "Remote_Groups: admins", "X-Forwarded-Uri: /auth/verify?group=staff", "X-Original-Url: /auth/verify?group=staff",
		"X-Forwarded-Groups: admins", "X-Auth-Request-Groups: admins", "Cookie: group=staff", "Referer: /?group=staff",
	} {
		assert.Equal(h, 403, h.Get("/auth/verify?group=admins", h.Cookie(token), line).Status, line)
		assert.Equal(h, 401, h.Get("/auth/verify?group=admins", line).Status, line)
	}
	resp := h.Send(request{Method: "POST", Path: "/auth/verify?group=admins", Head: []string{h.Cookie(token), "Content-Type: application/x-www-form-urlencoded"}, Body: "group=staff"})
	assert.Equal(h, 403, resp.Status)
}

func checkNoRules(h *harness) {
	token := h.loginWith(h.User(), `{"groups":["staff"]}`)
	for _, query := range []string{
		"group=", "group", "group=staff,", "group=,staff", "group=staff,,a", ",", "&", "group=staff&", "&group=staff", "group=staff&group=a", "group=a&group=staff", "group=staff&x=y",
		"x=y&group=staff", "x=y", "group=staff&amp;x", "Group=staff", "GROUP=staff", "%67roup=staff", "group%3Dstaff", "groups=staff", "group[]=staff", "group.x=staff", " group=staff",
		"group=%", "group=%7", "group=%zz", "group=staff,%", "current=true", "rd=/", "for=/x", "?group=staff", "group=" + strings.Repeat("x,", 16) + "staff", "/?group=staff",
	} {
		for name, line := range map[string]string{"live": h.Cookie(token), "none": "X-None: 1"} {
			resp, err := h.Wire.Send(request{Method: "GET", Path: "/auth/verify?" + query, Head: []string{line}})
			require.NoError(h, err)
			assert.Equal(h, 400, resp.Status, "%s, %s", query, name)
			assert.NotContains(h, resp.Header, "Remote-User", query)
		}
	}
}

func checkGroupRedirect(h *harness) {
	token := h.loginWith(h.User(), `{"groups":["staff"]}`)
	resp := h.Get("/auth/verify?group=admins", h.Cookie(token), asBrowser)
	assert.Equal(h, answer{Status: 403, Code: "group_required"}, h.Answer(resp), "logging in again would not help")
	assert.Equal(h, 302, h.Get("/auth/verify?group="+url.QueryEscape("admins"), asBrowser).Status)
	assert.Equal(h, 400, h.Get("/auth/verify?group=", asBrowser).Status)
}
