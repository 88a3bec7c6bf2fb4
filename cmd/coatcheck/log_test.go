package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testserver"
)

// exchange sends bytes on a connection of its own and returns what comes back.
func (p *process) exchange(t *testing.T, request string) string {
	t.Helper()
	conn := p.dial(t)
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET, "a refused request may be answered before it was read")
	}
	return string(answer)
}

// Whatever a client sends, the log gets valid JSON, one short line a record, in UTC, without a secret; and the answer to
// what is no request holds nothing of it.
func TestTheLogIsCleanWhateverComes(t *testing.T) {
	t.Parallel()
	const canary = "s3cret-canary"
	p := start(t, "--log-format=json", "--log-level=debug")
	login := func(user, more string) string {
		body := `{"user_id":` + user + `,"password":"` + canary + `"}`
		return p.exchange(t, fmt.Sprintf("POST /auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", canary, more, len(body), body))
	}
	answer := login(`"user-42"`, "")
	token := regexp.MustCompile(`Set-Cookie: coatcheck=([A-Za-z0-9_-]{43});`).FindStringSubmatch(answer)
	require.Len(t, token, 2, answer)
	cookie := "Cookie: coatcheck=" + token[1] + "; other=" + canary + "\r\n"

	for _, user := range []string{`"<\"'&>"`, `"\u2028\u2029\ufeff"`, `"\\u001b[31m"`, `"` + strings.Repeat("ü", 128) + `"`, `"a\u0000b"`, "\"\xff\xfe\""} {
		login(user, cookie)
	}
	for _, agent := range []string{"\x1b[31mred", "\xff\xfe", `"quotes" and \`, strings.Repeat("x", 7000), "tab\there"} {
		login(`"user-42"`, cookie+"User-Agent: "+agent+"\r\n")
	}
	for _, target := range []string{"/%0d%0aSet-Cookie:x", "/\x1b[31m", "/\xff", "/" + strings.Repeat("y", 7000), "/auth/me?" + canary} {
		p.exchange(t, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+cookie+"\r\n")
	}
	for _, garbage := range []string{
		"GARBAGE\r\n" + cookie + "\r\n",
		"GET /auth/me HTTP/1.1\r\n" + cookie + "no colon here\r\n\r\n",
		"POST /auth/login HTTP/1.1\r\nHost: localhost\r\n" + cookie + "Content-Length: -1\r\n\r\n",
		"POST /auth/login HTTP/1.1\r\nHost: localhost\r\n" + cookie + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST /auth/login HTTP/1.1\r\nHost: localhost\r\n" + cookie + "Transfer-Encoding: xchunked\r\n\r\n",
		"GET /auth/me HTTP/1.1\r\nHost: localhost\r\n" + cookie + "X: " + strings.Repeat("z", 9000) + "\r\n\r\n",
	} {
		answer := p.exchange(t, garbage)
		assert.Regexp(t, `^HTTP/1.1 4\d\d `, answer)
		assert.NotContains(t, answer, canary)
		assert.NotContains(t, answer, token[1])
	}
	logout, err := http.ReadResponse(bufio.NewReader(strings.NewReader(p.exchange(t,
		"POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+cookie+"\r\n"))), nil)
	require.NoError(t, err)
	require.NoError(t, logout.Body.Close())
	assert.Equal(t, http.StatusNoContent, logout.StatusCode)
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))

	all := p.stdout.String() + p.stderr.String()
	assert.NotContains(t, all, canary)
	assert.NotContains(t, all, token[1])
	lines := p.stderr.Lines()
	assert.Greater(t, len(lines), 10)
	for _, line := range lines {
		assert.Less(t, len(line), 2048)
		var record struct {
			Time time.Time
			Msg  string
		}
		if assert.NoError(t, json.Unmarshal([]byte(line), &record), line) {
			assert.NotEmpty(t, record.Msg)
			assert.Equal(t, time.UTC, record.Time.Location())
		}
	}
}

// LOG-01: a back end that sends the password, and its own URL, back where a client's errors may quote it, and bytes that
// nobody asked for behind its answer.
func TestHostileWebhookIsNotQuoted(t *testing.T) {
	t.Parallel()
	const canary, okay = "s3cret-canary", "HTTP/1.1 200 OK\r\n"
	answers := []string{
		okay + "Content-Length: 17\r\n\r\n" + `{"user_id":"ann"}` + canary + "\r\n",
		okay + canary + "\r\n\r\n", okay + "Content-Length: " + canary + "\r\n\r\n", okay + "Transfer-Encoding: " + canary + "\r\n\r\n",
		"HTTP/1.1 " + canary + "\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: https://" + canary + "\r\nContent-Length: 0\r\n\r\n",
		okay + "Content-Length: 20\r\n\r\n" + `{"user_id":"` + canary, okay + "Transfer-Encoding: chunked\r\n\r\n" + canary + "\r\n", "",
		okay + "Content-Length: 15\r\n\r\n{" + canary + "}",
	}
	next := make(chan string, len(answers))
	address := testserver.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if req, err := http.ReadRequest(in); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, <-next)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // what was sent arrives before the end
		}
		_, _ = io.Copy(io.Discard, in)
	})
	p := start(t, "--log-format=json", "--log-level=debug", "--login=webhook",
		"--webhook-url=http://user:"+canary+"@"+address+"/"+canary+"?key="+canary)
	for i, answer := range answers {
		next <- answer
		body := fmt.Sprintf(`{"user_id":"user-%d","password":"%s"}`, i, canary)
		p.exchange(t, fmt.Sprintf("POST /auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	all := p.stdout.String() + p.stderr.String()
	assert.NotContains(t, all, canary)
	assert.Contains(t, all, `"event":"login"`)
	assert.Equal(t, len(answers)-1, strings.Count(all, `"event":"login_failed"`), all)
	assert.Contains(t, all, "the back end gave an answer that is not understood")
}
