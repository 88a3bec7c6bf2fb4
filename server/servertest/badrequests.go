package servertest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
)

var badRequestRules = []rule{
	{name: "413 on every route", check: checkBodyLimit},
	{name: "431", check: checkHeaderLimit},
	{name: "405 with Allow", check: checkMethods},
	{name: "404", check: checkPaths},
	{name: "bodies are constant", check: checkConstantBodies},
}

// allRoutes has every route that looks at sessions, as "METHOD path".
var allRoutes = []string{
	"POST /auth/login", "GET /auth/me", "POST /auth/refresh", "POST /auth/logout", "GET /auth/verify", "GET /auth/sessions",
	"DELETE /auth/sessions", "DELETE /auth/sessions/abc",
}

// staticRoutes answer everybody alike, and do not look at sessions.
var staticRoutes = []string{"GET /auth/devices", "GET /auth/devices.js", "GET /auth/devices.css", "GET /openapi.yaml"}

func checkBodyLimit(h *harness) {
	token := h.login(h.user())
	routes := append(slices.Concat(allRoutes, staticRoutes), "POST /auth/verify", "HEAD /auth/me", "GET /nowhere", "POST /", "PUT /auth/login", "PROPFIND /auth/me")
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		want := answer{status: 413, code: "body_too_large"}
		if method == "HEAD" {
			want.code = ""
		}
		for name, req := range map[string]request{
			"length":    {method, path, []string{asJSON, h.cookie(token)}, strings.Repeat(" ", 16<<10+1)},
			"chunked":   {method, path, []string{asJSON, h.cookie(token), "Transfer-Encoding: chunked"}, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 16<<10+1, strings.Repeat(" ", 16<<10+1))},
			"chunks":    {method, path, []string{asJSON, h.cookie(token), "Transfer-Encoding: chunked"}, strings.Repeat("400\r\n"+strings.Repeat(" ", 1024)+"\r\n", 17) + "0\r\n\r\n"},
			"huge":      {method, path, []string{asJSON, h.cookie(token), "Content-Length: 99999999999"}, ""},
			"multipart": {method, path, []string{"Content-Type: multipart/form-data; boundary=x", h.cookie(token)}, strings.Repeat("x", 16<<10+1)},
		} {
			if method == "HEAD" { // the server answers with a body, since it never gets to see the method's meaning
				resp, err := h.wire.send(req)
				if assert.NoError(h, err, "%s %s", route, name) {
					assert.Equal(h, 413, resp.status, "%s %s", route, name)
				}
				continue
			}
			assert.Equal(h, want, h.answer(h.send(req)), "%s %s", route, name)
		}
	}
	assert.NotEmpty(h, h.me(token))

	padded := `{"user_id":"u"}`
	padded += strings.Repeat(" ", 16<<10-len(padded))
	assert.Equal(h, 200, h.loginBody(padded, asJSON).status, "exactly 16 KiB")
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(padded), padded)
	assert.Equal(h, 200, h.loginBody(chunked, asJSON, "Transfer-Encoding: chunked").status, "exactly 16 KiB, chunked")
}

func checkHeaderLimit(h *harness) {
	token := h.login(h.user())
	const limit = 8 << 10
	for _, route := range append(slices.Concat(allRoutes, staticRoutes), "GET /nowhere", "POST /auth/verify") {
		method, path, _ := strings.Cut(route, " ")
		plain := request{method, path, []string{h.cookie(token), asJSON, "X-Fill: "}, ""}
		room := limit - len(plain.text(h.wire.addr))
		for name, more := range map[string]int{"a byte more": 1, "much more": 100_000} {
			req := plain
			req.head = append(slices.Clone(plain.head[:2]), "X-Fill: "+strings.Repeat("x", room+more))
			assert.Equal(h, answer{status: 431, code: "header_too_large"}, h.answer(h.send(req)), "%s %s", route, name)
		}
		many := request{method, path, slices.Repeat([]string{"X: y"}, limit/6+1), ""}
		assert.Equal(h, 431, h.send(many).status, "%s many lines", route)
		long := request{method, path + "?" + strings.Repeat("x", limit), nil, ""}
		assert.Equal(h, 431, h.send(long).status, "%s a long request line", route)
	}
	exact := request{"GET", "/auth/me", []string{h.cookie(token), "X-Fill: "}, ""}
	exact.head[1] += strings.Repeat("x", limit-len(exact.text(h.wire.addr)))
	assert.Equal(h, 200, h.send(exact).status, "exactly 8 KiB")
}

func checkMethods(h *harness) {
	token := h.login(h.user())
	allowed := map[string][]string{
		"/auth/login": {"POST"}, "/auth/me": {"GET", "HEAD"}, "/auth/refresh": {"POST"}, "/auth/logout": {"POST"},
		"/auth/sessions": {"GET", "HEAD", "DELETE"}, "/auth/sessions/abc": {"DELETE"},
		"/auth/devices": {"GET", "HEAD"}, "/auth/devices.js": {"GET", "HEAD"}, "/auth/devices.css": {"GET", "HEAD"}, "/openapi.yaml": {"GET", "HEAD"},
	}
	for path, allow := range allowed {
		for _, method := range append(slices.Clone(methods), "CONNECT") {
			if slices.Contains(allow, method) {
				continue
			}
			resp := h.do(method, path, h.cookie(token), "X-HTTP-Method-Override: "+allow[0], "X-Method-Override: "+allow[0])
			assert.Equal(h, 405, resp.status, "%s %s", method, path)
			assert.Empty(h, resp.header["Set-Cookie"])
			got := strings.Split(strings.Join(resp.header["Allow"], ", "), ", ")
			assert.ElementsMatch(h, allow, got, "%s %s", method, path)
			if method != "HEAD" {
				assert.Equal(h, "method_not_allowed", resp.code())
			}
		}
	}
	assert.NotEmpty(h, h.me(token), "a wrong method has no effect")
}

func checkPaths(h *harness) {
	token := h.login(h.user())
	for _, path := range []string{
		"/", "/auth", "/auth/", "/nowhere", "/favicon.ico", "/auth/me/", "/auth/me/x", "/Auth/me", "/AUTH/ME", "/auth/Me", "/auth//me", "//auth/me", "/auth/./me",
		"/auth/x/../me", "/auth/%6de", "/auth%2Fme", "/%61uth/me", "/auth/me%20", "/auth/me;x=1", "/auth/me,", "/auth\\me", "/auth/sessions/", "/auth/sessions//", "/auth/sessions/a/b",
		"/auth/devices/", "/auth/Devices", "/auth/devices.html", "/auth/devices.js/", "/auth/devices.map", "/page/devices.js", "/devices", "/openapi", "/openapi.yaml/", "/OpenAPI.yaml", "/openapi.yml", "/auth/login/", "/auth/logout/", "/auth/refresh/", "/auth/verify/", "/auth/sessions/%2F/x",
		"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/admin/users/x/sessions",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "HEAD", "PROPFIND"} {
			resp := h.do(method, path, h.cookie(token))
			assert.Equal(h, 404, resp.status, "%s %s", method, path)
			assert.Empty(h, resp.header["Set-Cookie"])
			if method != "HEAD" {
				assert.Equal(h, "not_found", resp.code(), "%s %s", method, path)
			}
		}
	}
	for _, path := range []string{"/auth/me?", "/auth/me?x", "/auth/me?user_id=admin", "/auth/me#x", "http://" + h.wire.addr + "/auth/me"} {
		assert.NotEmpty(h, h.get(path, h.cookie(token)).view(h.T).user(), path)
	}
	assert.NotEmpty(h, h.me(token))
}

// LOG-02: what an error says does not hang on what was asked.
func checkConstantBodies(h *harness) {
	const canary = "CANARY7d1f"
	h.canaries = append(h.canaries, canary)
	bodies := make(map[string]string)
	for i := range 2 {
		mark := strings.Repeat(canary, 1+i)
		for name, req := range map[string]request{
			"404":        {"GET", "/" + mark, []string{"Cookie: a=" + mark}, ""},
			"405":        {"PUT", "/auth/me?" + mark, []string{h.cookie(mark)}, ""},
			"method":     {mark, "/auth/me", []string{h.cookie(mark)}, ""},
			"400 json":   {"POST", "/auth/login", []string{asJSON, h.cookie(mark)}, mark},
			"400 member": {"POST", "/auth/login", []string{asJSON}, `{"` + mark + `":1}`},
			"415":        {"POST", "/auth/login", []string{"Content-Type: " + mark}, mark},
			"422":        {"POST", "/auth/login", []string{asJSON}, `{"user_id":"\u0000` + mark + `"}`},
			"413":        {"POST", "/auth/login", []string{asJSON}, strings.Repeat(mark, 3000)},
			"431":        {"GET", "/auth/me", []string{h.cookie(strings.Repeat(mark, 1000))}, ""},
			"403":        {"POST", "/auth/logout", []string{"Sec-Fetch-Site: cross-site", "X: " + mark}, ""},
			"401":        {"GET", "/auth/verify?" + mark, []string{h.cookie(mark)}, ""},
			"query":      {"DELETE", "/auth/sessions?current=" + mark, []string{h.cookie(h.login(h.user()))}, ""},
			"session":    {"DELETE", "/auth/sessions/" + mark, []string{h.cookie(h.login(h.user()))}, ""},
			"header":     {"GET", "/auth/me", []string{mark + " : x", h.cookie(mark)}, ""},
			"no colon":   {"GET", "/auth/me", []string{mark, h.cookie(mark)}, ""},
			"length":     {"POST", "/auth/login", []string{"Content-Length: " + mark, h.cookie(mark)}, ""},
			"encoding":   {"POST", "/auth/login", []string{"Transfer-Encoding: " + mark, h.cookie(mark)}, ""},
			"two hosts":  {"GET", "/auth/me", []string{"Host: a", "Host: " + mark, h.cookie(mark)}, ""},
			"percent":    {"GET", "/%zz" + mark, []string{h.cookie(mark)}, ""},
			"chunk":      {"POST", "/auth/login", []string{asJSON, "Transfer-Encoding: chunked", h.cookie(mark)}, mark + "zz\r\n"},
		} {
			resp := h.send(req)
			assert.GreaterOrEqual(h, resp.status, 400, name)
			assert.Less(h, resp.status, 500, name)
			assert.NotContains(h, resp.body, canary, name)
			assert.NotContains(h, fmt.Sprint(resp.header), canary, name)
			if before, ok := bodies[name]; ok {
				assert.Equal(h, before, resp.body, name)
			}
			bodies[name] = resp.body
		}
	}
}
