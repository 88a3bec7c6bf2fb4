package servertest

import (
	"context"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server/login"
)

// panicMode panics for some users.
type panicMode struct{}

// Traits give the mode the page to sign in on, so that it has every route.
func (panicMode) Traits() login.Traits {
	return login.Traits{Guesses: login.GuessesNothing, Form: login.NameForm}
}

func (panicMode) UserOf(a *login.Attempt) string { return a.UserID }

func (panicMode) Check(_ context.Context, a *login.Attempt) (string, error) {
	switch a.UserID {
	case "panic":
		panic("password " + string(a.Password))
	case "nil map":
		writeTo(nil, string(a.Password))
	case "index":
		_ = a.Password[len(a.Password)+len(a.UserID)]
	}
	return a.UserID, nil
}

func writeTo(m map[string]int, name string) { m[name] = 1 }

// DOS-06, and LOG-01 for the log lines of a panic.
func checkServerPanic(h *harness) {
	h.Canaries = append(h.Canaries, "hunter2-canary")
	user := h.User()
	token := h.Login(user)
	for _, who := range []string{"panic", "nil map", "index"} {
		resp := h.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":"` + who + `","password":"hunter2-canary"}`})
		assert.Equal(h, answer{Status: 500, Code: "internal"}, h.Answer(resp), who)
	}
	assert.Equal(h, user, h.Me(token), "the session that it carried lives")
	for _, op := range []string{httpcontract.OpLoad, httpcontract.OpSwap, httpcontract.OpList, httpcontract.OpEnd} {
		h.Store.On(func(got string) error {
			if got == op {
				panic("store: " + op)
			}
			return nil
		})
		for _, route := range allRoutes {
			method, path, _ := strings.Cut(route, " ")
			resp := h.Send(request{Method: method, Path: path, Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":"` + user + `"}`})
			if op == httpcontract.OpLoad && route != "GET /auth/login" { // this mode has no page to log in on
				assert.Equal(h, answer{Status: 500, Code: "internal"}, h.Answer(resp), route)
			}
		}
		resp, err := h.admin.Send(request{Method: "GET", Path: "/admin/users/" + user + "/sessions"})
		require.NoError(h, err)
		assert.Equal(h, op == httpcontract.OpList, resp.Status == 500, "the admin listener, too")
		h.Store.On(nil)
	}
	assert.NotEmpty(h, h.Login(user), "the process lives")
	stacks := 0
	for _, line := range h.Logs.Lines() {
		if strings.Contains(line, `"stack"`) {
			stacks++
		}
	}
	assert.GreaterOrEqual(h, stacks, 3+len(allRoutes))
}
