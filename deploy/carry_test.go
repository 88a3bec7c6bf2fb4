package deploy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// uploaded is how many bytes the upload has: more than any proxy's buffers. With the build tag real it is 100 MiB.
var uploaded int64 = 4 << 20

// C3.
func (s *site) checkWebSocket() {
	conn := func(head ...string) (tunnel, *http.Response) {
		c, err := (&tls.Dialer{Config: &tls.Config{
			RootCAs: s.roots, ServerName: host, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"http/1.1"},
		}}).DialContext(s.Context(), "tcp", s.proxy)
		require.NoError(s, err)
		s.Cleanup(func() { _ = c.Close() })
		require.NoError(s, c.SetDeadline(time.Now().Add(patience)))
		_, err = fmt.Fprintf(c, "GET /socket HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade, Remote-User\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "+
			"13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n", host, strings.Join(head, "\r\n"))
		require.NoError(s, err)
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
		require.NoError(s, err)
		return tunnel{c, in}, resp
	}
	_, resp := conn("Cookie: a=b") //nolint:bodyclose // no connection is used again
	assert.Equal(s, 401, resp.StatusCode)
	assert.Empty(s, s.reached())

	c, resp := conn(s.login("user-42")) //nolint:bodyclose // an upgraded connection
	require.Equal(s, 101, resp.StatusCode)
	assert.Equal(s, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-WebSocket-Accept"))
	seen := s.reached()
	assert.Equal(s, []string{"user-42"}, seen[0]["Remote-User"])
	assert.Len(s, seen[0]["Connection"], 1)
	s.checkConnection(seen[0], nil)
	for _, text := range []string{"\x81\x02hi", strings.Repeat("x", 100_000)} {
		go func() { _, _ = io.WriteString(c, text) }()
		back := make([]byte, len(text))
		_, err := io.ReadFull(c.in, back)
		require.NoError(s, err)
		require.Equal(s, text, string(back))
	}
}

// tunnel is a connection with what was read of it ahead.
type tunnel struct {
	io.Writer
	in *bufio.Reader
}

// Through a connection that was upgraded to anything else a client could send requests that nobody judges.
func (s *site) checkOtherUpgrades() {
	session := s.login("user-42")
	for _, upgrade := range []string{"h2c", "H2C", "h2c, websocket", "websocket, h2c", "TLS/1.0", "x"} {
		for _, head := range [][]string{{"Connection: Upgrade, HTTP2-Settings"}, {"Connection: Upgrade", "Upgrade: websocket"}} {
			for _, path := range []string{"/login", "/hello"} {
				s.send("GET", path, append(head, "Upgrade: "+upgrade, "HTTP2-Settings: AAMAAABkAAQAAP__", session)...)
				for _, h := range s.reached() {
					s.checkConnection(h, head)
					for _, line := range h["Upgrade"] {
						assert.Contains(s, []string{"", "websocket"}, line, "%q %q", upgrade, head)
					}
				}
			}
		}
	}
}

func (s *site) checkEvents() {
	for _, http2 := range []bool{false, true} {
		assert.Equal(s, 401, s.status("GET", "/events", "Accept: text/event-stream"))
		assert.Empty(s, s.reached())
		req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "https://"+host+"/events", http.NoBody)
		require.NoError(s, err)
		req.Header.Set("Cookie", s.login("user-42")[8:])
		resp, err := s.client(http2).Do(req)
		require.NoError(s, err)
		require.Equal(s, 200, resp.StatusCode)
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		require.NoError(s, err, "the first event comes while the application waits")
		assert.Equal(s, "data: first\n", line)
		require.NoError(s, resp.Body.Close())
		s.reached()

		req, err = http.NewRequestWithContext(s.Context(), http.MethodGet, "https://"+host+"/auth/watch", http.NoBody)
		require.NoError(s, err)
		req.Header.Set("Cookie", s.login("user-42")[8:])
		resp, err = s.client(http2).Do(req)
		require.NoError(s, err)
		require.Equal(s, 200, resp.StatusCode)
		in := bufio.NewReader(resp.Body)
		for line != "event: session\n" {
			line, err = in.ReadString('\n')
			require.NoError(s, err, "coatcheck's own stream comes through at once")
		}
		require.NoError(s, resp.Body.Close())
	}
}

func (s *site) checkUpload() {
	session := s.login("user-42")
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	sum := crc32.NewIEEE()
	for range uploaded / int64(len(block)) {
		_, _ = sum.Write(block)
	}
	want := strconv.FormatInt(uploaded, 10) + " " + strconv.FormatUint(uint64(sum.Sum32()), 16)
	for _, c := range []struct {
		name  string
		http2 bool
		size  int64
	}{{"Content-Length", false, uploaded}, {"chunked", false, -1}, {"HTTP/2", true, uploaded}, {"HTTP/2 without a length", true, -1}} {
		send := func(cookies string) (*http.Response, string) {
			body := io.LimitReader(&repeated{block: block}, uploaded)
			req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "https://"+host+"/upload", io.NopCloser(body))
			require.NoError(s, err)
			req.ContentLength = c.size
			req.Header.Set("Cookie", cookies)
			req.Header.Set("Expect", "100-continue")
			resp, err := s.client(c.http2).Do(req)
			require.NoError(s, err, c.name)
			text, err := io.ReadAll(resp.Body)
			require.NoError(s, err, c.name)
			require.NoError(s, resp.Body.Close())
			return resp, string(text)
		}
		resp, text := send(session[8:]) //nolint:bodyclose // read and closed by send
		require.Equal(s, 200, resp.StatusCode, c.name)
		assert.Equal(s, want, text, c.name)
		require.Len(s, s.reached(), 1)
	}
	// Refused before the body came, or after it was thrown away: in no case does the application see it.
	assert.Equal(s, 401, s.status("POST", "/upload", "body {}"))
	assert.Equal(s, 401, s.status("POST", "/upload", "Transfer-Encoding: chunked", "\r\n2\r\n{}\r\n0\r\n"))
	assert.Empty(s, s.reached())
}

// repeated is a block again and again.
type repeated struct {
	block []byte
	at    int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// B4 and C2: what applications keep in their cookies locks nobody out.
func (s *site) checkLargeCookies() {
	session := s.login("user-42")[8:]
	for _, c := range []struct{ count, size int }{{3, 3900}, {16, 500}} {
		var cookies []string
		for i := range c.count {
			cookies = append(cookies, fmt.Sprintf("app%d=%s", i, strings.Repeat("x", c.size)))
		}
		others := strings.Join(cookies, "; ")
		for _, http2 := range []bool{false, true} {
			get := func(path string) (*http.Response, []byte) {
				req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "https://"+host+path, http.NoBody)
				require.NoError(s, err)
				req.Header.Set("Cookie", strings.Join(cookies[:1], "")+"; "+session+"; "+strings.Join(cookies[1:], "; "))
				resp, err := s.client(http2).Do(req)
				require.NoError(s, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(s, err)
				require.NoError(s, resp.Body.Close())
				return resp, text
			}
			resp, _ := get("/hello") //nolint:bodyclose // read and closed by get
			require.Equal(s, 200, resp.StatusCode, "%+v", c)
			got := strings.Join(s.reached()[0]["Cookie"], "; ")
			if !s.allCookies {
				assert.Equal(s, others, got)
			}
			resp, text := get("/auth/me") //nolint:bodyclose // read and closed by get
			require.Equal(s, 200, resp.StatusCode, "%+v", c)
			var view struct{ Authenticated bool }
			require.NoError(s, json.NewDecoder(bytes.NewReader(text)).Decode(&view))
			assert.True(s, view.Authenticated)
		}
	}
}

// C5: where the commented line counts, a preflight reaches the application, without a user; nothing else does.
func (s *site) checkPreflight() {
	session := s.login("user-42")
	preflight := []string{"Origin: https://other.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-y"}
	assert.Equal(s, 200, s.status("OPTIONS", "/hello", append(preflight, "Remote-User: admin", "Remote_User: admin")...))
	if seen := s.reached(); assert.Len(s, seen, 1) {
		assert.Empty(s, identities(seen[0]))
		assert.Equal(s, "POST", seen[0].Get("Access-Control-Request-Method"))
	}
	for _, head := range [][]string{
		{"GET", preflight[0], preflight[1]},
		{"POST", preflight[0], preflight[1]},
		{"OPTIONS", preflight[0]},
		{"OPTIONS", preflight[0], preflight[1], "Cookie: a=b"},
		{"OPTIONS", preflight[0], preflight[1], "Cookie: " + cookie + "=x"},
		{"OPTIONS", preflight[0], preflight[1], "Cookie: a=b", "Cookie:"},
		{"OPTIONS", preflight[0], preflight[1], "Cookie:", "Cookie: a=b"},
		{"OPTIONS", preflight[0], preflight[1], "Cookie: :"},
		{"OPTIONS", preflight[0], "Access-Control-Request-Method:"},
		{"OPTIONS", preflight[0], "Access-Control-Request-Method:", "Cookie:"},
		{"OPTIONS", preflight[0], "Cookie: :x"},
		{"OPTIONS", preflight[0], "Cookie: x:"},
	} {
		assert.Equal(s, 401, s.status(head[0], "/hello", head[1:]...), "%q", head)
	}
	assert.Equal(s, 200, s.status("OPTIONS", "/hello", append(preflight, "Cookie:")...), "an empty line is no cookie")
	assert.Len(s, s.reached(), 1)
	for _, target := range spellings {
		s.send("OPTIONS", target, preflight...)
		s.judged(target)
	}
	assert.Empty(s, s.reached())
	assert.Equal(s, 200, s.status("OPTIONS", "/hello", append(preflight, session)...), "the proxy asks about it as about any other")
	assert.Equal(s, []string{"user-42"}, s.reached()[0]["Remote-User"])
}

// withPreflights takes the comment from the line for preflights, as an operator who wants them does.
func withPreflights(config string) string {
	lines := strings.Split(config, "\n")
	for i, line := range lines {
		if strings.Contains(line, "Lets preflights through") {
			lines[i+1] = strings.Replace(lines[i+1], "# ", "", 1)
		}
	}
	return strings.Join(lines, "\n")
}
