package servertest

import (
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// recipeRules are the server's own rules about login, me, refresh and logout, beside those of internal/httpcontract, by the
// name of the group that they belong to.
var recipeRules = map[string][]rule{
	"cookie_sent": {
		{name: "ending other sessions sets no cookie", check: checkEndingOthersSetsNothing},
	},
	"cookie_read": {
		{name: "a header of more than 8 KiB", transport: true, check: checkLargeHeader},
	},
	"several_cookies": {
		{name: "two live ones end nothing else", check: checkTwoLiveEndNothing},
	},
	"tokens": {
		{name: "a token does not count in a body or a trailer", transport: true, check: checkNoBodyToken},
		{name: "a session without a user", check: checkUserless},
	},
	"lifetimes": {
		{name: "login starts both timers anew", check: checkLoginTimers},
		{name: "refresh starts the idle timer only", check: checkRefreshTimers},
		{name: "last_seen_at is as coarse as the renewals", check: checkLastSeen},
	},
}

func checkEndingOthersSetsNothing(h *harness) {
	token := h.Login(h.User())
	assert.Empty(h, h.Do("DELETE", "/auth/sessions", h.Cookie(token)).Header["Set-Cookie"])
	assert.Empty(h, h.Do("DELETE", "/auth/sessions/x", h.Cookie(token)).Header["Set-Cookie"])
}

func checkLargeHeader(h *harness) {
	token := h.Login(h.User())
	for _, path := range []string{"/auth/me", "/auth/verify", "/auth/sessions"} {
		assert.Equal(h, 431, h.Get(path, "Cookie: a="+strings.Repeat("x", 8200)+"; "+h.CookieName+"="+token).Status, path)
	}
}

func checkTwoLiveEndNothing(h *harness) {
	alice, bob := h.Login(h.User()), h.Login(h.User())
	for _, path := range []string{"/auth/sessions", "/auth/sessions?current=true", "/auth/sessions/" + h.HandleOf(alice)} {
		events := len(h.Events("duplicate_cookie"))
		resp := h.Do("DELETE", path, h.Cookie(alice, bob))
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(resp), path)
		assert.Len(h, h.Events("duplicate_cookie"), events+1, path)
	}
	assert.NotEmpty(h, h.Me(alice))
	assert.NotEmpty(h, h.Me(bob))
}

// TOK-06, as far as a library for one framework cannot check it.
func checkNoBodyToken(h *harness) {
	token := h.Login(h.User())
	verify := func(body string, head ...string) int {
		return h.Send(request{Method: "POST", Path: "/auth/verify", Head: head, Body: body}).Status
	}
	for _, body := range []string{token, h.CookieName + "=" + token, `{"session_id":"` + token + `"}`, `{"token":"` + token + `"}`} {
		for _, kind := range []string{asJSON, "Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain"} {
			assert.Equal(h, 401, verify(body, kind))
		}
	}
	chunked := "0\r\nCookie: " + h.CookieName + "=" + token + "\r\n\r\n"
	assert.Equal(h, 400, verify(chunked, "Transfer-Encoding: chunked", "Trailer: Cookie"), "a trailer is no header")
	chunked = "0\r\nX-Trailer: " + h.CookieName + "=" + token + "\r\n\r\n"
	assert.Equal(h, 401, verify(chunked, "Transfer-Encoding: chunked", "Trailer: X-Trailer"))
	assert.NotEmpty(h, h.Me(token))
}

// SES-06: a stored session without a user, which a library of the same store may have begun, is anonymous.
func checkUserless(h *harness) {
	token := h.userless()
	assert.Equal(h, anonymousView, h.Get("/auth/me", h.Cookie(token)).Body)
	assert.Equal(h, anonymousView, h.Post("/auth/refresh", h.Cookie(token)).Body)
	assert.Equal(h, 401, h.Get("/auth/verify", h.Cookie(token)).Status)
	assert.Equal(h, 401, h.Get("/auth/sessions", h.Cookie(token)).Status)
	assert.Equal(h, 204, h.Post("/auth/logout", h.Cookie(token)).Status)
	assert.Equal(h, 1, h.Store.Calls(httpcontract.OpEnd), "and it ends like any other")
}

// userless begins a session without a user in the server's store and returns its token.
func (h *harness) userless() string {
	h.Helper()
	m, err := coatcheck.NewManager(h.Store, coatcheck.Policy{Now: h.Clock.Now})
	require.NoError(h, err)
	var r coatcheck.Request
	require.NoError(h, m.Open(h.Context(), &r, new(coatcheck.Presented), coatcheck.Client{}, h.Clock.Now()))
	defer r.Release()
	require.NoError(h, r.Insert("cart", 1))
	require.NoError(h, r.Commit(h.Context()))
	token, _ := r.Token(h.Clock.Now())
	return string(token.AppendSecretText(nil))
}

// SES-01.
func checkLoginTimers(h *harness) {
	user := h.User()
	token := h.Login(user)
	for range 10 {
		h.Clock.Step(20 * time.Minute)
		require.True(h, h.Alive(token))
	}
	resp := h.TryLogin(user, h.Cookie(token))
	assert.Equal(h, maxLifetime, h.MaxAge(resp), "an absolute lifetime of its own")
	d := h.devices(h.Token(resp))
	require.Len(h, d, 1)
	assert.Equal(h, h.Clock.RFC3339(0), d[0].CreatedAt)
	assert.Equal(h, h.Clock.RFC3339(ttl), d[0].ExpiresAt)
	assert.False(h, h.Alive(token), "and the old token is dead")
}

func checkRefreshTimers(h *harness) {
	token := h.Login(h.User())
	created := h.Clock.RFC3339(0)
	h.Clock.Step(20 * time.Minute)
	token = h.Refresh(token)
	d := h.devices(token)[0]
	assert.Equal(h, created, d.CreatedAt)
	assert.Equal(h, h.Clock.RFC3339(0), d.LastSeenAt)
	assert.Equal(h, h.Clock.RFC3339(ttl), d.ExpiresAt)
}

func checkLastSeen(h *harness) {
	user := h.User()
	token, watcher := h.Login(user), h.Login(user)
	seen := func() string {
		for _, d := range h.devices(watcher) {
			if d.Handle == h.HandleOf(token) {
				return d.LastSeenAt
			}
		}
		return ""
	}
	at := h.Clock.RFC3339(0)
	h.Clock.Step(renewEvery - time.Millisecond)
	require.True(h, h.Alive(token))
	assert.Equal(h, at, seen())
	h.Clock.Step(time.Millisecond)
	require.True(h, h.Alive(token))
	assert.Equal(h, h.Clock.RFC3339(0), seen())
}
