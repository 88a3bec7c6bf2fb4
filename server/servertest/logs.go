package servertest

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server/login"
)

// logRules are the rules about logs. Besides, every rule's log, at debug level, is checked for tokens and for lines that
// are not JSON: see checkLogs.
var logRules = []rule{
	{name: "hostile bytes make one line each", config: scripted, transport: true, check: checkHostileLines},
	{name: "each event once", config: withEvents, check: checkEvents},
	{name: "lines that anybody can cause are bounded", config: withEvents, check: checkBoundedLines},
	{name: "each session that ends is named", config: withEvents, check: checkNamedEnds},
	{name: "a session that ends itself", config: withEvents, check: checkNamedSignOuts},
	{name: "a revocation that fails half way", check: checkFailedRevocation},
	{name: "a login that is undone", config: withEvents, check: checkUndoneLogin},
	{name: "no secret", config: scripted, check: checkNoSecrets},
	{name: "a token that is typed as a name", unserved: true, check: checkTypedTokens},
}

var hostile = map[string]string{
	"CR LF": "\r\n{\"event\":\"login\"}", "LF": "a\nb", "ESC": "\x1b[31mred\x1b[0m", "NUL": "\x00", "quotes": `","event":"logout","x":"`,
	"backslash": `\`, "invalid UTF-8": "\xff\xfe\xed\xa0\x80",
	"bidi": "\u202e\u2066", "line separator": "\u2028\u2029", "8 KiB": strings.Repeat("x", 7000), "8 KiB of quotes": strings.Repeat(`"`, 7000),
	"C1": "\u0085\u009b31m", "format": "%s%d%!(EXTRA)", "JSON": `{"a":1}`,
}

// LOG-03: in the user name, the user agent, the path, the origin and the administrator's path.
func checkHostileLines(h *harness) {
	for name, text := range hostile {
		before := len(h.Logs.Events())
		body, err := json.Marshal(map[string]string{"user_id": "refused " + text})
		require.NoError(h, err)
		refused := h.loginBody(string(body), asJSON)
		assert.Contains(h, []int{401, 422}, refused.Status, name)
		lines := h.Logs.Events()[before:]
		assert.LessOrEqual(h, len(lines), 1, "%s: %q", name, lines)

		line := strings.NewReplacer("\r", "?", "\n", "?", "\x00", "?", "\x1b", "?").Replace(text)
		before = len(h.Logs.Events())
		token := h.Login("user " + name)
		h.Post("/auth/logout", "User-Agent: "+line, h.Cookie(token))
		assert.Len(h, h.Logs.Events()[before:], 2, name)
		before = len(h.Logs.Events())
		resp := h.Post("/auth/logout", "Origin: "+line)
		assert.Equal(h, 403, resp.Status, name)
		assert.Len(h, h.Logs.Events()[before:], 1, name)
		before = len(h.Logs.Events())
		h.Get("/" + url.PathEscape(text)[:min(7000, len(url.PathEscape(text)))])
		assert.Empty(h, h.Logs.Events()[before:], name)

		escaped := url.PathEscape(text)
		escaped = escaped[:min(len(escaped)/3*3, 6999)]
		before = len(h.Logs.Events())
		resp, err = h.admin.Send(request{Method: "DELETE", Path: "/admin/users/" + escaped + "/sessions"})
		require.NoError(h, err)
		assert.Contains(h, []int{200, 400, 404}, resp.Status, name)
		assert.LessOrEqual(h, len(h.Logs.Events()[before:]), 1, name)
	}
	assert.Greater(h, len(h.Logs.Lines()), len(h.Logs.Events()), "at debug level each request has a line as well")
	for _, line := range h.Logs.Lines() {
		var e map[string]any
		require.NoError(h, json.Unmarshal([]byte(line), &e), line)
		assert.Contains(h, []any{"audit", "request"}, e["msg"], "a forged line")
		assert.LessOrEqual(h, len(line), 4096, "%.100s", line)
		assert.NotContains(h, line, "\x1b")
		assert.True(h, strings.ToValidUTF8(line, "") == line)
	}
}

// LOG-04: of each kind of event that anybody can cause there are 60 lines a minute, and the next line has the count of the others.
// Events that begin or end sessions are always logged.
func checkBoundedLines(h *harness) {
	one, other := h.Login(h.User()), h.Login("other")
	const floods = 80
	causes := map[string]func(){
		"duplicate_cookie":   func() { h.Me(one, other) },
		"cross_site_refused": func() { h.Post("/auth/logout", "Sec-Fetch-Site: cross-site") },
		"login_failed":       func() { h.TryLogin("refused") },
		"login_throttled":    func() { h.TryLogin("throttled") },
		"refresh":            func() { one = h.Refresh(one) },
	}
	flood := func() {
		for range floods {
			for _, cause := range causes {
				cause()
			}
			h.Post("/auth/logout", h.Cookie(h.Login("busy")))
		}
	}
	flood()
	h.Clock.Step(time.Minute)
	flood()
	for event := range causes {
		events := h.Events(event)
		assert.Len(h, events, 2*60, event)
		assert.EqualValues(h, floods-60, events[60]["omitted"], event)
		assert.NotContains(h, events[61], "omitted", event)
	}
	assert.Len(h, h.Events("login"), 2+2*floods)
	assert.Len(h, h.Events("logout"), 2*floods)
}

// LOG-04: a request may end several sessions, also of others: each has a line with its user, which a restore of old data goes by.
func checkNamedEnds(h *harness) {
	ends := func(event string) map[string]any {
		users := make(map[string]any)
		for _, e := range h.Events(event) {
			assert.EqualValues(h, 1, e["sessions"])
			assert.NotContains(h, users, e["session_id"])
			users[e["session_id"].(string)] = e["user"]
		}
		return users
	}
	ada, bob := h.Login("ada"), h.Login("bob")
	want := map[string]any{h.IDOf(ada): "ada", h.IDOf(bob): "bob"}
	require.Equal(h, 204, h.Post("/auth/logout", h.Cookie(ada, bob)).Status)
	assert.Equal(h, want, ends("logout"))

	ada, bob = h.Login("ada"), h.Login("bob")
	old := h.Login("cyd")
	current := h.Refresh(old)
	require.Equal(h, "cyd", h.Me(current))
	h.Clock.Step(httpcontract.Grace)
	want = map[string]any{h.IDOf(ada): "ada", h.IDOf(bob): "bob"}
	require.Equal(h, 200, h.TryLogin("eve", h.Cookie(ada, bob)).Status)
	assert.Equal(h, want, ends("revoke"))
	want[h.IDOf(current)] = "cyd"
	require.Equal(h, 200, h.TryLogin("eve", h.Cookie(old)).Status)
	assert.Equal(h, want, ends("revoke"))
}

// LOG-04: a session that ends itself by its name, or with all others, signs out, which also ends what the request's other tokens were
// rotated out of. That has a line, too, with the reason that the metrics count.
func checkNamedSignOuts(h *harness) {
	for _, path := range []string{"", "?current=true"} {
		own, old, rotated := h.Login("ada"), h.Login("cyd"), ""
		rotated = h.Refresh(old)
		require.Equal(h, "cyd", h.Me(rotated))
		h.Clock.Step(httpcontract.Grace)
		seen := len(h.Events("logout"))
		want, name := []string{h.IDOf(rotated)}, path
		if path == "" {
			want, name = append([]string{h.IDOf(own)}, want...), "/"+h.HandleOf(own)
		}
		h.Do("DELETE", "/auth/sessions"+name, h.Cookie(own, old))
		require.Empty(h, h.Me(rotated))
		var got []string
		for _, e := range h.Events("logout")[seen:] {
			got = append(got, e["session_id"].(string))
		}
		assert.Equal(h, want, got, name)
	}
}

// LOG-04: the sessions that had ended before a revocation failed are in the log: the next try does not find them.
func checkFailedRevocation(h *harness) {
	for n, end := range []func(user, token string){
		func(user, _ string) {
			assert.Equal(h, 503, h.adminDo("DELETE", "/admin/users/"+user+"/sessions").Status)
		},
		func(_, token string) {
			assert.Equal(h, 503, h.Do("DELETE", "/auth/sessions?current=true", h.Cookie(token)).Status)
		},
		func(user, _ string) { require.ErrorIs(h, h.srv.EndUser(h.Context(), user), coatcheck.ErrUnavailable) },
	} {
		user := h.User()
		h.Login(user)
		token := h.Login(user)
		h.Store.Afterwards(func(op string) error {
			if op == httpcontract.OpEndUser {
				return errLost
			}
			return nil
		})
		end(user, token)
		h.Store.Afterwards(nil)
		events := h.Events("revoke")
		require.Len(h, events, n+1)
		assert.Equal(h, user, events[n]["user"])
		assert.EqualValues(h, 2, events[n]["sessions"])
	}
}

// LOG-04: the sessions that a login ended before it failed are in the log, with their users.
func checkUndoneLogin(h *harness) {
	user, other := h.User(), h.User()
	h.Login(user)
	h.Clock.Step(time.Millisecond)
	h.Login(user)
	carried := h.Login(other)
	h.Store.Failing(errLost, httpcontract.OpEnd)
	assert.Equal(h, 503, h.TryLogin(user, h.Cookie(carried)).Status)
	h.Store.On(nil)
	events := h.Events("revoke")
	require.Len(h, events, 1)
	assert.Equal(h, "limit", events[0]["reason"])
	assert.Equal(h, user, events[0]["user"])
}

// LOG-01: the requests have canaries wherever a client can put a secret. Every rule's log is searched for tokens anyway.
func checkNoSecrets(h *harness) {
	const canary = "CANARYb4d5"
	h.Canaries = append(h.Canaries, canary)
	token := h.Login(h.User())
	for _, route := range allRoutes {
		method, path, _ := strings.Cut(route, " ")
		for _, user := range []string{"refused", "down", "odd", "nobody", h.User()} {
			h.Send(request{Method: method, Path: path + "?token=" + canary, Head: []string{
				h.Cookie(canary, madeUp(), token), "Authorization: Bearer " + canary, "X-Csrf-Token: " + canary, asJSON, "User-Agent: " + canary, "Referer: https://x/" + canary,
			}, Body: `{"user_id":"` + user + `","password":"` + canary + `"}`})
		}
		h.Store.Failing(errLost)
		h.Send(request{Method: method, Path: path, Head: []string{h.Cookie(token), "Authorization: " + canary, asJSON}, Body: `{"user_id":"u","password":"` + canary + `"}`})
		h.Store.On(nil)
	}
	assert.NotEmpty(h, h.Logs.Events())
}

// LOG-01: a name that somebody has typed is logged, but not if it is a token, in whatever case names are compared.
func checkTypedTokens(h *harness) {
	user := h.User()
	h.serveMode(guarded{func(a *login.Attempt) (string, error) {
		if a.UserID != user {
			return "", login.ErrRefused
		}
		return user, nil
	}}, nil)
	token := h.Login(user)
	upper, lower := strings.ToUpper(token), strings.ToLower(token)
	for _, name := range []string{token, upper, lower, " " + token + "\u3000", "coatcheck=" + token, `"` + token + `";`, "%22" + token + "%22", "sid-" + token, lower + "x", token + token, "__Host-coatcheck" + token} {
		require.Equal(h, 401, h.TryLogin(name).Status)
		events := h.Events("login_failed")
		assert.Equal(h, "[token]", events[len(events)-1]["user"], name)
	}
	assert.NotContains(h, strings.ToLower(strings.Join(h.Logs.Lines(), "\n")), lower)
	for _, name := range []string{lower[1:], strings.Repeat("0123abcd", 8), lower[:20] + "." + lower[20:], "ann"} {
		require.Equal(h, 401, h.TryLogin(name).Status)
		events := h.Events("login_failed")
		assert.Equal(h, name, events[len(events)-1]["user"])
	}
}
