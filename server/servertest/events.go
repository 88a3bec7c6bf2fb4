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

// withEvents configures a server on which every event can occur.
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
	user := h.User()
	seen := 0
	expect := func(what string, want ...string) {
		h.Helper()
		lines := h.Logs.Events()[seen:]
		seen += len(lines)
		var got []string
		for _, line := range lines {
			got = append(got, readEvent(h, line))
		}
		assert.Equal(h, want, got, what)
		assert.NotContains(h, strings.Join(lines, "\n"), `"session_id":""`, "a session that is not known is left out")
	}
	event := func(name, outcome, reason, user, id string) string {
		return strings.Join([]string{name, outcome, reason, user, id}, "|")
	}

	token := h.Login(user)
	expect("login", event("login", "ok", "", user, h.IDOf(token)))
	h.Me(token)
	expect("nothing")
	h.Clock.Step(renewEvery)
	h.Me(token)
	expect("renewal", event("renew", "ok", "", user, h.IDOf(token)))
	h.Clock.Step(renewEvery)
	h.Get("/auth/verify", h.Cookie(token))
	expect("renewal by verify", event("renew", "ok", "", user, h.IDOf(token)))
	next := h.Refresh(token)
	expect("refresh", event("refresh", "ok", "", user, h.IDOf(next)))
	h.Me(next)
	h.Clock.Step(grace + time.Millisecond)
	h.Me(token)
	expect("reuse", event("reuse", "refused", "", user, h.IDOf(next)))

	again := h.Login(user, h.Cookie(next))
	expect("login over a session", event("login", "ok", "", user, h.IDOf(again)), event("revoke", "ok", "login", user, h.IDOf(next)))
	h.Clock.Step(time.Millisecond) // so that the oldest session is known
	other := h.Login(user)
	h.Clock.Step(time.Millisecond)
	third := h.Login(user)
	expect("beyond the limit", event("login", "ok", "", user, h.IDOf(other)), event("login", "ok", "", user, h.IDOf(third)),
		event("revoke", "ok", "limit", user, ""))
	h.Me(other, third)
	expect("two sessions", event("duplicate_cookie", "anonymous", "", "", ""))
	h.Do("DELETE", "/auth/sessions/"+h.HandleOf(other), h.Cookie(third))
	expect("one revoked", event("revoke", "ok", "", user, h.IDOf(other)))
	h.Do("DELETE", "/auth/sessions", h.Cookie(third))
	expect("all others revoked", event("revoke", "ok", "", user, "")) // the caller's lives on
	h.Post("/auth/logout", h.Cookie(third))
	expect("logout", event("logout", "ok", "", user, h.IDOf(third)))
	h.Post("/auth/logout", h.Cookie(third))
	expect("nothing to log out")

	h.Login("u" + user)
	seen = len(h.Logs.Events())
	h.adminDo("DELETE", "/admin/users/"+url.PathEscape("u"+user)+"/sessions")
	expect("revoked by an administrator", event("revoke", "ok", "", "u"+user, ""))
	h.TryLogin("refused")
	expect("refused", event("login_failed", "refused", "", "refused", ""))
	h.TryLogin("throttled")
	expect("throttled", event("login_throttled", "account", "", "throttled", ""))
	h.Post("/auth/logout", "Sec-Fetch-Site: cross-site")
	expect("cross-site", event("cross_site_refused", "refused", "", "", ""))
	h.Store.Failing(errLost)
	h.Send(request{Method: "GET", Path: "/auth/me", Head: []string{h.Cookie(third)}})
	h.Store.On(nil)
	expect("store failure", event("store_error", "unavailable", "", "", ""))
}

// readEvent returns the part of an audit line that is known in advance, and checks the rest.
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
