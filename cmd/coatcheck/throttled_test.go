package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	login := func(user, password string) (status int, text, cookie string) {
		client++ // each from an address of its own, so that it is the account which is throttled
		return p.ask(t, "POST", "/auth/login", "", fmt.Sprintf(`{"user_id":%q,"password":%q}`, user, password),
			"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", client))
	}
	status, text, live := login("alice", "right")
	require.Equal(t, http.StatusOK, status, text)

	answers := make(map[string][]string)
	for _, user := range []string{"alice", "bob", "nobody"} {
		for range 6 {
			status, text, cookie := login(user, "wrong")
			assert.Empty(t, cookie)
			answers[user] = append(answers[user], fmt.Sprint(status, text))
		}
		assert.Contains(t, answers[user][4], "login_refused", "the fifth failure")
		assert.Contains(t, answers[user][5], "login_throttled", "and what follows it at once")
		assert.Equal(t, answers["alice"], answers[user], user)
	}
	assert.Equal(t, "alice", p.whose(t, live))

	require.NoError(t, os.WriteFile(file, []byte(hashPassword(t, "alice", "another")), 0o600))
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "re-read keys")
	assert.Empty(t, p.whose(t, live))
}
