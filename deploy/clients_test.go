package deploy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// traced are a client's headers of a trace (W3C Trace Context and Baggage), by which it could have its requests recorded.
var traced = map[string]string{
	"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "evil=1", "Baggage": "evil=1",
}

// What a client says about its request, beside what it asks for: the application hears what the proxy says, or nothing.
func (s *site) checkForwarding() {
	session := s.login("user-42")
	said := map[string]string{
		"Forwarded": "for=192.0.2.9;host=evil.example", "X-Forwarded-For": "192.0.2.9", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher",
		"X-Forwarded-Port": "4711", "X-Forwarded-Prefix": "/evil", "X-Real-IP": "192.0.2.9",
		"X-Original-URL": "/evil", "X-Original-URI": "/evil", "X-Rewrite-URL": "/evil",
	}
	maps.Copy(said, traced)
	for name, value := range said {
		for _, c := range []string{"-", "_", ".", "!"} {
			if c == "!" && !strings.HasPrefix(name, "X-Forwarded-") {
				continue // Caddy cannot match these
			}
			forged := strings.ReplaceAll(name, "-", c) + ": " + value
			for path, head := range map[string][]string{"/hello": {forged, session}, "/login": {forged, forged}} {
				require.Equal(s, 200, s.status("GET", path, head...), forged)
				seen := s.reached()
				require.Len(s, seen, 1)
				for got, lines := range seen[0] {
					if heard(got) == heard(name) {
						assert.NotContains(s, strings.Join(lines, ","), value, "%s on %s", forged, path)
					}
				}
				assert.Equal(s, []string{host}, seen[0]["X-Forwarded-Host"])
				assert.Equal(s, []string{"https"}, seen[0]["X-Forwarded-Proto"])
				assert.Len(s, seen[0]["X-Forwarded-For"], 1)
			}
		}
	}
}

// A logout ends every live session among the first sixteen that a request carries, whatever stands between them.
func (s *site) checkManySessions() {
	for _, between := range []string{"; ", "; a=1; ", ";a=1;\tb=2 ;"} {
		live, line := s.login("user-42")[8:], "Cookie: "
		for i := range 15 {
			line += cookie + "=" + strings.Repeat(string(rune('A'+i)), 43) + between
		}
		require.Equal(s, 204, s.status("POST", "/auth/logout", line+cookie+"-name="+strings.Repeat("A", 22)+between+live))
		assert.Equal(s, 401, s.status("GET", "/hello", "Cookie: "+live), between)
	}
	assert.Empty(s, s.reached())
}

// What stands before the live session's cookie counts as it does for coatcheck itself, which drops malformed and repeated values: no
// number of them hides the session from verify or from a logout.
func (s *site) checkPlanted() {
	dead := strings.Repeat("A", 43)
	for _, planted := range [][]string{
		{"x"},
		{""},
		{`"`},
		{"live"},
		{strings.Repeat("A", 42)},
		{strings.Repeat("A", 42) + "B"},
		{dead + "A"},
		{`"` + dead},
		{dead + `"`},
		{dead + " "},
		{dead + " x"},
		{dead},
		{`"` + dead + `"`},
		{dead, `"` + dead + `"`},
		{dead, strings.Repeat("B", 42) + "A"},
		{dead, "x", strings.Repeat("-", 42) + "A"},
	} {
		for _, between := range []string{"; ", ";", "; a=1; ", ";\ta=1 ; b=" + strings.Repeat("A", 43) + "; "} {
			live, line := s.login("user-42")[8:], "Cookie: "
			for i := range 30 {
				line += cookie + "=" + planted[i%len(planted)] + between
			}
			assert.Equal(s, 200, s.status("GET", "/hello", line+live), "30 of %q with %q behind each", planted, between)
			assert.Equal(s, 401, s.status("GET", "/hello", line+"b=2"), "%q", planted)
			assert.Equal(s, 204, s.status("POST", "/auth/logout", line+live), "%q", planted)
			assert.Equal(s, 401, s.status("GET", "/hello", "Cookie: "+live), "30 of %q with %q behind each", planted, between)
		}
	}
	for _, value := range []string{"x", dead} {
		resp := s.ask("GET", "/auth/me", "Cookie: "+cookie+"="+value) //nolint:bodyclose // read and closed by ask
		assert.Len(s, resp.Header["Set-Cookie"], 1, "a cookie that is nobody's is cleared: %q", value)
	}
	s.reached()
}

// What docs/proxies.md says under "Several hosts": the sample with another cookie's name in it.
func checkOtherName(t *testing.T, how proxied) {
	const name = "__Secure-coatcheck"
	s := open(t, how, variant{
		flags: []string{"--cookie-name=" + name, "--cookie-domain=example.com"},
		edit:  func(config string) string { return strings.ReplaceAll(config, cookie, name) },
	})
	resp := s.ask("POST", "/auth/login", `body {"user_id":"user-42"}`) //nolint:bodyclose // read and closed by ask
	require.Len(t, resp.Cookies(), 1)
	require.Equal(t, name, resp.Cookies()[0].Name)
	session := "Cookie: a=1; " + name + "=" + resp.Cookies()[0].Value
	require.Equal(t, 200, s.status("GET", "/hello", session))
	seen := s.reached()
	require.Len(t, seen, 1)
	assert.Equal(t, []string{"user-42"}, seen[0]["Remote-User"])
	if !s.allCookies {
		assert.Equal(t, []string{"a=1"}, seen[0]["Cookie"])
	}
	require.Equal(t, 204, s.status("POST", "/auth/logout", session))
	assert.Equal(t, 401, s.status("GET", "/hello", session))
}

// No cookie costs a proxy time by the square of its length: a request of a few KiB took one that did some seconds.
func (s *site) checkBlanks() {
	for _, path := range []string{"/login", "/hello", "/auth/me"} {
		cost := func(line, fill string, size int) time.Duration {
			began := s.cpu()
			for range 5 {
				s.send("GET", path, "Cookie: "+fmt.Sprintf(line, strings.Repeat(fill, size/len(fill))))
			}
			return s.cpu() - began
		}
		for _, size := range []int{13_500, 15_900, 50_000} { // as much as each proxy takes
			letters := cost("a=%sb", "x", size)
			for _, line := range []string{"a=%sb", "a=1 %s; b=2", cookie + "=%sb", "a=1; " + cookie + "%sb"} {
				assert.Less(s, cost(line, " ", size), 5*letters+150*time.Millisecond, "%d blanks in %q to %s; as many letters: %v", size, line, path, letters)
			}
		}
		const size = 8000 // of what begins as a session's cookie does, again and again
		letters := cost("a=%sb", "x", size)
		for _, fill := range []string{
			";", "; ", ";\t", ";" + strings.Repeat(" ", 200), ";" + cookie, ";" + cookie + "=", "; " + cookie + "=x", ";" + cookie + "=" + strings.Repeat("A", 43), ";" + cookie + `="`,
			";" + cookie + "=" + strings.Repeat("A", 42) + strings.Repeat(" ", 200), ";" + cookie + "-n=x", ";" + cookie + "-n=x;a=1",
		} {
			assert.Less(s, cost("a=1%s", fill, size), 5*letters+150*time.Millisecond, "%d bytes of %q to %s; as many letters: %v", size, fill, path, letters)
		}
	}
	assert.Positive(s, s.cpu())
	s.reached()
}

// cpu returns how long the proxy and its workers have computed.
func (s *site) cpu() (spent time.Duration) {
	const tick = time.Second / 100
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(s, err)
	for _, file := range files {
		text, _ := os.ReadFile(file) // which may be gone
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[2] != strconv.Itoa(s.process.Process.Pid) { // its process group
			continue
		}
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(field)
			require.NoError(s, err)
			spent += time.Duration(n) * tick
		}
	}
	return spent
}

// checkHalfHeader: a client that sends half a header block is cut off.
func (s *site) checkHalfHeader() {
	conn, err := (&tls.Dialer{Config: &tls.Config{
		RootCAs: s.roots, ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}}).DialContext(s.Context(), "tcp", s.proxy)
	require.NoError(s, err)
	s.Cleanup(func() { _ = conn.Close() })
	require.NoError(s, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET /login HTTP/1.1\r\nHost: "+host+"\r\n")
	require.NoError(s, err)
	_, err = io.Copy(io.Discard, bufio.NewReader(conn))
	assert.NotErrorIs(s, err, os.ErrDeadlineExceeded)
	assert.Empty(s, s.reached())
}
