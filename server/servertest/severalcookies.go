package servertest

import (
	"strings"

	"github.com/stretchr/testify/assert"
)

var severalCookiesRules = []rule{
	{name: "two live ones are anonymous, with one event", check: checkTwoLive},
	{name: "more than three candidates are anonymous, with one event", check: checkManyCandidates},
	{name: "at most three look-ups", check: checkLookups},
	{name: "login and logout end them all", check: checkEndAll},
	{name: "refresh with a dead neighbour", check: checkRefreshBesideDead},
	{name: "a planted cookie locks nobody out", check: checkPlanted},
}

func checkTwoLive(h *harness) {
	alice, bob := h.login(h.user()), h.login(h.user())
	for i, values := range [][]string{{alice, bob}, {bob, alice}} {
		for _, route := range []string{"GET /auth/me", "POST /auth/refresh", "GET /auth/verify", "GET /auth/sessions", "DELETE /auth/sessions", "DELETE /auth/sessions/" + handleOf(h, alice)} {
			events := len(h.events("duplicate_cookie"))
			method, path, _ := strings.Cut(route, " ")
			resp := h.do(method, path, h.cookie(values...))
			assert.Empty(h, resp.header["Set-Cookie"], route)
			assert.NotContains(h, resp.body, "true", "%s", route)
			assert.Len(h, h.events("duplicate_cookie"), events+1, "%s: one event a request, %d", route, i)
		}
	}
	assert.NotEmpty(h, h.me(alice))
	assert.NotEmpty(h, h.me(bob))
}

func checkManyCandidates(h *harness) {
	user := h.user()
	token := h.login(user)
	for _, values := range [][]string{
		{token, madeUp(), madeUp(), madeUp()},
		{madeUp(), madeUp(), madeUp(), token},
		{madeUp(), madeUp(), madeUp(), madeUp()},
		{token, wrongSecret(h, token), h.refresh(token), madeUp()},
	} {
		events := len(h.events("duplicate_cookie"))
		resp := h.get("/auth/me", h.cookie(values...))
		assert.Equal(h, answer{status: 200}, h.answer(resp))
		assert.Equal(h, anonymousView, resp.body)
		assert.Len(h, h.events("duplicate_cookie"), events+1)
	}
	assert.Equal(h, user, h.me(token, madeUp(), madeUp()), "three are not too many")
	assert.Equal(h, user, h.me(token, madeUp(), madeUp(), token), "nor is one of them twice")
	assert.Equal(h, user, h.me(token, "x", "y", "z", madeUp(), madeUp()), "malformed ones are no candidates")
}

func checkLookups(h *harness) {
	for n := range 40 {
		values := make([]string, n)
		for i := range values {
			values[i] = madeUp()
		}
		loads := h.store.calls(opLoad)
		h.get("/auth/me", h.cookie(values...))
		assert.LessOrEqual(h, h.store.calls(opLoad)-loads, 3, "%d cookies", n)
	}
}

func checkEndAll(h *harness) {
	login := func(line string) response { return h.tryLogin(h.user(), line) }
	logout := func(line string) response { return h.post("/auth/logout", line) }
	for name, end := range map[string]func(string) response{"login": login, "logout": logout} {
		a, b, c := h.login(h.user()), h.login(h.user()), h.login(h.user())
		resp := end(h.cookie(a, b))
		assert.Len(h, resp.header["Set-Cookie"], 1)
		assert.Equal(h, "", h.me(a), name)
		assert.Equal(h, "", h.me(b), name)
		assert.NotEmpty(h, h.me(c), name)

		var many []string
		for range 17 {
			many = append(many, h.login(h.user()))
		}
		end(h.cookie(many...))
		for _, token := range many[:16] {
			assert.Equal(h, "", h.me(token), "%s: the first sixteen", name)
		}
		assert.NotEmpty(h, h.me(many[16]), "%s: and no more than sixteen", name)

		old := h.login(h.user())
		rotated := h.refresh(old)
		end(h.cookie(madeUp(), old, c))
		assert.Equal(h, "", h.me(rotated), name)
		assert.Equal(h, "", h.me(c), name)
	}
}

func checkRefreshBesideDead(h *harness) {
	user := h.user()
	token := h.login(user)
	for _, dead := range []string{madeUp(), "x", wrongSecret(h, token)} {
		resp := h.post("/auth/refresh", h.cookie(dead, token))
		assert.Equal(h, answer{200, "", "set"}, h.answer(resp))
		assert.Equal(h, user, resp.view(h.T).user())
		token = h.token(resp)
		assert.Equal(h, user, h.me(dead, token))
	}
	old := token
	token = h.refresh(old)
	resp := h.post("/auth/refresh", h.cookie(old, token))
	assert.Equal(h, answer{200, "", "set"}, h.answer(resp), "the better of two tokens of one session counts")
	assert.Equal(h, user, h.me(h.token(resp)))
}

// An attacker on a sibling host plants his own live session: the victim is anonymous until he logs in, and then is himself.
func checkPlanted(h *harness) {
	victim, evil := h.user(), h.user()
	token, planted := h.login(victim), h.login(evil)
	assert.Equal(h, "", h.me(planted, token))
	resp := h.tryLogin(victim, h.cookie(planted, token))
	assert.Equal(h, answer{200, "", "set"}, h.answer(resp))
	assert.Equal(h, victim, h.me(planted, h.token(resp)), "the planted one ended at the login")
	again := h.tryLogin(victim, h.cookie(planted, h.token(resp)))
	assert.Equal(h, victim, h.me(planted, h.token(again)), "and stays a neighbour that harms nobody")
}
