package deploy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// spellings are request targets by which a client may try to have one path judged and another one served: from a guarded page
// to the open one and back.
var spellings = []string{
	// Dot segments, plain and encoded.
	"/admin/../login", "/admin/./../login", "/admin/x/../../login", "/admin/%2e%2e/login", "/admin/%2E%2E/login", "/admin/.%2e/login", "/admin/%2e./login",
	"/admin/..%2flogin", "/admin/%2e%2e%2flogin", "/admin%2f..%2flogin", "/admin/users/x%2f..%2f..%2f..%2flogin", "/admin/users/x%2F..%2F..%2F..%2Flogin",
	"/login/../admin/users/1", "/login/%2e%2e/admin/users/1", "/login/..%2fadmin%2fusers%2f1", "/login%2f..%2fadmin/users/1", "/login/.", "/login/..", "/login/%2e",
	"/./login", "/../login", "/admin/../../login", "/auth/../admin/users/1", "/auth/%2e%2e/admin/users/1", "/auth/..%2fadmin/users/1", "/auth/verify/../../admin/users/1",
	// Encoded twice.
	"/admin/%252e%252e/login", "/admin/..%252flogin", "/login%252f..%252fadmin", "/login/%252e%252e/admin/users/1", "/%256cogin",
	// Letters that need no encoding, case, and ends that some file systems ignore.
	"/%6cogin", "/l%6Fgin", "/LOGIN", "/Login", "/login.", "/login%20", "/login%2e", "/login%09", "/login/", "/login%2f", "/ADMIN/../login",
	// Parameters, and segments that some containers cut off.
	"/login;x", "/login;/../admin/users/1", "/admin;/../login", "/admin/..;/login", "/login;%2f..%2fadmin", "/;/login", "/login%3b/../admin/users/1", "/login.json;/admin",
	// Empty segments.
	"//login", "/admin//../login", "//admin/users/1", "/login//", "/login//../admin/users/1", "///login", "//evil.example/login",
	// Backslashes.
	`/admin\..\login`, `/admin/..\login`, `\login`, "/admin/..%5clogin", "/admin%5c..%5clogin", `/login\..\admin\users\1`, "/login%5c..%5cadmin",
	// NUL and other control bytes.
	"/login%00", "/login%00/admin/users/1", "/admin/users/1%00/../login", "/login\x00", "/login%0a", "/login%0d%0aX:y", "/login\x01", "/login%7f",
	// Fragments and queries.
	"/login#/../admin/users/1", "/admin/users/1#/../login", "/login%23/../admin/users/1", "/login?/../admin/users/1", "/admin/users/1?/../login",
	"/login%3f/../admin/users/1", "/login?x#y",
	// Overlong UTF-8, other Unicode, and what is no percent-encoding.
	"/admin/%c0%ae%c0%ae/login", "/admin/..%c0%aflogin", "/admin/%e0%80%ae%e0%80%ae/login", "/admin/%f0%80%80%ae/login",
	"/login\xc0\xaf..\xc0\xafadmin", "/login%ef%bc%8f..%ef%bc%8fadmin",
	"/admin/%u002e%u002e/login", "/login%", "/login%2", "/login%zz", "/admin/%%32%65%%32%65/login",
	// Absolute form, and what is no path.
	"http://" + host + "/login", "https://" + host + "/login", "http://" + host + "/admin/../login", "http://" + host + "/admin/users/1",
	"http://evil.example/login", "https://" + host + ":443//login",
	"login", "*", "?/login", "https:/login", "/https://" + host + "/login",
}

// servedBy is the page of a Go application with these routes that serves the target; its ServeMux resolves dots by a redirect.
func servedBy(target string) (page string) {
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("DELETE " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	if err != nil {
		return "" // no valid target: a server would refuse it
	}
	mux := http.NewServeMux()
	for pattern, name := range map[string]string{"/login": "login", "/admin/users/{id}": "admin", "/admin/": "admin", "/": "other"} {
		mux.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) { page = name })
	}
	mux.ServeHTTP(httptest.NewRecorder(), req)
	return page
}

// resolved is the path after everything that an application may do to one: it decodes twice, cuts off parameters and what follows
// a NUL, takes backslashes for slashes, resolves dots, ignores case and trailing dots and blanks.
func resolved(target string) string {
	target, _, _ = strings.Cut(target, "?")
	for range 2 {
		if decoded, err := url.PathUnescape(target); err == nil {
			target = decoded
		}
	}
	target, _, _ = strings.Cut(target, "\x00")
	target = strings.ReplaceAll(target, `\`, "/")
	segments := strings.Split(target, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.TrimRight(strings.ToLower(path.Clean(strings.Join(segments, "/"))), ". /")
}

// A1: a client without a session reaches no page but the open one, whether the application resolves paths or not. A client with one
// gets what was judged: a target that has one reading.
func (s *site) checkPaths() {
	require.Greater(s, len(spellings), 40)
	for _, target := range spellings {
		for _, method := range []string{"GET", "DELETE"} {
			s.send(method, target, "X: y")
			s.judgedOpen(target)
		}
	}
	session := s.login("user-42")
	for _, target := range spellings {
		s.send("GET", target, session)
		s.judged(target)
	}
	s.reached()
	for _, target := range []string{"/caf%C3%A9", "/a%20b/c%26d", "/100%25", "/a.b/c..d/...", "/~x/a:b@c,d=e", "/who%3F", "/a/b/"} {
		if assert.Equal(s, 200, s.status("GET", target+"?a=%2e%2e/%2F;b//c", session), target) {
			got := strings.ReplaceAll(s.requests()[0].RequestURI, "%3B", ";") // which Traefik encodes in a query
			assert.Equal(s, target+"?a=%2e%2e/%2F;b//c", got, "what has one reading comes through as it is")
		}
	}
}

func (s *site) checkPathsHTTP2() {
	client := s.client(true)
	for _, session := range []string{"", s.login("user-42")} {
		for _, target := range spellings {
			// The client sends no path without a slash. NUL in a path, against RFC 9113, keeps stock nginx 1.22 busy until the client goes.
			if !strings.HasPrefix(target, "/") || strings.ContainsAny(target, "\x00\x01") {
				continue
			}
			req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "https://"+host+"/", io.NopCloser(strings.NewReader("x")))
			require.NoError(s, err)
			// A body that cannot be sent again, because the client would repeat what the proxy refuses as malformed.
			req.URL.Opaque = target
			if strings.HasPrefix(target, "//") {
				req.URL.Opaque = "//" + host + target // which the client takes off
			}
			if session != "" {
				req.Header.Set("Cookie", session[8:])
			}
			if resp, err := client.Do(req); err == nil {
				require.NoError(s, resp.Body.Close())
			}
			if session == "" {
				s.judgedOpen(target)
			} else {
				s.judged(target)
			}
		}
	}
}

func (s *site) judgedOpen(target string) {
	s.Helper()
	for _, r := range s.requests() {
		got, _, _ := strings.Cut(r.RequestURI, "?")
		assert.Equal(s, "/login", got, "%q without a session reached the application", target)
		assert.Equal(s, "login", servedBy(r.RequestURI), "%q without a session", target)
		assert.Equal(s, "/login", resolved(r.RequestURI), "%q without a session", target)
	}
}

func (s *site) judged(target string) {
	s.Helper()
	for _, r := range s.requests() {
		got, _, _ := strings.Cut(r.RequestURI, "?")
		plain, err := url.PathUnescape(got)
		if assert.NoError(s, err, "%q as %q", target, got) {
			assert.Equal(s, strings.TrimRight(strings.ToLower(plain), ". /"), resolved(got), "%q as %q has two readings", target, got)
		}
	}
}

// client is an HTTP client whose connections all go to the proxy.
func (s *site) client(http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.proxy)
		},
	}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: patience, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// What a proxy asks: exactly this path, whatever the client's path and query are, with the session's cookie and no other.
func checkAsked(s *site, asked func() []*http.Request) {
	for _, target := range []string{
		"/hello?group=a", "/hello?x=1&group=a", "/hello&group=a", "/hello%3fgroup=a", "/hello%26group=a", "/hello?group=a&group=b", "/auth/verifyx?group=a", "/hello?", "/hello??group=a",
	} {
		for _, head := range [][]string{
			{"Cookie: " + cookie + "=" + liveToken},
			{
				"Cookie: a=1; " + cookie + "=" + liveToken + "; b=" + strings.Repeat("x", 7000), "Authorization: Bearer " + strings.Repeat("x", 4000),
				"X-Forwarded-Uri: /?group=a", "X-Original-Url: /?group=a",
			},
			{ // Caddy's sample marks by this word what coatcheck is to get.
				"Cookie: " + cookie + "=" + liveToken, "X-Evil: coatcheck:forged", "X-Evil: coatcheck:coatcheck:forged", "User-Agent: coatcheck:forged",
				"Origin: coatcheck:forged", "Authorization: coatcheck:forged", "Sec-Fetch-Site: coatcheck:forged", "Traceparent: coatcheck:forged",
			},
		} {
			resp := s.ask("GET", target, head...) //nolint:bodyclose // read and closed by ask
			requests := asked()
			if strings.HasPrefix(target, "/auth/") {
				continue // to coatcheck, which knows no such path
			}
			require.Equal(s, 200, resp.StatusCode, target)
			require.NotEmpty(s, requests, target)
			for _, r := range requests {
				assert.Contains(s, []string{"/auth/verify", "/auth/verify?"}, r.RequestURI, target)
				if !s.allCookies {
					assert.Equal(s, cookie+"="+liveToken, strings.Trim(strings.Join(r.Header["Cookie"], ";"), "; \t"), target)
				}
				assert.Empty(s, strings.Trim(r.Header.Get("Authorization"), "-"), "of no use to coatcheck")
				assert.NotContains(s, fmt.Sprint(r.Header), "forged", target)
				assert.LessOrEqual(s, len(slices.DeleteFunc(r.Header["X-Original-Url"], func(v string) bool { return v == "" })), 0, target)
			}
			seen := s.reached()
			require.Len(s, seen, 1)
			for name, want := range verdict {
				assert.Equal(s, []string{want}, seen[0][name], name)
			}
		}
	}
	// A proxy may refuse an answer without a name. It makes up none.
	s.send("GET", "/hello", "Cookie: "+cookie+"="+namelessToken)
	for _, h := range s.reached() {
		assert.Empty(s, identities(h))
	}
	// What /auth/ gets: the cookie beside the session's, too, for a browser that renews the session with its device.
	ours := []string{cookie + "-name=n", cookie + "=" + liveToken}
	asked()
	s.send("POST", "/auth/dbsc/refresh", "Cookie: a=1; "+ours[0]+"; b=2; "+ours[1]+"; c=3", "Sec-Secure-Session-Id: s", "Content-Length: 0",
		"Traceparent: "+traced["Traceparent"], "Tracestate: "+traced["Tracestate"], "Baggage: "+traced["Baggage"])
	requests := asked()
	require.Len(s, requests, 1)
	assert.Equal(s, "s", requests[0].Header.Get("Sec-Secure-Session-Id"))
	for name := range traced {
		assert.Empty(s, requests[0].Header[name], name)
	}
	if !s.allCookies {
		got := strings.FieldsFunc(strings.Join(requests[0].Header["Cookie"], ";"), func(r rune) bool { return strings.ContainsRune("; \t", r) })
		assert.ElementsMatch(s, ours, got)
	}
}
