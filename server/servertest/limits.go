package servertest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sendAll sends the whole text before it reads, as many clients do, and returns the answer. The connection must end, and not by a
// reset: the client might lose the answer to one.
func (h *harness) sendAll(w *wire, text, name string) response {
	h.Helper()
	c := w.Open(h)
	_, err := io.WriteString(c, text)
	require.NoError(h, err, "%s: the connection ends while the client is sending", name)
	resp, err := c.Read("POST")
	require.NoError(h, err, name)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(c.In)
	require.NoError(h, err, name)
	assert.Empty(h, string(rest), name)
	return resp
}

const megabyte = 1 << 20

// DOS-15: a request that is refused before it has arrived.
func checkEarlyAnswers(h *harness) {
	body := strings.Repeat("x", megabyte)
	for _, route := range append(slices.Concat(allRoutes, staticRoutes), "POST /auth/verify", "GET /nowhere") {
		text := route + " HTTP/1.1\r\nHost: x\r\n"
		h.checkEarly(h.Wire, route, text+"Content-Length: 1048576\r\n\r\n"+body, answer{Status: 413, Code: "body_too_large"})
	}
	for name, c := range map[string]struct {
		text string
		want answer
	}{
		"chunks":            {"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + body + "\r\n0\r\n\r\n", answer{Status: 413, Code: "body_too_large"}},
		"a header":          {"GET /auth/me HTTP/1.1\r\nHost: x\r\nX: " + body + "\r\n\r\n", answer{Status: 431, Code: "header_too_large"}},
		"many headers":      {"GET /auth/me HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", megabyte/4) + "\r\n", answer{Status: 431, Code: "header_too_large"}},
		"a target":          {"GET /" + body + " HTTP/1.1\r\nHost: x\r\n\r\n", answer{Status: 431, Code: "header_too_large"}},
		"no HTTP":           {"\x00\r\n" + body, answer{Status: 400, Code: "bad_request"}},
		"a bad length":      {"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n" + body, answer{Status: 400, Code: "bad_request"}},
		"a bad chunk":       {"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n" + body, answer{Status: 400, Code: "bad_request"}},
		"a chunk extension": {"POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + body + "\r\nx\r\n0\r\n\r\n", answer{Status: 400, Code: "bad_request"}},
		"one of verify":     {"GET /auth/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;" + body + "\r\n\r\n", answer{Status: 400, Code: "bad_request"}},
		"many trailers": {"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a:\r\n",
			megabyte/4) + "\r\n", answer{Status: 431, Code: "header_too_large"}},
	} {
		h.checkEarly(h.Wire, name, c.text, c.want)
	}
	h.checkEarly(h.admin, "admin listener", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"+body, answer{Status: 413, Code: "body_too_large"})
}

func (h *harness) checkEarly(w *wire, name, text string, want answer) {
	h.Helper()
	resp := h.sendAll(w, text, name)
	assert.Equal(h, want, h.Answer(resp), name)
	assert.True(h, resp.Close, name)
}

// FWD-14: the answer of verify does not depend on the body, so the server does not wait for the body.
func checkVerifyBody(h *harness) {
	token := h.Login(h.User())
	for _, method := range []string{"GET", "POST", "PUT", "PROPFIND"} {
		for _, target := range []string{"/auth/verify", "/auth/verify?", "http://x/auth/verify"} {
			for name, head := range map[string]string{"": "", "expecting": "Expect: 100-continue\r\n"} {
				for cookie, status := range map[string]int{"": 401, h.Cookie(token) + "\r\n": 200} {
					c := h.Wire.Open(h)
					_, err := io.WriteString(c, method+" "+target+" HTTP/1.1\r\nHost: x\r\n"+cookie+head+"Content-Length: 1000\r\n\r\n")
					require.NoError(h, err)
					resp, err := c.Read(method)
					require.NoError(h, err)
					assert.Equal(h, status, resp.Status, "%s %s %s", method, target, name)
					assert.True(h, resp.Close, "what follows could be the body or another request")
				}
			}
		}
	}
	resp := h.sendAll(h.Wire, "POST /auth/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 16384\r\n\r\n"+strings.Repeat("x", 16<<10), "with its body")
	assert.Equal(h, 401, resp.Status)
}

// DOS-14: 128 lines are read, and one more is refused, wherever the block stands and whether it is complete or not.
func checkHeaderLines(h *harness) {
	lines := func(n int) string { return "Host: localhost\r\n" + strings.Repeat("a:\r\n", n-1) }
	tooMany := answer{Status: 431, Code: "header_too_large"}
	for name, w := range map[string]*wire{"/auth/me": h.Wire, "/healthz": h.admin} {
		line := "GET " + name + " HTTP/1.1\r\n"
		c := w.Open(h)
		for range 2 {
			resp, err := c.RoundTrip("GET", line+lines(128)+"\r\n")
			require.NoError(h, err)
			assert.Equal(h, 200, resp.Status, name)
		}
		assert.Equal(h, tooMany, h.Answer(h.sendAll(w, line+lines(129)+"\r\n", name)), name)
		assert.Equal(h, tooMany, h.Answer(h.sendAll(w, line+lines(130), name)), "%s: the server does not wait for the end of the block", name)
		for _, end := range []string{"\r\n", ""} {
			c = w.Open(h)
			_, err := io.WriteString(c, line+lines(2)+"\r\n"+line+lines(130)+end)
			require.NoError(h, err)
			statuses, closed := c.Statuses(patience)
			assert.Equal(h, []int{200, 431}, statuses, "%s: pipelined", name)
			assert.True(h, closed)
		}
	}
	resp := h.sendAll(h.Wire, "POST /auth/login HTTP/1.1\r\n"+lines(128)+"Content-Length: 9\r\n\r\n", "the body is not waited for")
	assert.Equal(h, tooMany, h.Answer(resp))
}

// DOS-03: the largest body may come in chunks as small as they can be, with extensions, more than once over a connection.
func checkChunks(h *harness) {
	c := h.Wire.Open(h)
	for range 4 {
		resp, err := c.RoundTrip("POST", "POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+
			strings.Repeat("1;a=b\r\nx\r\n", 16<<10)+"0\r\n\r\n")
		require.NoError(h, err)
		assert.Equal(h, 204, resp.Status)
		assert.False(h, resp.Close)
	}
}

// DOS-14: trailers are read, have the bounds of headers, and mean nothing.
func checkTrailers(h *harness) {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n"
	tooMany := answer{Status: 431, Code: "header_too_large"}
	for name, trailers := range map[string]string{
		"cross-site": "Sec-Fetch-Site: cross-site\r\n", "origin": "Origin: https://evil.example\r\n", "most": strings.Repeat("a:\r\n", 128),
		"long": "a: " + strings.Repeat("x", 8000) + "\r\n",
	} {
		c := h.Wire.Open(h)
		for range 2 {
			resp, err := c.RoundTrip("POST", "POST /auth/logout HTTP/1.1\r\nHost: x\r\nTrailer: Sec-Fetch-Site\r\n"+chunked+trailers+"\r\n")
			require.NoError(h, err, name)
			assert.Equal(h, 204, resp.Status, name)
			assert.False(h, resp.Close, name)
		}
	}
	for name, trailers := range map[string]string{
		"one more": strings.Repeat("a:\r\n", 129) + "\r\n", "different": "b:\r\n" + strings.Repeat("a:\r\n", 128) + "\r\n",
		"no end": strings.Repeat("a:\r\n", 129), "too long": "a: " + strings.Repeat("x", 9000) + "\r\n\r\n",
	} {
		resp := h.sendAll(h.Wire, "POST /auth/logout HTTP/1.1\r\nHost: x\r\n"+chunked+trailers, name)
		assert.Equal(h, tooMany, h.Answer(resp), name)
	}
	names := "a"
	for i := range 128 {
		names += fmt.Sprintf(",a%d", i)
	}
	resp := h.sendAll(h.Wire, "POST /auth/logout HTTP/1.1\r\nHost: x\r\nTrailer: "+names+"\r\nTransfer-Encoding: chunked\r\n\r\n", "too many names")
	assert.Equal(h, tooMany, h.Answer(resp), "and the body is not waited for")
	kept := h.Login(h.User())
	resp = h.sendAll(h.Wire, "POST /auth/logout HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+h.Cookie(kept)+"\r\n"+chunked+"a: b\r\n\r\n", "the headers count")
	assert.Equal(h, answer{Status: 204, Cookie: "cleared"}, h.Answer(resp))
	assert.False(h, h.Alive(kept))
}
