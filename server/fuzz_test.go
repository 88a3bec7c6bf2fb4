package server_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// FuzzLoginBody: no body is answered with 5xx, and a parser that was written from RFC 8259 and the contract alone comes to
// the same status and the same user ID.
func FuzzLoginBody(f *testing.F) {
	for _, seed := range []string{
		`{"user_id":"user-42"}`, `{"user_id":"a","password":"b"}`, ` { "password" : null , "user_id" : "\ud83d\ude00" } `, `{"user_id":"\ud83d"}`,
		`{"user_id":"\\ud83d"}`, `{"user\u005fid":"x"}`,
		`{"user_id":"a","user_id":"b"}`, `{"user_id":1e5}`, `{"user_id":[-0.1E+2,{}]}`, `{"user_id":"\u0000"}`, `{"user_id":"a"} x`, `[]`,
		`{"a":"\ude00\ud83d"}`, "{\"user_id\":\"\xff\"}", "\ufeff{}", `{"user_id":"` + strings.Repeat("x", 257) + `"}`,
		`{"user_id":"x","password":{"a":[true,false,null,{"b":"\ud83d\ude00"}]}}`,
		`{"user_id":"x","password":{"a":[{"b":1,"\u0062":2}]}}`, `{"user_id":"x","password":{"a":{"a":1},"b":":"}}`,
		`{"password":{"a":["}",{"b]":"\\"}],"c":-1.5e3},"user_id":"x"}`, `{"password":12 ,"user_id":"a,}\\\""}`, "{\t\"user_id\"\n:\r\"x\" ,\"password\":true}", `{"user_id":"\"\/\b\f\n\r\t"}`,
	} {
		f.Add([]byte(seed))
	}
	c := newClient(f, newStore(f), server.Config{Policy: coatcheck.Policy{Now: frozen(), MaxPerUser: 1}})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 || len(body) > server.MaxBody {
			return
		}
		c.TB = t
		resp := c.do("POST", "/auth/login", string(body), "Content-Type: application/json")
		wantStatus, wantUser := readLoginPlainly(body)
		require.Equal(t, wantStatus, resp.StatusCode(), "%q", body)
		if wantStatus != 200 {
			require.Empty(t, cookieValue(resp))
			return
		}
		token := cookieValue(resp)
		var view struct {
			UserID string `json:"user_id"`
		}
		require.NoError(t, json.Unmarshal(resp.Body(), &view))
		require.Equal(t, wantUser, view.UserID)
		c.do("POST", "/auth/logout", "", cookieLine(token))
	})
}

// FuzzCookieHeader: whatever the Cookie lines, the server sees what a plain reading of them sees.
func FuzzCookieHeader(f *testing.F) {
	for _, seed := range []string{
		"{N}={T}", "a=1; {N}={T}", "{N}={T}; {N}={T}", "{N}={T}; {N}={O}", "{N}={D}", "{N}={E}; {N}={D}", "{N}={W}\n{N}={T}", "a=\"; {N}={T}; b=\"",
		"{N} = {T}", "{N}=\"{T}\"", " \t{N}={T} ", "={N}={T}", "{N}", "{N}=",
		"\u00a0{N}={T}", "{N}={D};{N}={E};{N}={W};{N}={T}", "x{N}={T};;;{N}={T}x", "{N}={T}\t; a", "$Version=1; {N}={T}", "{N}={D}\n\n{N}=x",
	} {
		f.Add(seed)
	}
	c := newClient(f, newStore(f), frozenConfig())
	alice, bob, ended := c.login("alice"), c.login("bob"), c.login("carol")
	c.do("POST", "/auth/logout", "", cookieLine(ended))
	wrong := alice[:42] + map[bool]string{true: "A", false: "E"}[alice[42] != 'A']
	known := map[string]string{alice: "alice", bob: "bob", ended: "ended", wrong: "wrong"}
	fill := strings.NewReplacer("{N}", cookieName, "{T}", alice, "{O}", bob, "{D}", madeUp(), "{E}", ended, "{W}", wrong)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(fill.Replace(text), "\n")
		head := make([]string, len(lines))
		for i, line := range lines {
			head[i] = "Cookie: " + line
		}
		if strings.ContainsAny(text, "\r\x00") || !c.parse(requestText("GET", "/auth/me", "", head...)) {
			return // no request
		}
		user, cleared := readCookiesPlainly(lines, known)
		resp := c.handle()
		require.Equal(t, 200, resp.StatusCode())
		var view struct {
			UserID string `json:"user_id"`
		}
		require.NoError(t, json.Unmarshal(resp.Body(), &view))
		require.Equal(t, user, view.UserID, "%q", lines)
		require.Equal(t, cleared, len(resp.Header.Peek("Set-Cookie")) > 0, "%q", lines)
	})
}

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$`)

// readCookiesPlainly is the contract's paragraph on several cookies, without a thought of speed.
func readCookiesPlainly(lines []string, known map[string]string) (user string, cleared bool) {
	var values, candidates []string
	for _, line := range lines {
		for _, pair := range strings.Split(strings.Trim(line, " \t"), ";") {
			name, value, isPair := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			if isPair && name == cookieName {
				if len(value) >= 2 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
					value = value[1 : len(value)-1]
				}
				values = append(values, value)
			}
		}
	}
	for _, v := range values {
		if tokenForm.MatchString(v) && !slices.Contains(candidates, v) {
			candidates = append(candidates, v)
		}
	}
	if len(candidates) > 3 {
		return "", false
	}
	var users []string
	allDead := len(values) > 0
	for _, v := range candidates {
		switch who := known[v]; who {
		case "alice", "bob":
			users = append(users, who)
			allDead = false
		case "ended", "wrong":
			allDead = false
		}
	}
	if len(users) == 1 {
		return users[0], false
	}
	return "", allDead
}

// FuzzUserID is CKE-06: no user ID adds a header, a line or a cookie attribute to any answer.
func FuzzUserID(f *testing.F) {
	for _, seed := range []string{
		"user-42", "a\r\nSet-Cookie: x=y", "a\nb", "a; Path=/x", "a, b", "a\x00b", "Jürgen", "🧥", "\u0085\u2028", "\xff\xfe", "%0d%0a", `"\`,
		"a=b", "\t", "\x7f", strings.Repeat("é", 128),
	} {
		f.Add(seed)
	}
	c := newClient(f, newStore(f), frozenConfig())
	wantHeaders := func(t *testing.T, resp *fasthttp.Response, more ...string) {
		want := append([]string{
			"Cache-Control", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy", "Vary", "X-Content-Type-Options",
		}, more...)
		head, _, _ := strings.Cut(string(resp.Header.Header()), "\r\n\r\n")
		var got []string
		for _, line := range strings.Split(head, "\n")[1:] {
			name, _, _ := strings.Cut(line, ":")
			if name != "Date" {
				got = append(got, name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(t, want, got)
	}
	cookieForm := regexp.MustCompile(`^` + cookieName + `=([A-Za-z0-9_-]{43}); Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Lax$`)
	f.Fuzz(func(t *testing.T, user string) {
		c.TB = t
		body, err := json.Marshal(map[string]string{"user_id": user})
		require.NoError(t, err)
		if len(body) > server.MaxBody {
			return
		}
		resp := c.do("POST", "/auth/login", string(body), "Content-Type: application/json")
		if resp.StatusCode() != 200 {
			wantHeaders(t, resp, "Content-Type")
			require.Equal(t, 422, resp.StatusCode())
			return
		}
		wantHeaders(t, resp, "Content-Type", "Set-Cookie")
		m := cookieForm.FindSubmatch(resp.Header.Peek("Set-Cookie"))
		require.NotNil(t, m, "%q", resp.Header.Peek("Set-Cookie"))
		token := string(m[1])
		resp = c.do("GET", "/auth/verify", "", cookieLine(token))
		wantHeaders(t, resp, "Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups", "Remote-Session-Id")
		var want strings.Builder
		for _, b := range []byte(decodedUser(t, body)) {
			if b >= 0x21 && b <= 0x7e && b != '%' {
				want.WriteByte(b)
			} else {
				fmt.Fprintf(&want, "%%%02X", b)
			}
		}
		require.Equal(t, want.String(), string(resp.Header.Peek("Remote-User")), "%q", user)
		c.do("POST", "/auth/logout", "", cookieLine(token))
	})
}

func decodedUser(t *testing.T, body []byte) string {
	t.Helper()
	var m map[string]string
	require.NoError(t, json.Unmarshal(body, &m))
	return m["user_id"]
}

// FuzzVerify: without a live session nothing that a request can hold lets it in (FWD-01), and a redirect goes to the login page
// with nothing but a path or a listed origin (FWD-08).
func FuzzVerify(f *testing.F) {
	for _, seed := range []string{
		"GET /auth/verify HTTP/1.1\nHost: x\n\n", "GET /auth/verify?a HTTP/1.1\nHost: x\nAccept: text/html\nX-Forwarded-Proto: " +
			"https\nX-Forwarded-Host: app.example\nX-Forwarded-Uri: /x\n\n",
		"POST /auth/verify HTTP/1.1\nHost: x\nAuthorization: Basic YTpi\nContent-Length: 2\n\n{}",
		"GET /auth/verify HTTP/1.1\nHost: x\nAccept: text/html\nX-Original-URL: https://login.example//evil.example\n\n",
		"OPTIONS /auth/verify HTTP/1.1\nHost: x\nX-Forwarded-Method: OPTIONS\nRemote-User: admin\nRemote_User: admin\n\n",
		"HEAD /auth/verify HTTP/1.1\nHost: x\nUser-Agent: kube-probe\nX-Forwarded-For: 127.0.0.1\nCookie: {N}={D}\n\n",
		"GET /auth/verify HTTP/1.1\nHost: x\nAccept: text/html\nX-Forwarded-Proto: https\nX-Forwarded-Host: login.example\nX-Forwarded-Uri: /%255c%09/evil.example\n\n",
		"GET /auth/verify?group=staff HTTP/1.1\nHost: x\n\n", "GET /auth/verify?group=staff,%61 HTTP/1.1\nHost: x\nRemote-Groups: staff\nCookie: {N}={D}\n\n",
		"GET /auth/verify?group=staff&group=admins HTTP/1.1\nHost: x\nAccept: text/html\nX-Forwarded-Proto: https\nX-Forwarded-Host: app.example\nX-Forwarded-Uri: /?group=staff\n\n",
	} {
		f.Add(seed)
	}
	cfg := frozenConfig()
	cfg.VerifyLoginURL = "https://login.example/in"
	cfg.TrustedOrigins = []string{"https://app.example"}
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c := newClient(f, newStore(f), cfg)
	dead := c.login("dead")
	c.do("POST", "/auth/logout", "", cookieLine(dead))
	redirect := regexp.MustCompile(`^https://login\.example/in(\?rd=(https%3A%2F%2Fapp\.example)?%2F[^/\\\s]*)?$`)
	f.Fuzz(func(t *testing.T, text string) {
		c.TB = t
		text = strings.NewReplacer("\r\n", "\r\n", "\n", "\r\n", "{N}", cookieName, "{D}", dead).Replace(text)
		if !c.parse(text) || string(c.ctx.Path()) != "/auth/verify" {
			return
		}
		resp := c.handle()
		require.Empty(t, resp.Header.Peek("Remote-User"))
		require.Empty(t, resp.Header.Peek("Remote-Session-Id"))
		require.Empty(t, resp.Header.Peek("Set-Cookie"))
		location := string(resp.Header.Peek("Location"))
		if resp.StatusCode() == 302 {
			require.Regexp(t, redirect, location)
			address, err := url.QueryUnescape(strings.TrimPrefix(location, "https://login.example/in?rd="))
			require.NoError(t, err)
			require.False(t, strings.HasPrefix(address, "//") || strings.HasPrefix(address, `/\`), address)
			u, err := url.Parse(address)
			require.NoError(t, err)
			require.Contains(t, []string{"", "app.example", "login.example"}, u.Host, address)
			return
		}
		require.Empty(t, location)
		require.GreaterOrEqual(t, resp.StatusCode(), 400, text)
		require.Less(t, resp.StatusCode(), 500, text)
	})
}
