package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// AUT-01, AUT-06: the program throttles, whether the account exists or not and with the same answers, and a live session goes on.
// REV-02: a hash changed by hand ends it.
func TestUsersAreThrottled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "alice", "right")+"bob:!\n"), 0o600))
	p := start(t, "--login=users", "--users-file", file, "--trusted-proxies=127.0.0.1")
	client := 0
	from := func() string {
		client++ // each from an address of its own, so that it is the account which is throttled
		return fmt.Sprintf("203.0.113.%d", client)
	}
	status, text, live := p.ask(t, "POST", "/auth/login", "", `{"user_id":"alice","password":"right"}`, "X-Forwarded-For", from())
	require.Equal(t, http.StatusOK, status, text)

	type answers struct{ refused, throttled string }
	told := make(map[string]answers)
	for _, user := range []string{"alice", "bob", "nobody"} {
		for failures := 0; told[user].throttled == ""; failures++ {
			// The delay after five failures is a second, which a busy machine may need for the sixth. Later delays are longer.
			require.Less(t, failures, 20)
			answer := p.raw(t, `{"user_id":"`+user+`","password":"wrong"}`, from())
			if strings.Contains(answer, "login_throttled") {
				require.GreaterOrEqual(t, failures, 5)
				told[user] = answers{told[user].refused, regexp.MustCompile(`Retry-After: \d+`).ReplaceAllString(answer, "Retry-After: N")}
				break
			}
			require.Contains(t, answer, "login_refused")
			if failures > 0 {
				require.Equal(t, told[user].refused, answer)
			}
			told[user] = answers{refused: answer}
		}
		assert.Equal(t, told["alice"], told[user], "%s: every byte but the date", user)
	}
	assert.Equal(t, "alice", p.whose(t, live))

	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "alice", "another")), 0o600))
	p.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return p.whose(t, live) == "" }, patience, 10*time.Millisecond)
}

// raw returns all bytes of a login's answer, but the date's.
func (p *process) raw(t *testing.T, body, from string) string {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	_, err = fmt.Fprintf(conn, "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"+
		"X-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s", from, len(body), body)
	require.NoError(t, err)
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	dated := regexp.MustCompile(`\r\nDate: [^\r]+`)
	require.Regexp(t, dated, string(all))
	require.NotContains(t, string(all), "Set-Cookie")
	return dated.ReplaceAllString(string(all), "")
}
