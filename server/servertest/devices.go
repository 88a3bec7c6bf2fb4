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

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var deviceRules = []rule{
	{name: "need a user", check: checkDevicesAnonymous},
	{name: "list", check: checkList},
	{name: "expires_at is the earlier expiry", check: checkListExpiry},
	{name: "user agents", check: checkListAgents},
	{name: "where a session began and was last seen", config: behindProxies, check: checkListAddresses},
	{name: "list shows the caller's live sessions only", check: checkListOwn},
	{name: "public names open nothing", check: checkNamesOpenNothing},
	{name: "revoke one by any of its names", check: checkRevokeOne},
	{name: "revoke the current one", check: checkRevokeCurrent},
	{name: "somebody else's and none are the same", check: checkRevokeOthers404},
	{name: "sign out everywhere else", check: checkRevokeElsewhere},
	{name: "signing out elsewhere keeps nobody out", config: scripted, check: checkRevokeOthersInALoop},
	{name: "ending single sessions has a limit", check: checkRevokeOneLimit},
	{name: "sign out everywhere", check: checkRevokeEverywhere},
	{name: "sign out elsewhere while signed out", check: checkRevokeElsewhereRace},
}

// device is one element of the list.
type device struct {
	Handle     string
	SessionID  string `json:"session_id"`
	Current    *bool
	Bound      bool
	CreatedAt  string `json:"created_at"`
	CreatedIP  string `json:"created_ip"`
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
	resp := h.Get("/auth/sessions", h.Cookie(token))
	require.Equal(h, answer{Status: 200}, h.Answer(resp))
	var list struct{ Sessions []device }
	decode(h.T, resp.Body, &list)
	return list.Sessions
}

func checkDevicesAnonymous(h *harness) {
	live := h.Login(h.User())
	for _, c := range []struct{ name, line, cookie string }{
		{"none", "X-None: 1", ""},
		{"unknown", h.Cookie(madeUp()), "cleared"},
		{"malformed", h.Cookie("x"), "cleared"},
		{"wrong secret", h.Cookie(h.WrongSecret(live)), ""},
	} {
		want := answer{Status: 401, Code: "unauthenticated", Cookie: c.cookie}
		assert.Equal(h, want, h.Answer(h.Get("/auth/sessions", c.line)), c.name)
		assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions", c.line)), c.name)
		assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions?current=true", c.line)), c.name)
		assert.Equal(h, want, h.Answer(h.Do("DELETE", "/auth/sessions/"+h.HandleOf(live), c.line)), c.name)
	}
	assert.NotEmpty(h, h.Me(live))
}

var memberNames = regexp.MustCompile(`"([a-z_]+)":`)

func checkList(h *harness) {
	user := h.User()
	first := h.Login(user, "User-Agent: first/1.0")
	firstAt := h.Clock.RFC3339(0)
	h.Clock.Step(90*time.Second + 120*time.Millisecond)
	second := h.Login(user, "User-Agent: second/2.0")
	h.Clock.Step(renewEvery)

	resp := h.Get("/auth/sessions", h.Cookie(first))
	assert.Equal(h, "application/json", resp.Header.Get("Content-Type"))
	require.True(h, strings.HasPrefix(resp.Body, `{"sessions":[{`), resp.Body)
	var names []string
	for _, m := range memberNames.FindAllStringSubmatch(resp.Body, -1) {
		names = append(names, m[1])
	}
	order := []string{"handle", "session_id", "current", "bound", "created_at", "created_ip", "last_seen_at", "expires_at", "ip", "user_agent"}
	assert.Equal(h, append(append([]string{"sessions"}, order...), order...), names)

	list := h.devices(first)
	require.Len(h, list, 2)
	no, yes := false, true
	assert.Equal(h, []device{
		{
			Handle: h.HandleOf(second), SessionID: h.IDOf(second), Current: &no,
			CreatedAt: h.Clock.RFC3339(-renewEvery), LastSeenAt: h.Clock.RFC3339(-renewEvery), ExpiresAt: h.Clock.RFC3339(ttl - renewEvery),
			CreatedIP: "127.0.0.1", IP: "127.0.0.1", UserAgent: "second/2.0",
		},
		{
			Handle: h.HandleOf(first), SessionID: h.IDOf(first), Current: &yes,
			CreatedAt: firstAt, LastSeenAt: h.Clock.RFC3339(0), ExpiresAt: h.Clock.RFC3339(ttl),
			CreatedIP: "127.0.0.1", IP: "127.0.0.1", UserAgent: "first/1.0",
		},
	}, list)
	for _, d := range list {
		for _, at := range []string{d.CreatedAt, d.LastSeenAt, d.ExpiresAt} {
			assert.Regexp(h, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, at)
		}
	}

	next := h.Refresh(second)
	list = h.devices(next)
	assert.Equal(h, h.HandleOf(second), list[0].Handle, "a rotation leaves the handle")
	assert.Equal(h, h.IDOf(next), list[0].SessionID)
	assert.True(h, *list[0].Current)
	assert.False(h, *list[1].Current)
}

func checkListExpiry(h *harness) {
	token := h.Login(h.User())
	end := h.Clock.RFC3339(maxLifetime)
	for left := maxLifetime; left > ttl; left -= ttl / 2 {
		assert.Equal(h, h.Clock.RFC3339(ttl), h.devices(token)[0].ExpiresAt)
		h.Clock.Step(ttl / 2)
	}
	h.Clock.Step(ttl / 4)
	assert.Equal(h, end, h.devices(token)[0].ExpiresAt)
}

func checkListAgents(h *harness) {
	user := h.User()
	watcher := h.Login(user)
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
		token := h.Login(user, head...)
		found := false
		for _, d := range h.devices(watcher) {
			if d.Handle == h.HandleOf(token) {
				assert.Equal(h, c.shown, d.UserAgent, name)
				found = true
			}
		}
		assert.True(h, found, name)
	}
}

// CASES B17: a thief who goes on with a session shows under the thief's own address.
func checkListAddresses(h *harness) {
	const home, away = "203.0.113.7", "2001:db8:2::7"
	user := h.User()
	token := h.Login(user, "X-Forwarded-For: "+home)
	h.Clock.Step(time.Millisecond)
	watcher := h.Login(user)
	at := func() (created, last string) {
		h.Helper()
		for _, list := range [][]device{h.devices(watcher), h.adminDevices(user)} {
			d := list[len(list)-1]
			require.Equal(h, h.HandleOf(token), d.Handle)
			created, last = d.CreatedIP, d.IP
		}
		return created, last
	}
	h.Clock.Step(renewEvery - 2*time.Millisecond)
	require.Equal(h, 200, h.Get("/auth/me", h.Cookie(token), "X-Forwarded-For: "+away).Status)
	_, last := at()
	assert.Equal(h, home, last, "as coarse as last_seen_at")
	h.Clock.Step(time.Millisecond)
	require.Equal(h, 200, h.Get("/auth/verify", h.Cookie(token), "X-Forwarded-For: "+away).Status)
	created, last := at()
	assert.Equal(h, []string{home, away}, []string{created, last}, "a renewal")
	require.Equal(h, 200, h.Post("/auth/refresh", h.Cookie(token), "X-Forwarded-For: "+home).Status)
	_, last = at()
	assert.Equal(h, home, last, "a rotation")
}

func checkListOwn(h *harness) {
	alice, bob := h.User(), h.User()
	a1, a2, a3 := h.Login(alice), h.Login(alice), h.Login(alice)
	h.Login(bob)
	assert.Len(h, h.devices(a1), 3)
	h.Post("/auth/logout", h.Cookie(a2))
	assert.Len(h, h.devices(a1), 2, "an ended one is gone")
	h.Clock.Step(ttl - time.Second)
	require.Equal(h, alice, h.Me(a1))
	h.Clock.Step(time.Second)
	list := h.devices(a1)
	require.Len(h, list, 1, "an expired one is gone")
	assert.Equal(h, h.HandleOf(a1), list[0].Handle)
	assert.Equal(h, "", h.Me(a3))
	assert.Len(h, h.devices(h.Login(bob)), 1)
}

// REV-03, SES-06: the names that a list shows give no access, in the cookie or anywhere else.
func checkNamesOpenNothing(h *harness) {
	token := h.Login(h.User())
	token = h.Refresh(token)
	d := h.devices(token)[0]
	raw := h.RawToken(token)
	key := base64.RawURLEncoding.EncodeToString(raw[:16])
	assert.NotContains(h, h.Get("/auth/sessions", h.Cookie(token)).Body, key, "the Key is not shown")
	for _, value := range []string{
		d.SessionID, d.Handle, d.SessionID + d.SessionID, d.Handle + d.SessionID, (d.SessionID + d.SessionID)[:43], (d.Handle + d.SessionID)[:43], key, key + d.SessionID[:21],
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], must(base64.RawURLEncoding.DecodeString(d.SessionID))...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], must(base64.RawURLEncoding.DecodeString(d.Handle))...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], raw[:16]...)),
		base64.RawURLEncoding.EncodeToString(append(raw[:16:16], make([]byte, 16)...)),
	} {
		assert.Equal(h, "", h.Me(value), value)
		assert.Equal(h, 401, h.Get("/auth/verify", h.Cookie(value)).Status, value)
	}
	assert.NotEmpty(h, h.Me(token))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func checkRevokeOne(h *harness) {
	user := h.User()
	caller := h.Login(user)
	for name, nameOf := range map[string]func(old, token string) string{
		"handle":      func(_, token string) string { return h.HandleOf(token) },
		"current ID":  func(_, token string) string { return h.IDOf(token) },
		"previous ID": func(old, _ string) string { return h.IDOf(old) },
	} {
		old := h.Login(user)
		token := h.Refresh(old)
		id := nameOf(old, token)
		assert.Equal(h, answer{Status: 204}, h.Answer(h.Do("DELETE", "/auth/sessions/"+id, h.Cookie(caller))), name)
		assert.Equal(h, "", h.Me(token), name)
		assert.Equal(h, "", h.Me(old), name)
		assert.Equal(h, answer{Status: 404, Code: "session_not_found"}, h.Answer(h.Do("DELETE", "/auth/sessions/"+id, h.Cookie(caller))), name)
	}
	assert.Len(h, h.devices(caller), 1)
	assert.Len(h, h.Events("revoke"), 3)
}

func checkRevokeCurrent(h *harness) {
	user := h.User()
	bystander := h.Login(user)
	for name, nameOf := range map[string]func(old, token string) string{
		"handle":      func(_, token string) string { return h.HandleOf(token) },
		"current ID":  func(_, token string) string { return h.IDOf(token) },
		"previous ID": func(old, _ string) string { return h.IDOf(old) },
	} {
		old := h.Login(user)
		token := h.Refresh(old)
		resp := h.Do("DELETE", "/auth/sessions/"+nameOf(old, token), h.Cookie(token))
		assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(resp), name)
		assert.Empty(h, resp.Body)
		assert.Equal(h, "", h.Me(token), name)
	}
	assert.Equal(h, user, h.Me(bystander))
}

func checkRevokeOthers404(h *harness) {
	caller, stranger := h.Login(h.User()), h.Login(h.User())
	token := h.Login(h.User())
	bodies := make(map[string]bool)
	for name, id := range map[string]string{
		"somebody else's handle": h.HandleOf(stranger), "somebody else's ID": h.IDOf(stranger), "another's": h.HandleOf(token),
		"no such": base64.RawURLEncoding.EncodeToString(make([]byte, 16)), "unknown": madeUp()[:21] + "A", "short": "abc", "a token": stranger,
		"own token": caller, "own key": caller[:21] + "A", "percent": "%00", "non-canonical": httpcontract.NonCanonical(h.HandleOf(caller)), "padded": h.HandleOf(caller) + "==",
		"dots": "..", "a star": "*", "long": strings.Repeat("a", 4000), "other alphabet": strings.Repeat("+", 22),
	} {
		resp := h.Do("DELETE", "/auth/sessions/"+id, h.Cookie(caller))
		assert.Equal(h, answer{Status: 404, Code: "session_not_found"}, h.Answer(resp), name)
		bodies[fmt.Sprint(resp.Status, resp.Body)] = true
	}
	assert.Len(h, bodies, 1, "one answer for all")
	assert.NotEmpty(h, h.Me(stranger))
	assert.NotEmpty(h, h.Me(token))
	assert.NotEmpty(h, h.Me(caller))
}

func checkRevokeElsewhere(h *harness) {
	user := h.User()
	tokens := []string{h.Login(user), h.Login(user), h.Login(user), h.Login(user)}
	stranger := h.Login(h.User())
	caller := tokens[2]
	resp := h.Do("DELETE", "/auth/sessions", h.Cookie(caller))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, `{"revoked":3}`, resp.Body)
	for i, token := range tokens {
		if i != 2 {
			assert.Equal(h, "", h.Me(token))
		}
	}
	assert.Equal(h, user, h.Me(caller))
	assert.NotEmpty(h, h.Me(stranger))
	assert.Equal(h, `{"revoked":0}`, h.Do("DELETE", "/auth/sessions", h.Cookie(caller)).Body)
	for _, query := range []string{
		"current=false", "current=1", "current=TRUE", "current=yes", "current=true%00", "current", "current=", "current=true&current=true", "current=true&current=false",
		"current=false&current=true", "current=true&x=1", "x=1", "Current=true", "current=true;x", "&", "current=true&",
	} {
		assert.Equal(h, answer{Status: 400, Code: "malformed_query"}, h.Answer(h.Do("DELETE", "/auth/sessions?"+query, h.Cookie(caller))), query)
	}
	assert.Equal(h, user, h.Me(caller))
	next := h.Login(user, h.Cookie(caller))
	assert.Equal(h, user, h.Me(next), "a later login goes through")
}

// CASES A4: an attacker with a stolen session must not be able to lock its owner out, however many requests they send.
func checkRevokeOthersInALoop(h *harness) {
	user := h.User()
	stolen := h.Login(user)
	h.mode.during = func() {
		assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(stolen)).Status)
	}
	for i := range 5 {
		assert.Equal(h, 200, h.TryLogin(user).Status, "login %d", i)
	}
	h.mode.during = nil
	assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(stolen)).Status, "the sixth")
	resp := h.Do("DELETE", "/auth/sessions", h.Cookie(stolen))
	assert.Equal(h, answer{Status: 429, Code: "too_many_requests"}, h.Answer(resp))
	assert.Equal(h, []string{"60"}, resp.Header["Retry-After"])
	other := h.Login(user)
	assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions?current=true", h.Cookie(other)).Status, "another session")
	h.Clock.Step(time.Minute)
	again := h.Login(user)
	assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(again)).Status)
}

// Each try reads the user's list, whether there is such a session or not.
func checkRevokeOneLimit(h *harness) {
	user := h.User()
	caller, other := h.Login(user), h.Login(user)
	for range 60 {
		h.Do("DELETE", "/auth/sessions/"+strings.Repeat("A", 22), h.Cookie(caller))
	}
	resp := h.Do("DELETE", "/auth/sessions/"+h.HandleOf(other), h.Cookie(caller))
	assert.Equal(h, answer{Status: 429, Code: "too_many_requests"}, h.Answer(resp))
	assert.Equal(h, []string{"60"}, resp.Header["Retry-After"])
	assert.Equal(h, user, h.Me(other))
	assert.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(caller)).Status, "all others have a limit of their own")
	assert.Equal(h, 204, h.Do("DELETE", "/auth/sessions/"+h.IDOf(caller), h.Cookie(caller)).Status, "a session may always end itself")

	caller, other = h.Login(user), h.Login(user)
	assert.Equal(h, 204, h.Do("DELETE", "/auth/sessions/"+h.HandleOf(other), h.Cookie(caller)).Status, "another session")
}

func checkRevokeEverywhere(h *harness) {
	user := h.User()
	caller, other, stranger := h.Login(user), h.Login(user), h.Login(h.User())
	resp := h.Do("DELETE", "/auth/sessions?current=true", h.Cookie(caller))
	assert.Equal(h, answer{Status: 200, Code: "", Cookie: "cleared"}, h.Answer(resp))
	assert.Equal(h, `{"revoked":2}`, resp.Body)
	assert.Equal(h, "", h.Me(caller))
	assert.Equal(h, "", h.Me(other))
	assert.NotEmpty(h, h.Me(stranger))
}

func checkRevokeElsewhereRace(h *harness) {
	user := h.User()
	caller, other := h.Login(user), h.Login(user)
	h.Store.Once(httpcontract.OpEndUser, func() { h.Post("/auth/logout", h.Cookie(caller)) })
	resp := h.Do("DELETE", "/auth/sessions", h.Cookie(caller))
	assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(resp))
	assert.Equal(h, user, h.Me(other), "a session that has ended ends no others")
}
