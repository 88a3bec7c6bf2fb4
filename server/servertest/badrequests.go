package servertest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
)

var badRequestRules = []rule{
	{name: "413 on every route", transport: true, check: checkBodyLimit},
	{name: "431", transport: true, check: checkHeaderLimit},
	{name: "405 with Allow", transport: true, check: checkMethods},
	{name: "404", transport: true, check: checkPaths},
	{name: "bodies are constant", transport: true, check: checkConstantBodies},
}

// allRoutes has every route that looks at sessions, as "METHOD path".
var allRoutes = []string{
	"POST /auth/login", "GET /auth/login", "GET /auth/userinfo", "GET /auth/me", "POST /auth/refresh", "POST /auth/logout", "GET /auth/verify", "GET /auth/sessions",
	"DELETE /auth/sessions", "DELETE /auth/sessions/abc",
}

// staticRoutes give the same answer to every client, and do not look at sessions.
var staticRoutes = []string{"GET /auth/devices", "GET /auth/devices.js", "GET /auth/devices.css", "GET /auth/login.js", "GET /openapi.yaml"}

func checkBodyLimit(h *harness) {
	token := h.Login(h.User())
	routes := append(slices.Concat(allRoutes, staticRoutes), "POST /auth/verify", "HEAD /auth/me", "GET /nowhere", "POST /", "PUT /auth/login", "PROPFIND /auth/me")
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		want := answer{Status: 413, Code: "body_too_large"}
		if method == "HEAD" {
			want.Code = ""
		}
		for name, req := range map[string]request{
			"length": {Method: method, Path: path, Head: []string{asJSON, h.Cookie(token)}, Body: strings.Repeat(" ", 16<<10+1)},
			"chunked": {
				Method: method, Path: path, Head: []string{asJSON, h.Cookie(token), "Transfer-Encoding: chunked"},
				Body: fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 16<<10+1, strings.Repeat(" ", 16<<10+1)),
			},
			"chunks": {
				Method: method, Path: path, Head: []string{asJSON, h.Cookie(token), "Transfer-Encoding: chunked"},
				Body: strings.Repeat("400\r\n"+strings.Repeat(" ", 1024)+"\r\n", 17) + "0\r\n\r\n",
			},
			"huge":      {Method: method, Path: path, Head: []string{asJSON, h.Cookie(token), "Content-Length: 99999999999"}, Body: ""},
			"multipart": {Method: method, Path: path, Head: []string{"Content-Type: multipart/form-data; boundary=x", h.Cookie(token)}, Body: strings.Repeat("x", 16<<10+1)},
		} {
			if method == "HEAD" { // the server answers with a body, because it refuses the request before it interprets the method
				resp, err := h.Wire.Send(req)
				if assert.NoError(h, err, "%s %s", route, name) {
					assert.Equal(h, 413, resp.Status, "%s %s", route, name)
				}
				continue
			}
			assert.Equal(h, want, h.Answer(h.Send(req)), "%s %s", route, name)
		}
	}
	assert.NotEmpty(h, h.Me(token))

	padded := `{"user_id":"u"}`
	padded += strings.Repeat(" ", 16<<10-len(padded))
	assert.Equal(h, 200, h.loginBody(padded, asJSON).Status, "exactly 16 KiB")
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(padded), padded)
	assert.Equal(h, 200, h.loginBody(chunked, asJSON, "Transfer-Encoding: chunked").Status, "exactly 16 KiB, chunked")
}

func checkHeaderLimit(h *harness) {
	token := h.Login(h.User())
	const limit = 8 << 10
	for _, route := range append(slices.Concat(allRoutes, staticRoutes), "GET /nowhere", "POST /auth/verify") {
		method, path, _ := strings.Cut(route, " ")
		plain := request{Method: method, Path: path, Head: []string{h.Cookie(token), asJSON, "X-Fill: "}, Body: ""}
		room := limit - len(plain.Text(h.Wire.Addr))
		for name, more := range map[string]int{"a byte more": 1, "much more": 100_000} {
			req := plain
			req.Head = append(slices.Clone(plain.Head[:2]), "X-Fill: "+strings.Repeat("x", room+more))
			assert.Equal(h, answer{Status: 431, Code: "header_too_large"}, h.Answer(h.Send(req)), "%s %s", route, name)
		}
		many := request{Method: method, Path: path, Head: slices.Repeat([]string{"X: y"}, limit/6+1), Body: ""}
		assert.Equal(h, 431, h.Send(many).Status, "%s many lines", route)
		long := request{Method: method, Path: path + "?" + strings.Repeat("x", limit), Head: nil, Body: ""}
		assert.Equal(h, 431, h.Send(long).Status, "%s a long request line", route)
	}
	exact := request{Method: "GET", Path: "/auth/me", Head: []string{h.Cookie(token), "X-Fill: "}, Body: ""}
	exact.Head[1] += strings.Repeat("x", limit-len(exact.Text(h.Wire.Addr)))
	assert.Equal(h, 200, h.Send(exact).Status, "exactly 8 KiB")
}

func checkMethods(h *harness) {
	token := h.Login(h.User())
	allowed := map[string][]string{
		"/auth/login": {"GET", "HEAD", "POST"}, "/auth/login.js": {"GET", "HEAD"}, "/auth/userinfo": {"GET", "HEAD"}, "/auth/me": {"GET", "HEAD"},
		"/auth/refresh": {"POST"}, "/auth/logout": {"POST"},
		"/auth/sessions": {"GET", "HEAD", "DELETE"}, "/auth/sessions/abc": {"DELETE"},
		"/auth/devices": {"GET", "HEAD"}, "/auth/devices.js": {"GET", "HEAD"}, "/auth/devices.css": {"GET", "HEAD"}, "/openapi.yaml": {"GET", "HEAD"},
	}
	for path, allow := range allowed {
		for _, method := range append(slices.Clone(methods), "CONNECT") {
			if slices.Contains(allow, method) {
				continue
			}
			resp := h.Do(method, path, h.Cookie(token), "X-HTTP-Method-Override: "+allow[0], "X-Method-Override: "+allow[0])
			assert.Equal(h, 405, resp.Status, "%s %s", method, path)
			assert.Empty(h, resp.Header["Set-Cookie"])
			got := strings.Split(strings.Join(resp.Header["Allow"], ", "), ", ")
			assert.ElementsMatch(h, allow, got, "%s %s", method, path)
			if method != "HEAD" {
				assert.Equal(h, "method_not_allowed", resp.Code())
			}
		}
	}
	for _, method := range methods {
		assert.Equal(h, 404, h.Do(method, "/auth/dbsc/register").Status, "%s without --dbsc: no method of it is there", method)
	}
	assert.NotEmpty(h, h.Me(token), "a wrong method has no effect")
}

func checkPaths(h *harness) {
	token := h.Login(h.User())
	for _, path := range []string{
		"/", "/auth", "/auth/", "/nowhere", "/favicon.ico", "/auth/me/", "/auth/me/x", "/Auth/me", "/AUTH/ME", "/auth/Me", "/auth//me", "//auth/me", "/auth/./me",
		"/auth/x/../me", "/auth/%6de", "/auth%2Fme", "/%61uth/me", "/auth/me%20", "/auth/me;x=1", "/auth/me,", "/auth\\me", "/auth/sessions/", "/auth/sessions//", "/auth/sessions/a/b",
		"/auth/devices/", "/auth/Devices", "/auth/devices.html", "/auth/devices.js/", "/auth/devices.map", "/page/devices.js", "/devices",
		"/openapi", "/openapi.yaml/", "/OpenAPI.yaml", "/openapi.yml", "/auth/login/", "/auth/logout/", "/auth/refresh/", "/auth/verify/",
		"/auth/sessions/%2F/x",
		"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/admin/users/x/sessions",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "HEAD", "PROPFIND"} {
			resp := h.Do(method, path, h.Cookie(token))
			assert.Equal(h, 404, resp.Status, "%s %s", method, path)
			assert.Empty(h, resp.Header["Set-Cookie"])
			if method != "HEAD" {
				assert.Equal(h, "not_found", resp.Code(), "%s %s", method, path)
			}
		}
	}
	for _, path := range []string{"/auth/me?", "/auth/me?x", "/auth/me?user_id=admin", "/auth/me#x", "http://" + h.Wire.Addr + "/auth/me"} {
		assert.NotEmpty(h, h.Get(path, h.Cookie(token)).View(h.T).User(), path)
	}
	assert.NotEmpty(h, h.Me(token))
}

// LOG-02: the text of an error does not depend on the request.
func checkConstantBodies(h *harness) {
	const canary = "CANARY7d1f"
	h.Canaries = append(h.Canaries, canary)
	bodies := make(map[string]string)
	for i := range 2 {
		mark := strings.Repeat(canary, 1+i)
		for name, req := range map[string]request{
			"404":        {Method: "GET", Path: "/" + mark, Head: []string{"Cookie: a=" + mark}, Body: ""},
			"405":        {Method: "PUT", Path: "/auth/me?" + mark, Head: []string{h.Cookie(mark)}, Body: ""},
			"method":     {Method: mark, Path: "/auth/me", Head: []string{h.Cookie(mark)}, Body: ""},
			"400 json":   {Method: "POST", Path: "/auth/login", Head: []string{asJSON, h.Cookie(mark)}, Body: mark},
			"400 member": {Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: `{"` + mark + `":1}`},
			"415":        {Method: "POST", Path: "/auth/login", Head: []string{"Content-Type: " + mark}, Body: mark},
			"422":        {Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: `{"user_id":"\u0000` + mark + `"}`},
			"413":        {Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: strings.Repeat(mark, 3000)},
			"431":        {Method: "GET", Path: "/auth/me", Head: []string{h.Cookie(strings.Repeat(mark, 1000))}, Body: ""},
			"403":        {Method: "POST", Path: "/auth/logout", Head: []string{"Sec-Fetch-Site: cross-site", "X: " + mark}, Body: ""},
			"401":        {Method: "GET", Path: "/auth/verify?" + mark, Head: []string{h.Cookie(mark)}, Body: ""},
			"query":      {Method: "DELETE", Path: "/auth/sessions?current=" + mark, Head: []string{h.Cookie(h.Login(h.User()))}, Body: ""},
			"session":    {Method: "DELETE", Path: "/auth/sessions/" + mark, Head: []string{h.Cookie(h.Login(h.User()))}, Body: ""},
			"header":     {Method: "GET", Path: "/auth/me", Head: []string{mark + " : x", h.Cookie(mark)}, Body: ""},
			"no colon":   {Method: "GET", Path: "/auth/me", Head: []string{mark, h.Cookie(mark)}, Body: ""},
			"length":     {Method: "POST", Path: "/auth/login", Head: []string{"Content-Length: " + mark, h.Cookie(mark)}, Body: ""},
			"encoding":   {Method: "POST", Path: "/auth/login", Head: []string{"Transfer-Encoding: " + mark, h.Cookie(mark)}, Body: ""},
			"two hosts":  {Method: "GET", Path: "/auth/me", Head: []string{"Host: a", "Host: " + mark, h.Cookie(mark)}, Body: ""},
			"percent":    {Method: "GET", Path: "/%zz" + mark, Head: []string{h.Cookie(mark)}, Body: ""},
			"chunk":      {Method: "POST", Path: "/auth/login", Head: []string{asJSON, "Transfer-Encoding: chunked", h.Cookie(mark)}, Body: mark + "zz\r\n"},
		} {
			resp := h.Send(req)
			assert.GreaterOrEqual(h, resp.Status, 400, name)
			assert.Less(h, resp.Status, 500, name)
			assert.NotContains(h, resp.Body, canary, name)
			assert.NotContains(h, fmt.Sprint(resp.Header), canary, name)
			if before, ok := bodies[name]; ok {
				assert.Equal(h, before, resp.Body, name)
			}
			bodies[name] = resp.Body
		}
	}
}
