package servertest

import (
	"net/url"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var adminRules = []rule{
	{name: "health", check: checkHealth},
	{name: "readiness follows the store", check: checkReady},
	{name: "a user's sessions", check: checkAdminList},
	{name: "end all of a user's sessions", check: checkAdminEndUser},
	{name: "end one of a user's sessions", check: checkAdminEnd},
	{name: "the user ID is decoded once", check: checkAdminNames},
	{name: "web pages are kept out", check: checkAdminRebinding},
	{name: "bad requests", check: checkAdminBad},
	{name: "store failure", check: checkAdminStoreDown},
	{name: "it is not on the public listener", check: checkAdminNotPublic},
}

func checkHealth(h *harness) {
	for _, path := range []string{"/healthz", "/readyz"} {
		resp := h.adminDo("GET", path)
		assert.Equal(h, 200, resp.status)
		assert.Less(h, len(resp.body), 100, "no version, no user, no session")
		assert.Equal(h, 200, h.adminDo("HEAD", path).status)
	}
}

func checkReady(h *harness) {
	h.store.failing(errLost, opPing)
	resp := h.adminDo("GET", "/readyz")
	assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp))
	assert.Equal(h, 200, h.adminDo("GET", "/healthz").status, "the process lives")
	h.store.on(nil)
	assert.Equal(h, 200, h.adminDo("GET", "/readyz").status)
}

func (h *harness) adminDevices(user string) (list []device) {
	h.Helper()
	resp := h.adminDo("GET", "/admin/users/"+url.PathEscape(user)+"/sessions")
	require.Equal(h, answer{status: 200}, h.answer(resp), resp.body)
	var body struct{ Sessions []device }
	decode(h.T, resp.body, &body)
	return body.Sessions
}

func checkAdminList(h *harness) {
	user := h.user()
	assert.Equal(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+user+"/sessions").body, "an unknown user")
	token := h.login(user, "User-Agent: a")
	h.clock.step(renewEvery)
	newer := h.login(user)
	list := h.adminDevices(user)
	require.Len(h, list, 2)
	assert.Equal(h, []string{handleOf(h, newer), handleOf(h, token)}, []string{list[0].Handle, list[1].Handle}, "newest first")
	assert.Equal(h, device{
		Handle: handleOf(h, token), SessionID: idOf(h, token), CreatedAt: h.clock.rfc3339(-renewEvery), LastSeenAt: h.clock.rfc3339(-renewEvery),
		ExpiresAt: h.clock.rfc3339(ttl - renewEvery), IP: "127.0.0.1", UserAgent: "a",
	}, list[1])
	assert.NotContains(h, h.adminDo("GET", "/admin/users/"+user+"/sessions").body, "current", "nobody's session is the administrator's")
}

func checkAdminEndUser(h *harness) {
	user := h.user()
	a, b, other := h.login(user), h.login(user), h.login(h.user())
	path := "/admin/users/" + user + "/sessions"
	assert.Equal(h, `{"revoked":2}`, h.adminDo("DELETE", path).body)
	assert.Equal(h, "", h.me(a))
	assert.Equal(h, "", h.me(b))
	assert.NotEmpty(h, h.me(other))
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", path).body)
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/"+h.user()+"/sessions").body, "an unknown user")
	assert.Equal(h, user, h.me(h.login(user)), "he may log in again")
}

func checkAdminEnd(h *harness) {
	user, stranger := h.user(), h.login(h.user())
	for _, nameOf := range []func(old, token string) string{
		func(_, token string) string { return handleOf(h, token) },
		func(_, token string) string { return idOf(h, token) },
		func(old, _ string) string { return idOf(h, old) },
	} {
		old := h.login(user)
		token := h.refresh(old)
		path := "/admin/users/" + user + "/sessions/" + nameOf(old, token)
		resp := h.adminDo("DELETE", path)
		assert.Equal(h, answer{status: 204}, h.answer(resp))
		assert.Equal(h, "", h.me(token))
		assert.Equal(h, answer{status: 404, code: "session_not_found"}, h.answer(h.adminDo("DELETE", path)))
	}
	for _, id := range []string{handleOf(h, stranger), "x", madeUp()[:22], "%00"} {
		assert.Equal(h, answer{status: 404, code: "session_not_found"}, h.answer(h.adminDo("DELETE", "/admin/users/"+user+"/sessions/"+id)), id)
	}
	assert.NotEmpty(h, h.me(stranger), "of another user")
}

func checkAdminNames(h *harness) {
	for _, user := range []string{
		"a/b", "/", "//", "a/sessions", "a/sessions/b", "..", ".", "a%2Fb", "%", "%25", "100%", "a b", "a+b", "a?b", "a#b", "a&b=c", "Jürgen", "🧥", `a"b`, "a\\b", "a;b", ":user_id", "*", "-", "a-b.c", "sessions",
		strings.Repeat("ü", 128), "\u00a0", "~", "a:b", "a@b", "users/sessions",
	} {
		token := h.login(user)
		list := h.adminDevices(user)
		require.Len(h, list, 1, user)
		assert.Equal(h, handleOf(h, token), list[0].Handle, user)
		path := "/admin/users/" + url.PathEscape(user) + "/sessions"
		if user == "." || user == ".." { // url.PathEscape leaves them
			path = "/admin/users/" + strings.ReplaceAll(user, ".", "%2E") + "/sessions"
		}
		assert.Equal(h, 204, h.adminDo("DELETE", path+"/"+idOf(h, token)).status, user)
		h.login(user)
		lower := strings.ToLower(path)
		if strings.Contains(lower, "%") && !strings.ContainsAny(user, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			path = lower
		}
		assert.Equal(h, `{"revoked":1}`, h.adminDo("DELETE", path).body, user)
		assert.Equal(h, "", h.me(token), user)
	}
	a := h.login("twice%2Fdecoded")
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/twice%2Fdecoded/sessions").body)
	assert.NotEmpty(h, h.me(a))
	assert.Equal(h, `{"revoked":1}`, h.adminDo("DELETE", "/admin/users/twice%252Fdecoded/sessions").body)
}

func checkAdminRebinding(h *harness) {
	user := h.user()
	token := h.login(user)
	path := "/admin/users/" + user + "/sessions"
	for _, head := range [][]string{
		{"Host: evil.example"},
		{"Host: evil.example:3001"},
		{"Host: localhost.evil.example"},
		{"Host: 127.0.0.1.evil.example"},
		{"Host: evil-localhost"},
		{"Host: 10.0.0.1:3001"},
		{"Host: 0.0.0.0:3001"},
		{"Host: [::]:3001"},
		{"Host: 128.0.0.1"},
		{"Host: 2130706433"},
		{"Host: 127.1"},
		{"Host: localhost@evil.example"},
		{"Host: 127.0.0.1@evil.example"},
		{"Host: [::ffff:10.0.0.1]:80"},
		{"Host: localhost, evil.example"},
		{"Origin: http://127.0.0.1:3001"},
		{"Origin: null"},
		{"Origin:"},
		{"Origin: http://localhost"},
		{"Sec-Fetch-Site: same-origin"},
		{"Sec-Fetch-Site: none"},
		{"Sec-Fetch-Site: cross-site"},
		{"sec-fetch-site:"},
		{"Host: localhost", "Origin: http://localhost"},
		{"Host: evil.example", "X-Forwarded-Host: localhost"},
	} {
		for _, route := range []string{"GET /healthz", "GET /readyz", "GET /metrics", "GET /debug/pprof/", "GET /debug/pprof/heap", "GET " + path, "DELETE " + path, "DELETE " + path + "/" + idOf(h, token), "GET /nowhere"} {
			method, path, _ := strings.Cut(route, " ")
			resp := h.adminDo(method, path, head...)
			assert.Contains(h, []int{400, 403}, resp.status, "%s: %q", route, head)
			assert.NotContains(h, resp.body, user)
		}
	}
	for _, host := range []string{"localhost", "localhost:3001", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:3001", "127.8.8.8:1", "[::1]", "[::1]:3001", "[::ffff:127.0.0.1]:3001"} {
		assert.Equal(h, 200, h.adminDo("GET", path, "Host: "+host).status, host)
	}
	assert.Equal(h, user, h.me(token))
}

func checkAdminBad(h *harness) {
	for path, status := range map[string]int{
		"/": 404, "/nowhere": 404, "/healthz/": 404, "/Healthz": 404, "/admin/users//sessions": 404, "/admin/users/x/sessions/": 404, "/admin/users/x": 404, "/admin/users/x/Sessions": 404, "/auth/me": 404, "/auth/verify": 404,
		"/admin/users/%zz/sessions": 400, "/admin/users/%/sessions": 400, "/admin/users/%2/sessions": 400,
	} {
		assert.Equal(h, status, h.adminDo("GET", path).status, path)
	}
	for route, allow := range map[string][]string{
		"POST /healthz": {"GET", "HEAD"}, "DELETE /readyz": {"GET", "HEAD"}, "POST /metrics": {"GET", "HEAD"}, "POST /debug/pprof/heap": {"GET", "HEAD"}, "POST /admin/users/x/sessions": {"GET", "HEAD", "DELETE"}, "GET /admin/users/x/sessions/y": {"DELETE"}, "PROPFIND /healthz": {"GET", "HEAD"},
	} {
		method, path, _ := strings.Cut(route, " ")
		resp := h.adminDo(method, path)
		assert.Equal(h, answer{status: 405, code: "method_not_allowed"}, h.answer(resp), route)
		assert.ElementsMatch(h, allow, strings.Split(strings.Join(resp.header["Allow"], ", "), ", "), route)
	}
	resp, err := h.admin.send(request{"DELETE", "/admin/users/x/sessions", nil, strings.Repeat("x", 17<<10)})
	require.NoError(h, err)
	assert.Equal(h, 413, resp.status)
	assert.Equal(h, 431, h.adminDo("GET", "/"+strings.Repeat("x", 9000)).status)
	long := strings.Repeat("x", 4000)
	assert.Equal(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+long+"/sessions").body, "nobody has such a name")
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/"+long+"/sessions").body)
}

func checkAdminStoreDown(h *harness) {
	user := h.user()
	token := h.login(user)
	path := "/admin/users/" + user + "/sessions"
	h.store.failing(errLost)
	for _, route := range []string{"GET " + path, "DELETE " + path, "DELETE " + path + "/" + idOf(h, token)} {
		method, path, _ := strings.Cut(route, " ")
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(h.adminDo(method, path)), route)
	}
	h.store.on(nil)
	assert.Equal(h, user, h.me(token))
}

func checkAdminNotPublic(h *harness) {
	user := h.user()
	token := h.login(user)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/admin/users/" + user + "/sessions"} {
		assert.Equal(h, 404, h.get(path, h.cookie(token)).status, path)
	}
	assert.Equal(h, 404, h.do("DELETE", "/admin/users/"+user+"/sessions", h.cookie(token)).status)
	assert.Equal(h, user, h.me(token))
}
