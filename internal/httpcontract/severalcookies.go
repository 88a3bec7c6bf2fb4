package httpcontract

import (
	"github.com/stretchr/testify/assert"
)

var severalCookiesRules = []Rule{
	{Name: "two live ones are anonymous, with one event", Check: checkTwoLive},
	{Name: "more than three candidates are anonymous, with one event", Check: checkManyCandidates},
	{Name: "at most three look-ups", Check: checkLookups},
	{Name: "login and logout end them all", Check: checkEndAll},
	{Name: "refresh with a dead neighbour", Check: checkRefreshBesideDead},
	{Name: "a planted cookie locks nobody out", Check: checkPlanted},
}

func checkTwoLive(h *Harness) {
	alice, bob := h.Login(h.User()), h.Login(h.User())
	for i, values := range [][]string{{alice, bob}, {bob, alice}} {
		for _, route := range append([]Reader{refreshing}, h.Readers...) {
			events := len(h.Events("duplicate_cookie"))
			resp := h.Do(route.Method, route.Path, h.Cookie(values...))
			assert.Empty(h, resp.Header["Set-Cookie"], route.Path)
			assert.Equal(h, "", route.User(h, resp), route.Path)
			assert.Len(h, h.Events("duplicate_cookie"), events+1, "%s: one event a request, %d", route.Path, i)
		}
	}
	assert.NotEmpty(h, h.Me(alice))
	assert.NotEmpty(h, h.Me(bob))
}

func checkManyCandidates(h *Harness) {
	user := h.User()
	token := h.Login(user)
	for _, values := range [][]string{
		{token, MadeUp(), MadeUp(), MadeUp()},
		{MadeUp(), MadeUp(), MadeUp(), token},
		{MadeUp(), MadeUp(), MadeUp(), MadeUp()},
		{token, h.WrongSecret(token), h.Refresh(token), MadeUp()},
	} {
		events := len(h.Events("duplicate_cookie"))
		resp := h.Get("/auth/me", h.Cookie(values...))
		assert.Equal(h, Answer{Status: 200}, h.Answer(resp))
		assert.Equal(h, AnonymousView, resp.Body)
		assert.Len(h, h.Events("duplicate_cookie"), events+1)
	}
	assert.Equal(h, user, h.Me(token, MadeUp(), MadeUp()), "three are not too many")
	assert.Equal(h, user, h.Me(token, MadeUp(), MadeUp(), token), "nor is one of them twice")
	assert.Equal(h, user, h.Me(token, "x", "y", "z", MadeUp(), MadeUp()), "malformed ones are no candidates")
}

func checkLookups(h *Harness) {
	for n := range 40 {
		values := make([]string, n)
		for i := range values {
			values[i] = MadeUp()
		}
		loads := h.Store.Calls(OpLoad)
		h.Get("/auth/me", h.Cookie(values...))
		assert.LessOrEqual(h, h.Store.Calls(OpLoad)-loads, 3, "%d cookies", n)
	}
}

func checkEndAll(h *Harness) {
	login := func(line string) Response { return h.TryLogin(h.User(), line) }
	logout := func(line string) Response { return h.Post("/auth/logout", line) }
	for name, end := range map[string]func(string) Response{"login": login, "logout": logout} {
		a, b, c := h.Login(h.User()), h.Login(h.User()), h.Login(h.User())
		resp := end(h.Cookie(a, b))
		assert.Len(h, resp.Header["Set-Cookie"], 1)
		assert.Equal(h, "", h.Me(a), name)
		assert.Equal(h, "", h.Me(b), name)
		assert.NotEmpty(h, h.Me(c), name)

		var many []string
		for range 17 {
			many = append(many, h.Login(h.User()))
		}
		end(h.Cookie(many...))
		for _, token := range many[:16] {
			assert.Equal(h, "", h.Me(token), "%s: the first sixteen", name)
		}
		assert.NotEmpty(h, h.Me(many[16]), "%s: and no more than sixteen", name)

		old := h.Login(h.User())
		rotated := h.Refresh(old)
		end(h.Cookie(MadeUp(), old, c))
		assert.Equal(h, "", h.Me(rotated), name)
		assert.Equal(h, "", h.Me(c), name)
	}
}

func checkRefreshBesideDead(h *Harness) {
	user := h.User()
	token := h.Login(user)
	for _, dead := range []string{MadeUp(), "x", h.WrongSecret(token)} {
		resp := h.Post("/auth/refresh", h.Cookie(dead, token))
		assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp))
		assert.Equal(h, user, resp.View(h.T).User())
		token = h.Token(resp)
		assert.Equal(h, user, h.Me(dead, token))
	}
	old := token
	token = h.Refresh(old)
	resp := h.Post("/auth/refresh", h.Cookie(old, token))
	assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp), "the better of two tokens of one session counts")
	assert.Equal(h, user, h.Me(h.Token(resp)))
}

// An attacker on a sibling host plants the cookie of their own live session: the victim is anonymous until they log in, and
// then has their own session.
func checkPlanted(h *Harness) {
	victim, evil := h.User(), h.User()
	token, planted := h.Login(victim), h.Login(evil)
	assert.Equal(h, "", h.Me(planted, token))
	resp := h.TryLogin(victim, h.Cookie(planted, token))
	assert.Equal(h, Answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(resp))
	assert.Equal(h, victim, h.Me(planted, h.Token(resp)), "the planted one ended at the login")
	again := h.TryLogin(victim, h.Cookie(planted, h.Token(resp)))
	assert.Equal(h, victim, h.Me(planted, h.Token(again)), "and stays in the jar, where it does no harm")
}
