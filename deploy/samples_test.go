package deploy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// odd are the bytes of a header's name that are neither letters nor digits (RFC 9110, section 5.6.2). PHP takes a dot, and lighttpd
// takes any of them, for the underscore that a hyphen becomes.
const odd = "!#$%&'*+-.^_`|~"

// heard is a header's name as an application may hear it.
func heard(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(odd, r) {
			return '-'
		}
		return r
	}, strings.ToLower(name))
}

// identities are all header lines of a request that an application could take for somebody's name. What says nothing does not
// count: coatcheck answers with an empty line for what it does not know.
func identities(h http.Header) map[string][]string {
	found := make(map[string][]string)
	for name, lines := range h {
		if strings.HasPrefix(heard(name), "remote-") && strings.Join(lines, "") != "" {
			found[name] = lines
		}
	}
	return found
}

// FWD-05.
func TestSamples(t *testing.T) { checkSamples(t, nginx) }

func checkSamples(t *testing.T, samples map[string]proxied) {
	for name, how := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("what it asks", func(t *testing.T) {
				t.Parallel()
				upstream := new(asked)
				checkAsked(open(t, how, variant{asked: upstream}), upstream.taken)
			})
			t.Run("idle connections", func(t *testing.T) {
				t.Parallel()
				checkIdle(t, how)
			})
			t.Run("another cookie name", func(t *testing.T) {
				t.Parallel()
				checkOtherName(t, how)
			})
			t.Run("preflights", func(t *testing.T) {
				t.Parallel()
				open(t, how, variant{edit: withPreflights}).checkPreflight()
			})
			if how.socket {
				t.Run("Unix socket", func(t *testing.T) {
					t.Parallel()
					s := open(t, how, variant{socket: true})
					t.Run("live session", s.with((*site).checkLive))
					t.Run("none", s.with((*site).checkNone))
				})
			}
			t.Run("as it is", func(t *testing.T) {
				t.Parallel()
				s := open(t, how, variant{})
				t.Run("live session", s.with((*site).checkLive))
				t.Run("none", s.with((*site).checkNone))
				t.Run("forged headers", s.with((*site).checkForged))
				t.Run("forged forwarding", s.with((*site).checkForwarding))
				t.Run("many sessions", s.with((*site).checkManySessions))
				t.Run("planted cookies", s.with((*site).checkPlanted))
				t.Run("blanks", s.with((*site).checkBlanks))
				t.Run("HTTP/2 in front", s.with((*site).checkHTTP2))
				t.Run("paths", s.with((*site).checkPaths))
				t.Run("paths over h2", s.with((*site).checkPathsHTTP2))
				t.Run("WebSocket", s.with((*site).checkWebSocket))
				t.Run("other upgrades", s.with((*site).checkOtherUpgrades))
				t.Run("event stream", s.with((*site).checkEvents))
				t.Run("upload", s.with((*site).checkUpload))
				t.Run("large cookies", s.with((*site).checkLargeCookies))
				t.Run("auth server hangs", s.with((*site).checkHang))
				t.Run("auth server restarts", s.with((*site).checkRestart))
				if how.reload != nil {
					t.Run("proxy reloads", s.with(func(s *site) { s.checkReload(how.reload) }))
				}
				t.Run("auth server slow, then down", s.with((*site).checkOutage))
			})
		})
	}
}

// with runs a check with the subtest's T.
func (s *site) with(check func(*site)) func(*testing.T) {
	return func(t *testing.T) {
		outer := s.T
		s.T = t
		defer func() { s.T = outer }()
		s.reached()
		check(s)
	}
}

func (s *site) checkLive() {
	session := s.login("Jürgen 1")
	require.Equal(s, 200, s.status("GET", "/hello?x=1", session))
	seen := s.reached()
	require.Len(s, seen, 1)
	assert.Equal(s, "J%C3%BCrgen%201", seen[0].Get("Remote-User"))
	assert.Len(s, seen[0].Get("Remote-Session-Id"), 22)
	assert.Equal(s, "127.0.0.1", seen[0].Get("X-Forwarded-For"), "the client's address, and no other")
	assert.Equal(s, "https", seen[0].Get("X-Forwarded-Proto"))
	for sent, want := range map[string]string{
		session: "", session + "; a=1": "a=1", "Cookie: a=1; " + session[8:]: "a=1", "Cookie: a=1; " + session[8:] + "; b=2": "a=1; b=2",
		"Cookie: a=1; x" + cookie + "=y; " + session[8:] + ";b=2": "", // like the session's name: all may go, none may stay that is it
	} {
		require.Equal(s, 200, s.status("POST", "/form", sent, "body {}"), sent)
		seen = s.reached()
		require.Len(s, seen, 1)
		got := strings.Join(seen[0]["Cookie"], "; ")
		if s.allCookies {
			continue
		}
		assert.NotContains(s, fmt.Sprint(seen[0]), strings.SplitN(session, "=", 2)[1], "the application can act as the user")
		if want != "" || !strings.Contains(sent, "=y") {
			assert.Equal(s, want, strings.Trim(got, "; "), sent)
		}
	}
	assert.Equal(s, 200, s.status("GET", "/two-lines", "Cookie: a=1", session))
	seen = s.reached()
	require.Len(s, seen, 1)
	if !s.allCookies {
		assert.Equal(s, "a=1", strings.Trim(strings.Join(seen[0]["Cookie"], "; "), "; "))
	}
	require.Equal(s, 204, s.status("POST", "/auth/logout", session))
	assert.Equal(s, 401, s.status("GET", "/hello", session))
	assert.Empty(s, s.reached())
}

const asBrowser = "Accept: text/html,application/xhtml+xml;q=0.9"

func (s *site) checkNone() {
	for _, line := range []string{"X: y", "Cookie: " + cookie + "=x", "Cookie: " + cookie + "=" + strings.Repeat("A", 43), "Cookie: a=b", "Authorization: Basic YTpi"} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"} {
			assert.Equal(s, 401, s.status(method, "/hello", line), "%s %s", method, line)
		}
		refused := s.ask("GET", "/hello", line) //nolint:bodyclose // read and closed by ask
		assert.Equal(s, `Cookie realm="coatcheck"`, refused.Header.Get("WWW-Authenticate"), "strict clients refuse a 401 without it")
		assert.Equal(s, "application/problem+json", refused.Header.Get("Content-Type"))
		text, err := io.ReadAll(refused.Body)
		require.NoError(s, err)
		assert.Contains(s, string(text), `"code":"unauthenticated"`)
		resp := s.ask("GET", "/hello?a=1&b=2", line, asBrowser) //nolint:bodyclose // read and closed by ask
		assert.Equal(s, 302, resp.StatusCode)
		assert.Equal(s, "https://"+host+"/login?rd=%2Fhello%3Fa%3D1%26b%3D2", resp.Header.Get("Location"))
		assert.Equal(s, 401, s.status("POST", "/hello", line, asBrowser, "body {}"), "a form is not sent elsewhere")
	}
	for _, path := range []string{"//evil.example", "/%2fevil.example", `/\evil.example`} {
		resp := s.ask("GET", path, asBrowser) //nolint:bodyclose // read and closed by ask
		assert.NotRegexp(s, `//evil|//[^/]*/.*(%2[fF]%2[fF]|%5[cC]|\\)`, resp.Header.Get("Location"), path)
	}
	resp := s.ask("GET", "/hello", asBrowser, "X-Forwarded-Uri: /evil", "X-Forwarded-Host: evil.example", //nolint:bodyclose // read and closed by ask
		"X-Original-Url: https://evil.example/", "X-Forwarded-Method: POST")
	assert.Equal(s, "https://"+host+"/login?rd=%2Fhello", resp.Header.Get("Location"), "what the client says of the request does not count")
	assert.Equal(s, 404, s.status("GET", "/auth/verify"), "this is for the proxy to ask")
	assert.Equal(s, 200, s.status("GET", "/auth/me"))
	for _, path := range []string{
		"/login/../hello", "/login/..%2fhello", "/login/%2e%2e/hello", "/login//../hello", "/login;/../hello",
		"/auth/../hello", "/login%2f..%2fhello", "/login/",
	} {
		assert.GreaterOrEqual(s, s.status("GET", path), 400, path)
	}
	assert.Empty(s, s.reached(), "nothing of it reached the application")
	assert.Equal(s, 200, s.status("GET", "/login"))
	assert.Len(s, s.reached(), 1, "the login page is for everybody")
}

func (s *site) checkForged() {
	session := s.login("user-42")
	forgeries := [][]string{
		{"Remote-User: admin"},
		{"remote-user: admin"},
		{"REMOTE-USER: admin"},
		{"Remote-User: admin", "Remote-User: root"},
		{"Remote-User:"},
		{"Remote_User: admin"},
		{"REMOTE_USER: admin"},
		{"remote_user: admin", "Remote-User: admin"},
		{"Remote-User: admin", "Remote_user: root"},
		{"Remote-Session-Id: admin"},
		{"Remote_Session_Id: admin"},
		{"Remote-Session_Id: admin"},
		{"Remote_Session-Id: admin"},
		{"remote-session-id: a", "REMOTE_SESSION_ID: b"},
		{"Remote-Groups: admin"},
		{"Remote_Groups: admin"},
		{"Remote-Email: a@b", "Remote-Name: admin", "remote_name: admin"},
		{"Connection: Remote-User"},
		{"Connection: close, remote-user, Remote-Session-Id"},
		{"Connection: Remote-User", "Remote-User: admin"},
		{"Connection: Remote-User", "Connection: Remote-Session-Id", "Remote_User: admin"},
		{"Connection: Cookie"},
		{"Connection: Remote_User"},
		{"Connection: Upgrade, Remote-User"},
		{"Connection: keep-alive, Remote-User, Remote-Groups"},
		{"Remote-User: admin", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Uri: /login", "X-Original-Url: /login", "X-Original-Uri: /login", "X-Rewrite-Url: /login"},
	}
	for _, c := range strings.Split(odd, "") {
		forgeries = append(forgeries, []string{"Remote" + c + "User: admin", "Remote" + c + "Groups: admin", "Remote-Session" + c + "Id: admin"})
	}
	for _, forged := range forgeries {
		status := s.status("GET", "/hello", append(forged, session)...)
		for _, h := range s.reached() {
			assert.Equal(s, []string{"user-42"}, h["Remote-User"], "%q", forged)
			s.checkConnection(h, forged)
			found := identities(h)
			delete(found, "Remote-User")
			if assert.Len(s, found["Remote-Session-Id"], 1, "%q", forged) {
				assert.Len(s, found["Remote-Session-Id"][0], 22, "%q", forged)
			}
			delete(found, "Remote-Session-Id")
			assert.Empty(s, found, "%q", forged)
		}
		if len(forged) == 1 && forged[0] == "Connection: Cookie" {
			continue // a proxy may do what the header says, and drop the cookie
		}
		assert.Equal(s, 200, status, "%q", forged)
		assert.Equal(s, 401, s.status("GET", "/hello", forged...), "%q", forged)
		assert.Empty(s, s.reached(), "%q", forged)
		assert.Equal(s, 200, s.status("GET", "/login", append(forged, session)...), "%q", forged)
		for _, h := range s.reached() {
			assert.Empty(s, identities(h), "%q where nobody is asked", forged)
			s.checkConnection(h, forged)
			assert.True(s, s.allCookies || !strings.Contains(strings.Join(h["Cookie"], "; "), cookie))
		}
	}
}

// checkConnection: Connection is the proxy's own. Whoever comes next, another proxy for instance, drops the headers that it names (RFC
// 9110, section 7.6.1), so that a client which writes it takes its own name or group away.
func (s *site) checkConnection(h http.Header, sent []string) {
	s.Helper()
	own := []string{"", "close", "keep-alive"}
	if h.Get("Upgrade") != "" {
		own = []string{"upgrade"}
	}
	for _, line := range h["Connection"] {
		assert.Contains(s, own, strings.ToLower(line), "%q", sent)
	}
}

func (s *site) checkHTTP2() {
	session := s.login("user-42")
	client := s.client(true)
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "https://"+host+"/hello", http.NoBody)
	require.NoError(s, err)
	req.Header.Set("Cookie", session[8:])
	for _, name := range []string{"remote_user", "remote-user", "remote.user", "remote!groups"} {
		req.Header[name] = []string{"admin"}
	}
	resp, err := client.Do(req)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	assert.Equal(s, "HTTP/2.0", resp.Proto)
	assert.Equal(s, 200, resp.StatusCode)
	seen := s.reached()
	require.Len(s, seen, 1)
	assert.Equal(s, []string{"user-42"}, seen[0]["Remote-User"])
	assert.Len(s, identities(seen[0]), 2)
}
