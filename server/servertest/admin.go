package servertest

import (
	"net/url"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
)

var adminRules = []rule{
	{name: "health", transport: true, check: checkHealth},
	{name: "readiness follows the store", check: checkReady},
	{name: "a user's sessions", check: checkAdminList},
	{name: "end all of a user's sessions", check: checkAdminEndUser},
	{name: "end one of a user's sessions", check: checkAdminEnd},
	{name: "the user ID is decoded once", transport: true, check: checkAdminNames},
	{name: "web pages are kept out", transport: true, check: checkAdminRebinding},
	{name: "bad requests", transport: true, check: checkAdminBad},
	{name: "store failure", check: checkAdminStoreDown},
	{name: "it is not on the public listener", transport: true, check: checkAdminNotPublic},
}

func checkHealth(h *harness) {
	for _, path := range []string{"/healthz", "/readyz"} {
		resp := h.adminDo("GET", path)
		assert.Equal(h, 200, resp.Status)
		assert.Less(h, len(resp.Body), 100, "no version, no user, no session")
		assert.Equal(h, 200, h.adminDo("HEAD", path).Status)
	}
}

func checkReady(h *harness) {
	h.Store.Failing(errLost, httpcontract.OpPing)
	resp := h.adminDo("GET", "/readyz")
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp))
	assert.Equal(h, 200, h.adminDo("GET", "/healthz").Status, "the process lives")
	h.Store.On(nil)
	assert.Equal(h, answer{Status: 200}, h.Answer(h.adminDo("GET", "/readyz")))
	assert.Equal(h, `{"status":"ready","writes":"ok","reload":"ok"}`, h.adminDo("GET", "/readyz").Body)

	// A failure that leaves the server able to answer shows in the body, and the server stays ready.
	var refused, failed bool
	h.serve(func(cfg *server.Config) {
		cfg.WritesRefused = func() (string, bool) { return "Redis is full", refused }
		cfg.ReloadFailed = func() bool { return failed }
	})
	for _, now := range []struct {
		refused, failed bool
		body, metric    string
	}{
		{false, false, `{"status":"ready","writes":"ok","reload":"ok"}`, "0"},
		{true, false, `{"status":"ready","writes":"refused","reload":"ok"}`, "1"},
		{false, true, `{"status":"ready","writes":"ok","reload":"failed"}`, "0"},
		{true, true, `{"status":"ready","writes":"refused","reload":"failed"}`, "1"},
	} {
		refused, failed = now.refused, now.failed
		resp := h.adminDo("GET", "/readyz")
		assert.Equal(h, 200, resp.Status)
		assert.Equal(h, now.body, resp.Body)
		assert.Contains(h, h.adminDo("GET", "/metrics").Body, "\ncoatcheck_store_writes_refused "+now.metric+"\n")
	}
	refused = true
	h.Store.Failing(errLost, httpcontract.OpPing)
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.adminDo("GET", "/readyz")), "it cannot be read")
}

func (h *harness) adminDevices(user string) (list []device) {
	h.Helper()
	resp := h.adminDo("GET", "/admin/users/"+url.PathEscape(user)+"/sessions")
	require.Equal(h, answer{Status: 200}, h.Answer(resp), resp.Body)
	var body struct{ Sessions []device }
	decode(h.T, resp.Body, &body)
	return body.Sessions
}

func checkAdminList(h *harness) {
	user := h.User()
	assert.Equal(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+user+"/sessions").Body, "an unknown user")
	token := h.Login(user, "User-Agent: a")
	h.Clock.Step(renewEvery)
	newer := h.Login(user)
	list := h.adminDevices(user)
	require.Len(h, list, 2)
	assert.Equal(h, []string{h.HandleOf(newer), h.HandleOf(token)}, []string{list[0].Handle, list[1].Handle}, "newest first")
	assert.Equal(h, device{
		Handle: h.HandleOf(token), SessionID: h.IDOf(token), CreatedAt: h.Clock.RFC3339(-renewEvery), LastSeenAt: h.Clock.RFC3339(-renewEvery),
		ExpiresAt: h.Clock.RFC3339(ttl - renewEvery), CreatedIP: "127.0.0.1", IP: "127.0.0.1", UserAgent: "a",
	}, list[1])
	assert.NotContains(h, h.adminDo("GET", "/admin/users/"+user+"/sessions").Body, "current", "none of the sessions belongs to the administrator")
}

func checkAdminEndUser(h *harness) {
	user := h.User()
	a, b, other := h.Login(user), h.Login(user), h.Login(h.User())
	path := "/admin/users/" + user + "/sessions"
	assert.Equal(h, `{"revoked":2}`, h.adminDo("DELETE", path).Body)
	assert.Equal(h, "", h.Me(a))
	assert.Equal(h, "", h.Me(b))
	assert.NotEmpty(h, h.Me(other))
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", path).Body)
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/"+h.User()+"/sessions").Body, "an unknown user")
	assert.Equal(h, user, h.Me(h.Login(user)), "the user may log in again")
}

func checkAdminEnd(h *harness) {
	user, stranger := h.User(), h.Login(h.User())
	for _, nameOf := range []func(old, token string) string{
		func(_, token string) string { return h.HandleOf(token) },
		func(_, token string) string { return h.IDOf(token) },
		func(old, _ string) string { return h.IDOf(old) },
	} {
		old := h.Login(user)
		token := h.Refresh(old)
		path := "/admin/users/" + user + "/sessions/" + nameOf(old, token)
		resp := h.adminDo("DELETE", path)
		assert.Equal(h, answer{Status: 204}, h.Answer(resp))
		assert.Equal(h, "", h.Me(token))
		assert.Equal(h, answer{Status: 404, Code: "session_not_found"}, h.Answer(h.adminDo("DELETE", path)))
	}
	for _, id := range []string{h.HandleOf(stranger), "x", madeUp()[:22], "%00"} {
		assert.Equal(h, answer{Status: 404, Code: "session_not_found"}, h.Answer(h.adminDo("DELETE", "/admin/users/"+user+"/sessions/"+id)), id)
	}
	assert.NotEmpty(h, h.Me(stranger), "of another user")
}

func checkAdminNames(h *harness) {
	for _, user := range []string{
		"a/b", "/", "//", "a/sessions", "a/sessions/b", "..", ".", "a%2Fb", "%", "%25", "100%", "a b", "a+b", "a?b", "a#b", "a&b=c", "Jürgen",
		"🧥", `a"b`, "a\\b", "a;b", ":user_id", "*", "-", "a-b.c", "sessions",
		strings.Repeat("ü", 128), "\u00a0", "~", "a:b", "a@b", "users/sessions",
	} {
		token := h.Login(user)
		list := h.adminDevices(user)
		require.Len(h, list, 1, user)
		assert.Equal(h, h.HandleOf(token), list[0].Handle, user)
		path := "/admin/users/" + url.PathEscape(user) + "/sessions"
		if user == "." || user == ".." { // url.PathEscape does not escape them
			path = "/admin/users/" + strings.ReplaceAll(user, ".", "%2E") + "/sessions"
		}
		assert.Equal(h, 204, h.adminDo("DELETE", path+"/"+h.IDOf(token)).Status, user)
		h.Login(user)
		lower := strings.ToLower(path)
		if strings.Contains(lower, "%") && !strings.ContainsAny(user, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			path = lower
		}
		assert.Equal(h, `{"revoked":1}`, h.adminDo("DELETE", path).Body, user)
		assert.Equal(h, "", h.Me(token), user)
	}
	a := h.Login("twice%2Fdecoded")
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/twice%2Fdecoded/sessions").Body)
	assert.NotEmpty(h, h.Me(a))
	assert.Equal(h, `{"revoked":1}`, h.adminDo("DELETE", "/admin/users/twice%252Fdecoded/sessions").Body)

	cut := h.Login("cut")
	for _, path := range []string{"/admin/users/cut#off/sessions", "/admin/sessions?user_id=cut#off", "/admin/users/cut/sessions#"} {
		assert.Equal(h, 400, h.adminDo("DELETE", path).Status, path)
	}
	assert.Equal(h, 400, h.adminDo("GET", "/admin/sessions?user_id=cut#off").Status)
	assert.Equal(h, 400, h.Do("DELETE", "/auth/sessions?current=true#", h.Cookie(cut)).Status)
	assert.Equal(h, "cut", h.Me(cut), "the name of another user")
}

func checkAdminRebinding(h *harness) {
	user := h.User()
	token := h.Login(user)
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
		for _, route := range []string{
			"GET /healthz", "GET /readyz", "GET /metrics", "GET /debug/pprof/", "GET /debug/pprof/heap", "GET " + path,
			"DELETE " + path, "DELETE " + path + "/" + h.IDOf(token), "GET /nowhere",
		} {
			method, path, _ := strings.Cut(route, " ")
			resp := h.adminDo(method, path, head...)
			assert.Contains(h, []int{400, 403}, resp.Status, "%s: %q", route, head)
			assert.NotContains(h, resp.Body, user)
		}
	}
	for _, host := range []string{"localhost", "localhost:3001", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:3001", "127.8.8.8:1", "[::1]", "[::1]:3001", "[::ffff:127.0.0.1]:3001"} {
		assert.Equal(h, 200, h.adminDo("GET", path, "Host: "+host).Status, host)
	}
	assert.Equal(h, user, h.Me(token))
}

func checkAdminBad(h *harness) {
	for path, status := range map[string]int{
		"/": 404, "/nowhere": 404, "/healthz/": 404, "/Healthz": 404, "/admin/users//sessions": 404, "/admin/users/x/sessions/": 404,
		"/admin/users/x": 404, "/admin/users/x/Sessions": 404, "/auth/me": 404, "/auth/verify": 404,
		"/admin/users/%zz/sessions": 400, "/admin/users/%/sessions": 400, "/admin/users/%2/sessions": 400,
	} {
		assert.Equal(h, status, h.adminDo("GET", path).Status, path)
	}
	for route, allow := range map[string][]string{
		"POST /healthz": {"GET", "HEAD"}, "DELETE /readyz": {"GET", "HEAD"}, "POST /metrics": {"GET", "HEAD"}, "POST /debug/pprof/heap": {
			"GET",
			"HEAD",
		}, "POST /admin/users/x/sessions": {"GET", "HEAD", "DELETE"}, "GET /admin/users/x/sessions/y": {"DELETE"},
		"PROPFIND /healthz": {"GET", "HEAD"},
	} {
		method, path, _ := strings.Cut(route, " ")
		resp := h.adminDo(method, path)
		assert.Equal(h, answer{Status: 405, Code: "method_not_allowed"}, h.Answer(resp), route)
		assert.ElementsMatch(h, allow, strings.Split(strings.Join(resp.Header["Allow"], ", "), ", "), route)
	}
	resp, err := h.admin.Send(request{Method: "DELETE", Path: "/admin/users/x/sessions", Head: nil, Body: strings.Repeat("x", 17<<10)})
	require.NoError(h, err)
	assert.Equal(h, 413, resp.Status)
	assert.Equal(h, 431, h.adminDo("GET", "/"+strings.Repeat("x", 9000)).Status)
	long := strings.Repeat("x", 4000)
	assert.Equal(h, `{"sessions":[]}`, h.adminDo("GET", "/admin/users/"+long+"/sessions").Body, "no user has such a name")
	assert.Equal(h, `{"revoked":0}`, h.adminDo("DELETE", "/admin/users/"+long+"/sessions").Body)
}

func checkAdminStoreDown(h *harness) {
	user := h.User()
	token := h.Login(user)
	path := "/admin/users/" + user + "/sessions"
	h.Store.Failing(errLost)
	for _, route := range []string{"GET " + path, "DELETE " + path, "DELETE " + path + "/" + h.IDOf(token)} {
		method, path, _ := strings.Cut(route, " ")
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.adminDo(method, path)), route)
	}
	h.Store.On(nil)
	assert.Equal(h, user, h.Me(token))
}

func checkAdminNotPublic(h *harness) {
	user := h.User()
	token := h.Login(user)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/admin/users/" + user + "/sessions"} {
		assert.Equal(h, 404, h.Get(path, h.Cookie(token)).Status, path)
	}
	assert.Equal(h, 404, h.Do("DELETE", "/admin/users/"+user+"/sessions", h.Cookie(token)).Status)
	assert.Equal(h, user, h.Me(token))
}
