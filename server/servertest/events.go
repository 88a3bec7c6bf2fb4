package servertest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// withEvents is a server on which every event can be brought about.
func withEvents(cfg *server.Config) {
	cfg.Policy.MaxPerUser = 2
	cfg.Login = modeFunc(func(a *login.Attempt) (string, error) {
		switch {
		case strings.HasPrefix(a.UserID, "refused"):
			return "", login.ErrRefused
		case strings.HasPrefix(a.UserID, "throttled"):
			return "", &login.Throttled{RetryAfter: time.Second, By: "account"}
		}
		return a.UserID, nil
	})
}

// LOG-04: each thing that happens has exactly one event, with its time, user, session, client and outcome.
func checkEvents(h *harness) {
	user := h.user()
	seen := 0
	expect := func(what string, want ...string) {
		h.Helper()
		lines := h.logs.events()[seen:]
		seen += len(lines)
		var got []string
		for _, line := range lines {
			got = append(got, readEvent(h, line))
		}
		assert.Equal(h, want, got, what)
	}
	event := func(name, outcome, reason, user, id string) string {
		return strings.Join([]string{name, outcome, reason, user, id}, "|")
	}

	token := h.login(user)
	expect("login", event("login", "ok", "", user, idOf(h, token)))
	h.me(token)
	expect("nothing")
	h.clock.step(renewEvery)
	h.me(token)
	expect("renewal", event("renew", "ok", "", user, idOf(h, token)))
	h.clock.step(renewEvery)
	h.get("/auth/verify", h.cookie(token))
	expect("renewal by verify", event("renew", "ok", "", user, idOf(h, token)))
	next := h.refresh(token)
	expect("refresh", event("refresh", "ok", "", user, idOf(h, next)))
	h.me(next)
	h.clock.step(grace + time.Millisecond)
	h.me(token)
	expect("reuse", event("reuse", "refused", "", user, idOf(h, next)))

	again := h.login(user, h.cookie(next))
	expect("login over a session", event("login", "ok", "", user, idOf(h, again)), event("revoke", "ok", "login", user, idOf(h, next)))
	h.clock.step(time.Millisecond) // so that it is known which is the oldest
	other := h.login(user)
	h.clock.step(time.Millisecond)
	third := h.login(user)
	expect("beyond the limit", event("login", "ok", "", user, idOf(h, other)), event("login", "ok", "", user, idOf(h, third)),
		event("revoke", "ok", "limit", user, ""))
	h.me(other, third)
	expect("two sessions", event("duplicate_cookie", "anonymous", "", "", ""))
	h.do("DELETE", "/auth/sessions/"+handleOf(h, other), h.cookie(third))
	expect("one revoked", event("revoke", "ok", "", user, idOf(h, other)))
	h.do("DELETE", "/auth/sessions", h.cookie(third))
	expect("all others revoked", event("revoke", "ok", "", user, idOf(h, third)))
	h.post("/auth/logout", h.cookie(third))
	expect("logout", event("logout", "ok", "", user, idOf(h, third)))
	h.post("/auth/logout", h.cookie(third))
	expect("nothing to log out")

	h.login("u" + user)
	seen = len(h.logs.events())
	h.adminDo("DELETE", "/admin/users/"+url.PathEscape("u"+user)+"/sessions")
	expect("revoked by an administrator", event("revoke", "ok", "", "u"+user, ""))
	h.tryLogin("refused")
	expect("refused", event("login_failed", "refused", "", "refused", ""))
	h.tryLogin("throttled")
	expect("throttled", event("login_throttled", "account", "", "throttled", ""))
	h.post("/auth/logout", "Sec-Fetch-Site: cross-site")
	expect("cross-site", event("cross_site_refused", "refused", "", "", ""))
	h.store.failing(errLost)
	h.send(request{method: "GET", path: "/auth/me", head: []string{h.cookie(third)}})
	h.store.on(nil)
	expect("store failure", event("store_error", "unavailable", "", "", ""))
}

// readEvent returns what an audit line says that can be known in advance, and checks the rest.
func readEvent(h *harness, line string) string {
	h.Helper()
	var e struct {
		Time    time.Time
		Msg     string
		Client  string
		Event   string
		Outcome string
		Reason  string
		User    string
		ID      string `json:"session_id"`
	}
	require.NoError(h, json.Unmarshal([]byte(line), &e), line)
	assert.Equal(h, "audit", e.Msg)
	assert.Equal(h, "127.0.0.1", e.Client, line)
	assert.WithinDuration(h, time.Now(), e.Time, time.Minute)
	return fmt.Sprintf("%s|%s|%s|%s|%s", e.Event, e.Outcome, e.Reason, e.User, e.ID)
}
