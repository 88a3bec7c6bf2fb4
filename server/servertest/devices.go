package servertest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var deviceRules = []rule{
	{name: "need a user", check: checkDevicesAnonymous},
	{name: "list", check: checkList},
	{name: "expires_at is the earlier expiry", check: checkListExpiry},
	{name: "user agents", check: checkListAgents},
	{name: "list shows the caller's live sessions only", check: checkListOwn},
	{name: "public names open nothing", check: checkNamesOpenNothing},
	{name: "revoke one by any of its names", check: checkRevokeOne},
	{name: "revoke the current one", check: checkRevokeCurrent},
	{name: "somebody else's and none are the same", check: checkRevokeOthers404},
	{name: "sign out everywhere else", check: checkRevokeElsewhere},
	{name: "sign out everywhere", check: checkRevokeEverywhere},
	{name: "sign out elsewhere while signed out", check: checkRevokeElsewhereRace},
}

// device is one element of the list.
type device struct {
	Handle     string
	SessionID  string `json:"session_id"`
	Current    *bool
	CreatedAt  string `json:"created_at"`
	LastSeenAt string `json:"last_seen_at"`
	ExpiresAt  string `json:"expires_at"`
	IP         string
	UserAgent  string `json:"user_agent"`
}

func decode(t testing.TB, body string, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(body), v), body)
}

func (h *harness) devices(token string) []device {
	h.Helper()
	resp := h.get("/auth/sessions", h.cookie(token))
	require.Equal(h, answer{status: 200}, h.answer(resp))
	var list struct{ Sessions []device }
	decode(h.T, resp.body, &list)
	return list.Sessions
}

func checkDevicesAnonymous(h *harness) {
	live := h.login(h.user())
	for _, c := range []struct{ name, line, cookie string }{
		{"none", "X-None: 1", ""},
		{"unknown", h.cookie(madeUp()), "cleared"},
		{"malformed", h.cookie("x"), "cleared"},
		{"wrong secret", h.cookie(wrongSecret(h, live)), ""},
	} {
		want := answer{401, "unauthenticated", c.cookie}
		assert.Equal(h, want, h.answer(h.get("/auth/sessions", c.line)), c.name)
		assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions", c.line)), c.name)
		assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions?current=true", c.line)), c.name)
		assert.Equal(h, want, h.answer(h.do("DELETE", "/auth/sessions/"+handleOf(h, live), c.line)), c.name)
	}
	assert.NotEmpty(h, h.me(live))
}

var memberNames = regexp.MustCompile(`"([a-z_]+)":`)

func checkList(h *harness) {
	user := h.user()
	first := h.login(user, "User-Agent: first/1.0")
	firstAt := h.clock.rfc3339(0)
	h.clock.step(90*time.Second + 120*time.Millisecond)
	second := h.login(user, "User-Agent: second/2.0")
	h.clock.step(renewEvery)

	resp := h.get("/auth/sessions", h.cookie(first))
	assert.Equal(h, "application/json", resp.header.Get("Content-Type"))
	require.True(h, strings.HasPrefix(resp.body, `{"sessions":[{`), resp.body)
	var names []string
	for _, m := range memberNames.FindAllStringSubmatch(resp.body, -1) {
		names = append(names, m[1])
	}
	order := []string{"handle", "session_id", "current", "created_at", "last_seen_at", "expires_at", "ip", "user_agent"}
	assert.Equal(h, append(append([]string{"sessions"}, order...), order...), names)

	list := h.devices(first)
	require.Len(h, list, 2)
	no, yes := false, true
	assert.Equal(h, []device{
		{
			Handle: handleOf(h, second), SessionID: idOf(h, second), Current: &no,
			CreatedAt: h.clock.rfc3339(-renewEvery), LastSeenAt: h.clock.rfc3339(-renewEvery), ExpiresAt: h.clock.rfc3339(ttl - renewEvery),
			IP: "127.0.0.1", UserAgent: "second/2.0",
		},
		{
			Handle: handleOf(h, first), SessionID: idOf(h, first), Current: &yes,
			CreatedAt: firstAt, LastSeenAt: h.clock.rfc3339(0), ExpiresAt: h.clock.rfc3339(ttl),
			IP: "127.0.0.1", UserAgent: "first/1.0",
		},
	}, list)
	for _, d := range list {
		for _, at := range []string{d.CreatedAt, d.LastSeenAt, d.ExpiresAt} {
			assert.Regexp(h, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`, at)
		}
	}

	next := h.refresh(second)
	list = h.devices(next)
	assert.Equal(h, handleOf(h, second), list[0].Handle, "a rotation leaves the handle")
	assert.Equal(h, idOf(h, next), list[0].SessionID)
	assert.True(h, *list[0].Current)
	assert.False(h, *list[1].Current)
}

func checkListExpiry(h *harness) {
	token := h.login(h.user())
	end := h.clock.rfc3339(maxLifetime)
	for left := maxLifetime; left > ttl; left -= ttl / 2 {
		assert.Equal(h, h.clock.rfc3339(ttl), h.devices(token)[0].ExpiresAt)
		h.clock.step(ttl / 2)
	}
	h.clock.step(ttl / 4)
	assert.Equal(h, end, h.devices(token)[0].ExpiresAt)
}

func checkListAgents(h *harness) {
	user := h.user()
	watcher := h.login(user)
	for name, c := range map[string]struct{ sent, shown string }{
		"none":          {"", ""},
		"short":         {"curl/8.0", "curl/8.0"},
		"quotes":        {`a"b\c<script>`, `a"b\c<script>`},
		"256 bytes":     {strings.Repeat("x", 256), strings.Repeat("x", 256)},
		"257 bytes":     {strings.Repeat("x", 257), strings.Repeat("x", 256)},
		"4 KiB":         {strings.Repeat("y", 4096), strings.Repeat("y", 256)},
		"utf-8":         {"Jürgen 🧥", "Jürgen 🧥"},
		"invalid utf-8": {"a\xffb", "a\ufffdb"},
	} {
		head := []string{"X-None: 1"}
		if c.sent != "" {
			head[0] = "User-Agent: " + c.sent
		}
		token := h.login(user, head...)
		found := false
		for _, d := range h.devices(watcher) {
			if d.Handle == handleOf(h, token) {
				assert.Equal(h, c.shown, d.UserAgent, name)
				found = true
			}
		}
		assert.True(h, found, name)
	}
}

func checkListOwn(h *harness) {
	alice, bob := h.user(), h.user()
	a1, a2, a3 := h.login(alice), h.login(alice), h.login(alice)
	h.login(bob)
	assert.Len(h, h.devices(a1), 3)
	h.post("/auth/logout", h.cookie(a2))
	assert.Len(h, h.devices(a1), 2, "an ended one is gone")
	h.clock.step(ttl - time.Second)
	require.Equal(h, alice, h.me(a1))
	h.clock.step(time.Second)
	list := h.devices(a1)
	require.Len(h, list, 1, "an expired one is gone")
	assert.Equal(h, handleOf(h, a1), list[0].Handle)
	assert.Equal(h, "", h.me(a3))
	assert.Len(h, h.devices(h.login(bob)), 1)
}

// REV-03, SES-06: what a list shows is no ticket, in the cookie or anywhere else.
func checkNamesOpenNothing(h *harness) {
	token := h.login(h.user())
	token = h.refresh(token)
	d := h.devices(token)[0]
	raw := rawToken(h, token)
	key := base64.RawURLEncoding.EncodeToString(raw[:16])
	assert.NotContains(h, h.get("/auth/sessions", h.cookie(token)).body, key, "the Key is not shown")
	for _, value := range []string{
		d.SessionID, d.Handle, d.SessionID + d.SessionID, d.Handle + d.SessionID, (d.SessionID + d.SessionID)[:43], (d.Handle + d.SessionID)[:43], key, key + d.SessionID[:21],
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], must(base64.RawURLEncoding.DecodeString(d.SessionID))...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], must(base64.RawURLEncoding.DecodeString(d.Handle))...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], raw[:16]...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], make([]byte, 16)...)),
	} {
		assert.Equal(h, "", h.me(value), value)
		assert.Equal(h, 401, h.get("/auth/verify", h.cookie(value)).status, value)
	}
	assert.NotEmpty(h, h.me(token))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func checkRevokeOne(h *harness) {
	user := h.user()
	caller := h.login(user)
	for name, nameOf := range map[string]func(old, token string) string{
		"handle":      func(_, token string) string { return handleOf(h, token) },
		"current ID":  func(_, token string) string { return idOf(h, token) },
		"previous ID": func(old, _ string) string { return idOf(h, old) },
	} {
		old := h.login(user)
		token := h.refresh(old)
		id := nameOf(old, token)
		assert.Equal(h, answer{status: 204}, h.answer(h.do("DELETE", "/auth/sessions/"+id, h.cookie(caller))), name)
		assert.Equal(h, "", h.me(token), name)
		assert.Equal(h, "", h.me(old), name)
		assert.Equal(h, answer{status: 404, code: "session_not_found"}, h.answer(h.do("DELETE", "/auth/sessions/"+id, h.cookie(caller))), name)
	}
	assert.Len(h, h.devices(caller), 1)
	assert.Len(h, h.events("revoke"), 3)
}

func checkRevokeCurrent(h *harness) {
	user := h.user()
	bystander := h.login(user)
	for name, nameOf := range map[string]func(old, token string) string{
		"handle":      func(_, token string) string { return handleOf(h, token) },
		"current ID":  func(_, token string) string { return idOf(h, token) },
		"previous ID": func(old, _ string) string { return idOf(h, old) },
	} {
		old := h.login(user)
		token := h.refresh(old)
		resp := h.do("DELETE", "/auth/sessions/"+nameOf(old, token), h.cookie(token))
		assert.Equal(h, answer{204, "", "cleared"}, h.answer(resp), name)
		assert.Empty(h, resp.body)
		assert.Equal(h, "", h.me(token), name)
	}
	assert.Equal(h, user, h.me(bystander))
}

func checkRevokeOthers404(h *harness) {
	caller, stranger := h.login(h.user()), h.login(h.user())
	token := h.login(h.user())
	bodies := make(map[string]bool)
	for name, id := range map[string]string{
		"somebody else's handle": handleOf(h, stranger), "somebody else's ID": idOf(h, stranger), "another's": handleOf(h, token),
		"no such": base64.RawURLEncoding.EncodeToString(make([]byte, 16)), "unknown": madeUp()[:21] + "A", "short": "abc", "a token": stranger,
		"own token": caller, "own key": caller[:21] + "A", "percent": "%00", "non-canonical": nonCanonical(handleOf(h, caller)), "padded": handleOf(h, caller) + "==",
		"dots": "..", "a star": "*", "long": strings.Repeat("a", 4000), "other alphabet": strings.Repeat("+", 22),
	} {
		resp := h.do("DELETE", "/auth/sessions/"+id, h.cookie(caller))
		assert.Equal(h, answer{status: 404, code: "session_not_found"}, h.answer(resp), name)
		bodies[fmt.Sprint(resp.status, resp.body)] = true
	}
	assert.Len(h, bodies, 1, "one answer for all")
	assert.NotEmpty(h, h.me(stranger))
	assert.NotEmpty(h, h.me(token))
	assert.NotEmpty(h, h.me(caller))
}

func checkRevokeElsewhere(h *harness) {
	user := h.user()
	tokens := []string{h.login(user), h.login(user), h.login(user), h.login(user)}
	stranger := h.login(h.user())
	caller := tokens[2]
	resp := h.do("DELETE", "/auth/sessions", h.cookie(caller))
	assert.Equal(h, answer{status: 200}, h.answer(resp))
	assert.Equal(h, `{"revoked":3}`, resp.body)
	for i, token := range tokens {
		if i != 2 {
			assert.Equal(h, "", h.me(token))
		}
	}
	assert.Equal(h, user, h.me(caller))
	assert.NotEmpty(h, h.me(stranger))
	assert.Equal(h, `{"revoked":0}`, h.do("DELETE", "/auth/sessions?current=false", h.cookie(caller)).body)
	for _, query := range []string{"current=1", "current=TRUE", "current=yes", "current=true%00"} {
		assert.Equal(h, answer{status: 400, code: "malformed_query"}, h.answer(h.do("DELETE", "/auth/sessions?"+query, h.cookie(caller))), query)
	}
	assert.Equal(h, user, h.me(caller))
	next := h.login(user, h.cookie(caller))
	assert.Equal(h, user, h.me(next), "a later login goes through")
}

func checkRevokeEverywhere(h *harness) {
	user := h.user()
	caller, other, stranger := h.login(user), h.login(user), h.login(h.user())
	resp := h.do("DELETE", "/auth/sessions?current=true", h.cookie(caller))
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(resp))
	assert.Equal(h, `{"revoked":2}`, resp.body)
	assert.Equal(h, "", h.me(caller))
	assert.Equal(h, "", h.me(other))
	assert.NotEmpty(h, h.me(stranger))
}

func checkRevokeElsewhereRace(h *harness) {
	user := h.user()
	caller, other := h.login(user), h.login(user)
	h.store.once(opEndUser, func() { h.post("/auth/logout", h.cookie(caller)) })
	resp := h.do("DELETE", "/auth/sessions", h.cookie(caller))
	assert.Equal(h, answer{status: 401, code: "unauthenticated"}, h.answer(resp))
	assert.Equal(h, user, h.me(other), "a session that has ended ends no others")
}

// nonCanonical spells the same 16 bytes with trailing bits that are not zero.
func nonCanonical(id string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, id[len(id)-1])
	return id[:len(id)-1] + string(alphabet[last|1])
}
