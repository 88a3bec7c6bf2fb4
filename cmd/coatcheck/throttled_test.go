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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// AUT-01, AUT-06: the program throttles, whether the account exists or not and with the same answers, and a live session goes on.
// REV-02: a hash changed by hand ends it.
func TestUsersAreThrottled(t *testing.T) {
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

	answers := make(map[string][]string)
	for _, user := range []string{"alice", "bob", "nobody"} {
		for range 6 {
			answers[user] = append(answers[user], p.raw(t, `{"user_id":"`+user+`","password":"wrong"}`, from()))
		}
		assert.Contains(t, answers[user][4], "login_refused", "the fifth failure")
		assert.Contains(t, answers[user][5], "login_throttled", "and what follows it at once")
		assert.Equal(t, answers["alice"], answers[user], "%s: every byte but the date", user)
	}
	assert.Equal(t, "alice", p.whose(t, live))

	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "alice", "another")), 0o600))
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "re-read keys")
	assert.Empty(t, p.whose(t, live))
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
