package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// DOS-07 on the standalone server: every byte that a request stood in is overwritten when its handler is done, by the next
// request of the same length as on a connection, and by hand. What was stored and logged stays.
func TestNothingOutlivesItsRequest(t *testing.T) {
	var logged bytes.Buffer
	cfg := server.Config{Logger: slog.New(slog.NewJSONHandler(&logged, nil)), Policy: coatcheck.Policy{Now: frozen()}}
	c := newClient(t, newStore(t), cfg)
	answer := func(text string) string {
		require.True(t, c.parse(text))
		resp := c.handle()
		overwrite(c)
		return string(resp.Body()) + "\n" + cookieValue(resp)
	}
	const users = 50
	tokens := make([]string, users)
	for i := range tokens {
		n := itoa(100 + i)
		text := requestText("POST", "/auth/login", `{"user_id":"user-`+n+`"}`, "User-Agent: agent-"+n, "Content-Type: application/json")
		body, token, _ := strings.Cut(answer(text), "\n")
		require.Contains(t, body, `"user-`+n+`"`)
		tokens[i] = token
		answer(requestText("POST", "/auth/refresh", "", cookieLine(madeUp()), "Origin: https://evil-"+n+".example"))
	}
	for i, token := range tokens {
		n := itoa(100 + i)
		list := answer(requestText("GET", "/auth/sessions", "", cookieLine(token), "User-Agent: agent-x"))
		assert.Contains(t, list, `"user_agent":"agent-`+n+`"`)
		assert.Contains(t, answer(requestText("GET", "/auth/me", "", cookieLine(token))), `"user_id":"user-`+n+`"`)
	}
	lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
	require.Len(t, lines, 2*users)
	for i := range users {
		var login, refused struct{ User, Origin, Event string }
		require.NoError(t, json.Unmarshal([]byte(lines[2*i]), &login))
		require.NoError(t, json.Unmarshal([]byte(lines[2*i+1]), &refused))
		assert.Equal(t, "user-"+itoa(100+i), login.User)
		assert.Equal(t, "https://evil-"+itoa(100+i)+".example", refused.Origin)
	}
}

func overwrite(c *client) {
	fill := func(b []byte) { copy(b, bytes.Repeat([]byte("P"), len(b))) }
	fill(c.ctx.Request.Header.RawHeaders())
	fill(c.ctx.Request.Body())
	fill(c.ctx.Request.URI().PathOriginal())
	fill(c.ctx.Request.Header.UserAgent())
	for _, value := range c.ctx.Request.Header.All() {
		fill(value)
	}
}
