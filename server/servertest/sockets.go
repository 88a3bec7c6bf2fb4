package servertest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
)

var socketRules = []rule{
	{name: "ambiguous framing", transport: true, check: checkFraming},
	{name: "malformed requests", transport: true, check: checkMalformed},
	{name: "pipelined requests", transport: true, check: checkPipelined},
	{name: "drips are cut", config: hasty, transport: true, check: checkDrips},
	{name: "many drips do not hold others up", config: func(cfg *server.Config) { cfg.ReadTimeout = time.Hour }, transport: true, check: checkManyDrips},
	{name: "idle connections are closed", config: func(cfg *server.Config) { cfg.ReadTimeout, cfg.IdleTimeout = time.Hour, idleTimeout }, transport: true, check: checkIdleConnections},
	{name: "large requests are not waited for", transport: true, check: checkLargeNotRead},
	{name: "an early answer is seen", transport: true, check: checkEarlyAnswers},
	{name: "verify waits for no body", config: func(cfg *server.Config) { cfg.ReadTimeout = time.Hour }, transport: true, check: checkVerifyBody},
	{name: "header lines", config: func(cfg *server.Config) { cfg.ReadTimeout = time.Hour }, transport: true, check: checkHeaderLines},
	{name: "chunks of a byte", transport: true, check: checkChunks},
	{name: "trailers are dropped", config: func(cfg *server.Config) { cfg.ReadTimeout = time.Hour }, transport: true, check: checkTrailers},
	{name: "connections per client", config: func(cfg *server.Config) { cfg.MaxConnsPerIP = 3 }, transport: true, check: checkConnsPerIP},
	{name: "users on one connection", transport: true, check: checkOneConnection},
}

const (
	readTimeout = 150 * time.Millisecond
	idleTimeout = 300 * time.Millisecond
)

func hasty(cfg *server.Config) { cfg.ReadTimeout, cfg.IdleTimeout = readTimeout, idleTimeout }

// DOS-01: each of these messages holds a second request that must not be served, because a front proxy could have taken it
// for a body.
func checkFraming(h *harness) {
	token := h.Login(h.User())
	const smuggled = "DELETE /auth/sessions?current=true HTTP/1.1\r\nHost: x\r\nCookie: "
	second := smuggled + h.CookieName + "=" + token + "\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(second))
	post := "POST /auth/verify HTTP/1.1\r\nHost: x\r\n"
	for name, text := range map[string]string{
		"two lengths":                   post + "Content-Length: 0\r\n" + length + "\r\n" + second,
		"two lengths, turned round":     post + length + "Content-Length: 0\r\n\r\n" + second,
		"list of lengths":               post + "Content-Length: 0, " + fmt.Sprint(len(second)) + "\r\n\r\n" + second,
		"length with a plus":            post + "Content-Length: +0\r\n\r\n" + second,
		"length with a minus":           post + "Content-Length: -1\r\n\r\n" + second,
		"hexadecimal length":            post + "Content-Length: 0x0\r\n\r\n" + second,
		"length with text":              post + "Content-Length: 0a\r\n\r\n" + second,
		"length with a blank inside":    post + "Content-Length: 0 0\r\n\r\n" + second,
		"empty length":                  post + "Content-Length:\r\n\r\n" + second,
		"length beyond 64 bits":         post + "Content-Length: 18446744073709551616\r\n\r\n" + second,
		"fraction":                      post + "Content-Length: 0.0\r\n\r\n" + second,
		"blank before the colon":        post + "Content-Length : 0\r\n" + length + "\r\n" + second,
		"blank before the colon, TE":    post + "Transfer-Encoding : chunked\r\n" + length + "\r\n0\r\n\r\n" + second,
		"unknown coding":                post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + second,
		"gzip, chunked":                 post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + second,
		"chunked, identity":             post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + second,
		"chunked twice":                 post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + second,
		"two codings":                   post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second,
		"two codings, turned round":     post + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"coding twice":                  post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"coding with a vertical tab":    post + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" + second,
		"coding quoted":                 post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + second,
		"identity":                      post + "Transfer-Encoding: identity\r\n\r\n" + second,
		"identity in capitals":          post + "TRANSFER-ENCODING:\tIDENTITY\t\r\n\r\n" + second,
		"identity with GET":             "GET /auth/verify HTTP/1.1\r\nHost: x\r\ntransfer-encoding:identity\r\n\r\n" + second,
		"identity and length":           post + "Transfer-Encoding: identity\r\n" + length + "\r\n" + second,
		"identity, length 0":            post + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + second,
		"coding on HTTP/1.0":            "POST /auth/verify HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"coding on HTTP/1.0, kept":      "POST /auth/verify HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"chunk size with a plus":        post + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + second,
		"chunk size with 0x":            post + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + second,
		"chunk size beyond 64 bits":     post + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + second,
		"no chunk size":                 post + "Transfer-Encoding: chunked\r\n\r\n\r\n" + second,
		"LF in a chunk extension":       post + "Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n" + second,
		"bare LF after a chunk size":    post + "Transfer-Encoding: chunked\r\n\r\n0\n\r\n" + second,
		"chunk without its end":         post + "Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n" + second,
		"no Host":                       "POST /auth/verify HTTP/1.1\r\n" + "Content-Length: 0\r\n\r\n" + second,
		"two Hosts":                     post + "Host: y\r\nContent-Length: 0\r\n\r\n" + second,
		"two Hosts, the same":           post + "Host: x\r\nContent-Length: 0\r\n\r\n" + second,
		"NUL in a header":               post + "X: a\x00b\r\nContent-Length: 0\r\n\r\n" + second,
		"header without a name":         post + ": x\r\nContent-Length: 0\r\n\r\n" + second,
		"header without a colon":        post + "X\r\nContent-Length: 0\r\n\r\n" + second,
		"LF alone before a length":      post + "X: a\n" + length + "\r\n" + second,
		"LF alone before a coding":      post + "X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"LF alone behind the first":     "POST /auth/verify HTTP/1.1\r\nHost: x\nContent-Length: 0\r\n\r\n" + second,
		"LF alone, twice, at the end":   post + "X: a\n\n" + second,
		"LF alone at the end":           post + "X: a\r\n\n" + second,
		"LF alone with GET":             "GET /auth/me HTTP/1.1\r\nHost: x\nX: a\r\n\r\n" + second,
		"folded length":                 post + "Content-Length:\r\n 0\r\n\r\n" + second,
		"length folded by a tab":        post + "X: a\r\n\t" + length + "\r\n" + second,
		"folded coding":                 post + "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n" + second,
		"blank in a name":               post + "X Content-Length: 5\r\n\r\n" + second,
		"blank in a name, no other":     post + "Content Length:5\r\n\r\n" + second,
		"blank line with a blank first": "POST /auth/verify HTTP/1.1\r\n Host: x\r\nContent-Length: 0\r\n\r\n" + second,
		"HTTP/0.9":                      "POST /auth/verify\r\n\r\n" + second,
	} {
		c := h.Wire.Open(h)
		_, err := io.WriteString(c, text)
		require.NoError(h, err)
		statuses, closed := c.Statuses(patience)
		assert.LessOrEqual(h, len(statuses), 1, "%s: %v", name, statuses)
		assert.True(h, closed, "%s: the connection stays open: %v", name, statuses)
		for _, status := range statuses {
			assert.Equal(h, 400, status, name)
		}
		assert.True(h, h.Alive(token), "%s: the second request was served", name)
	}
	// These have both a coding and a length, or an unsupported version. They may be served
	// once, as chunked, and then the connection ends.
	for name, text := range map[string]string{
		"length and coding": post + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"coding and length": post + "Transfer-Encoding: chunked\r\n" + length + "\r\n0\r\n\r\n" + second,
		"HTTP/2.0":          "POST /auth/verify HTTP/2.0\r\nHost: x\r\n\r\n" + second,
		"HTTP/1.0":          "POST /auth/verify HTTP/1.0\r\nHost: x\r\n\r\n" + second,
		"Connection: close": post + "Connection: close\r\n\r\n" + second,
	} {
		c := h.Wire.Open(h)
		_, err := io.WriteString(c, text)
		require.NoError(h, err)
		statuses, closed := c.Statuses(patience)
		assert.LessOrEqual(h, len(statuses), 1, name)
		assert.True(h, closed, name)
		assert.True(h, h.Alive(token), name)
	}
}

// LOG-02 over raw bytes: the answer repeats nothing of a malformed request.
func checkMalformed(h *harness) {
	const canary = "CANARY91c2"
	h.Canaries = append(h.Canaries, canary)
	cookie := "Cookie: " + h.CookieName + "=" + canary + "\r\n"
	for name, text := range map[string]string{
		"no request line":  cookie + "\r\n",
		"binary":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + canary + "\r\n\r\n",
		"blanks":           "GET  /" + canary + "  HTTP/1.1\r\nHost: x\r\n" + cookie + "\r\n",
		"bad version":      "GET / HTTP/" + canary + "\r\nHost: x\r\n" + cookie + "\r\n",
		"long method":      strings.Repeat(canary, 20) + " / HTTP/1.1\r\nHost: x\r\n" + cookie + "\r\n",
		"header name":      "GET / HTTP/1.1\r\nHost: x\r\n" + canary + "(x): y\r\n" + cookie + "\r\n",
		"control in value": "GET / HTTP/1.1\r\nHost: x\r\nX: " + canary + "\x01\r\n" + cookie + "\r\n",
		"bad host":         "GET / HTTP/1.1\r\nHost: " + canary + "/x\r\n" + cookie + "\r\n",
		"length":           "POST / HTTP/1.1\r\nHost: x\r\n" + cookie + "Content-Length: " + canary + "\r\n\r\n",
		"coding":           "POST / HTTP/1.1\r\nHost: x\r\n" + cookie + "Transfer-Encoding: " + canary + "\r\n\r\n",
		"chunk":            "POST / HTTP/1.1\r\nHost: x\r\n" + cookie + "Transfer-Encoding: chunked\r\n\r\n" + canary + "\r\n",
		"header too long":  "GET / HTTP/1.1\r\nHost: x\r\n" + cookie + "X: " + strings.Repeat(canary, 1000) + "\r\n\r\n",
		"line too long":    "GET /" + strings.Repeat(canary, 2000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c := h.Wire.Open(h)
		_, err := io.WriteString(c, text)
		require.NoError(h, err)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		answer, _ := io.ReadAll(c.In)
		assert.NotContains(h, string(answer), canary, name)
		assert.NotContains(h, string(answer), "HTTP/1.1 5", name)
	}
}

func checkPipelined(h *harness) {
	token := h.Login(h.User())
	odd := []string{h.Cookie(token), "X:a b:c", "Y:\td e", "Z:", "Te: f g", "Transfer-Encodings: identity"} // none of them says where it ends
	one := request{Method: "GET", Path: "/auth/verify", Head: odd, Body: ""}.Text("x")
	none := request{Method: "GET", Path: "/auth/verify", Head: nil, Body: ""}.Text("x")
	c := h.Wire.Open(h)
	_, err := io.WriteString(c, one+none+one+none+none+one)
	require.NoError(h, err)
	for i, want := range []int{200, 401, 200, 401, 401, 200} {
		resp, err := c.Read("GET")
		require.NoError(h, err)
		assert.Equal(h, want, resp.Status, i)
	}
	// What passes although other servers may read it differently, as DOS-01 says: a request behind it is served.
	const chunked = "POST /auth/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0"
	for name, text := range map[string]string{
		"LF alone behind the request line": strings.Replace(none, "\r\n", "\n", 1),
		"LF alone before the request line": "\n" + none,
		"folded trailer":                   chunked + "\r\nX: a\r\n b\r\n\r\n",
		"LF alone behind a trailer":        chunked + "\r\nX: a\n\r\n",
		"blank in a trailer's name":        chunked + "\r\nX a: b\r\n\r\n",
		"LF alone ends the trailers":       chunked + "\r\nX: a\r\n\n",
		"any chunk extension":              chunked + ";\x00\x01 \xff\r\n\r\n",
	} {
		c := h.Wire.Open(h)
		_, err := io.WriteString(c, text+one)
		require.NoError(h, err)
		for _, want := range []int{401, 200} {
			resp, err := c.Read("GET")
			require.NoError(h, err, name)
			assert.Equal(h, want, resp.Status, name)
		}
	}
}

// DOS-02.
func checkDrips(h *harness) {
	for name, drips := range map[string]struct{ first, then string }{
		"nothing":              {"", ""},
		"request line":         {"", "GET /auth/me?" + strings.Repeat("x", 10_000)},
		"headers":              {"GET /auth/me HTTP/1.1\r\nHost: x\r\n", strings.Repeat("X: y\r\n", 10_000)},
		"body":                 {"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n", strings.Repeat(" ", 9998)},
		"chunks":               {"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\n \r\n", 10_000)},
		"after 100 Continue":   {"POST /auth/login HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n", strings.Repeat(" ", 9998)},
		"on a kept connection": {request{Method: "GET", Path: "/auth/me", Head: nil, Body: ""}.Text("x"), "GET /auth/me?" + strings.Repeat("x", 10_000)},
	} {
		c := h.Wire.Open(h)
		_, err := io.WriteString(c, drips.first)
		require.NoError(h, err)
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range len(drips.then) {
				if _, err := io.WriteString(c, drips.then[i:i+1]); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		_, closed := c.Statuses(patience)
		took := time.Since(start)
		assert.True(h, closed, name)
		assert.Less(h, took, 9*time.Second, "%s: all of the drips take ten seconds at least", name)
		_ = c.Close()
		<-done
	}
}

// checkManyDrips checks that requests are answered while many others are incomplete, and that each of those is answered once it is
// complete.
func checkManyDrips(h *harness) {
	user := h.User()
	token := h.Login(user)
	drips := make([]*httpcontract.Conn, 400)
	for i := range drips {
		drips[i] = h.Wire.Open(h)
		_, err := io.WriteString(drips[i], "GET /auth/me HTTP/1.1\r\nX: ")
		require.NoError(h, err)
	}
	for range 20 {
		require.Equal(h, user, h.Me(token))
	}
	for _, drip := range drips {
		resp, err := drip.RoundTrip("GET", "y\r\nHost: x\r\n\r\n")
		require.NoError(h, err)
		require.Equal(h, 200, resp.Status)
	}
}

func checkIdleConnections(h *harness) {
	c := h.Wire.Open(h)
	start := time.Now() // before the answer, because the server's timer begins with it
	resp, err := c.RoundTrip("GET", request{Method: "GET", Path: "/auth/me", Head: nil, Body: ""}.Text("x"))
	require.NoError(h, err)
	require.False(h, resp.Close)
	statuses, closed := c.Statuses(patience)
	assert.True(h, closed)
	assert.Empty(h, statuses, "nothing is sent on an idle connection")
	assert.GreaterOrEqual(h, time.Since(start), idleTimeout)
}

// DOS-03: the answer comes while most of the request is still to be sent.
func checkLargeNotRead(h *harness) {
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"body":    {"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", 413},
		"chunk":   {"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n", 413},
		"headers": {"GET /auth/me HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 9000), 431},
		"waiting": {"POST /auth/login HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n", 413},
	} {
		conn := h.Wire.Open(h)
		_, err := io.WriteString(conn, c.text)
		require.NoError(h, err)
		resp, err := conn.Read("POST")
		if err == nil && resp.Status == 100 {
			resp, err = conn.Read("POST")
		}
		require.NoError(h, err, name)
		line, _, _ := strings.Cut(c.text, " HTTP/")
		method, path, _ := strings.Cut(line, " ")
		h.checkAnswer(h.Wire, request{Method: method, Path: path}, resp)
		assert.Equal(h, c.status, resp.Status, name)
		assert.True(h, resp.Close, name)
	}
}

func checkConnsPerIP(h *harness) {
	h.Wire.Close()
	var kept []*httpcontract.Conn
	poll := func(want int) { // the server counts a connection when it accepts it, and when it sees it closed
		require.Eventually(h, func() bool {
			c := h.Wire.Open(h)
			resp, err := c.RoundTrip("GET", request{Method: "GET", Path: "/auth/me", Head: nil, Body: ""}.Text("x"))
			if err != nil || resp.Status != want {
				_ = c.Close()
				return false
			}
			kept = append(kept, c)
			return true
		}, patience, time.Millisecond)
	}
	for range 3 {
		poll(200)
	}
	c := h.Wire.Open(h)
	refused, err := c.Read("GET")
	require.NoError(h, err)
	h.checkAnswer(h.Wire, request{}, refused)
	early := h.sendAll(h.Wire, "POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n"+strings.Repeat("x", megabyte),
		"a request that is sent before the refusal is seen")
	assert.Equal(h, answer{Status: 429, Code: "too_many_connections"}, h.Answer(early))
	assert.Equal(h, answer{Status: 429, Code: "too_many_connections"}, h.Answer(refused))
	assert.Equal(h, []string{"1"}, refused.Header["Retry-After"])
	_, closed := c.Statuses(patience)
	assert.True(h, closed, "the fourth is turned away")
	resp, err := kept[0].RoundTrip("GET", request{Method: "GET", Path: "/auth/me", Head: nil, Body: ""}.Text("x"))
	require.NoError(h, err)
	assert.Equal(h, 200, resp.Status, "the others are not disturbed")
	_ = kept[1].Close()
	poll(200)
	admin, err := h.admin.Send(request{Method: "GET", Path: "/healthz"})
	require.NoError(h, err)
	assert.Equal(h, 200, admin.Status, "the admin listener has no such limit")
}

// DOS-07 over TCP: requests of equal length, of two users, on one connection.
func checkOneConnection(h *harness) {
	alice, bob := h.User(), h.User()
	tokens := map[string]string{alice: h.Login(alice, "User-Agent: agent-a"), bob: h.Login(bob, "User-Agent: agent-b")}
	agents := map[string]string{alice: "agent-a", bob: "agent-b"}
	c := h.Wire.Open(h)
	ask := func(path, token string) response {
		resp, err := c.RoundTrip("GET", request{Method: "GET", Path: path, Head: []string{h.Cookie(token), "User-Agent: agent-x"}, Body: ""}.Text("x"))
		require.NoError(h, err)
		return resp
	}
	for i := range 200 {
		user := alice
		if i%3 == 0 {
			user = bob
		}
		require.Equal(h, user, ask("/auth/me", tokens[user]).View(h.T).User())
		require.Equal(h, user, ask("/auth/verify", tokens[user]).Header.Get("Remote-User"))
		require.Equal(h, anonymousView, ask("/auth/me", h.WrongSecret(tokens[user])).Body)
		list := ask("/auth/sessions", tokens[user]).Body
		require.Contains(h, list, agents[user])
		require.NotContains(h, list, "agent-x")
	}
}
