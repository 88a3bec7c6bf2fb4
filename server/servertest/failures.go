package servertest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var failureRules = []rule{
	{name: "503 on every route", check: checkStoreDown},
	{name: "each operation failing alone", config: withMode(believing), check: checkOperationFails},
	{name: "a dead cookie stays in an outage", config: withMode(believing), check: checkDeadCookieInOutage},
	{name: "a login that cannot end the carried session has begun nothing", check: checkLoginEndFails},
	{name: "housekeeping that fails is left to the next request", check: checkHousekeepingFails},
	{name: "record of a newer release", check: checkNewer},
	{name: "damaged record", check: checkDamaged},
	{name: "full store", check: checkFull},
	{name: "a renewal that fails is logged", check: checkRenewalFailsLog},
	{name: "the log is not flooded", check: checkOutageLog},
}

func checkStoreDown(h *harness) {
	user := h.User()
	token, other := h.Login(user), h.Login(user)
	for _, err := range []error{coatcheck.ErrUnavailable, errLost, fmt.Errorf("closed: %w", coatcheck.ErrUnavailable)} {
		h.Store.Failing(err)
		for _, route := range append(allRoutes, "POST /auth/verify", "DELETE /auth/sessions?current=true", "DELETE /auth/sessions/"+h.HandleOf(other)) {
			method, path, _ := strings.Cut(route, " ")
			for _, line := range []string{h.Cookie(token), h.Cookie(token, madeUp()), h.Cookie("x", madeUp()), h.Cookie(madeUp())} {
				resp := h.Send(request{Method: method, Path: path, Head: []string{asJSON, line}, Body: `{"user_id":"x"}`})
				assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "%s: %s", route, line)
				assert.NotContains(h, resp.Body, "10.0.0.1")
			}
		}
		resp := h.TryLogin(user)
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "login without a cookie")
		assert.Equal(h, answer{Status: 200}, h.Answer(h.Get("/auth/me")), "what needs no store is answered")
		assert.Equal(h, answer{Status: 401, Code: "unauthenticated", Cookie: "cleared"}, h.Answer(h.Get("/auth/sessions", h.Cookie("x"))))
		assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(h.Post("/auth/logout")))
		h.Store.On(nil)
		assert.Equal(h, user, h.Me(token), "no session ends in an outage")
		assert.Equal(h, user, h.Me(other))
	}
}

func checkOperationFails(h *harness) {
	for _, c := range []struct {
		route string
		ops   []string
	}{
		{"POST /auth/login", []string{httpcontract.OpLoad, httpcontract.OpMark, httpcontract.OpCreate}},
		{"GET /auth/me", []string{httpcontract.OpLoad}},
		{"POST /auth/refresh", []string{httpcontract.OpLoad, httpcontract.OpSwap}},
		{"POST /auth/logout", []string{httpcontract.OpLoad, httpcontract.OpEnd}},
		{"GET /auth/sessions", []string{httpcontract.OpLoad, httpcontract.OpList}},
		{"DELETE /auth/sessions", []string{httpcontract.OpLoad, httpcontract.OpEndUser}},
		{"DELETE /auth/sessions?current=true", []string{httpcontract.OpLoad, httpcontract.OpEndUser}},
		{"DELETE /auth/sessions/current", []string{httpcontract.OpLoad, httpcontract.OpList, httpcontract.OpEnd}},
		{"DELETE /auth/sessions/other", []string{httpcontract.OpLoad, httpcontract.OpList, httpcontract.OpEnd}},
	} {
		for _, op := range c.ops {
			user := h.User()
			token, other := h.Login(user), h.Login(user)
			method, path, _ := strings.Cut(c.route, " ")
			path = strings.Replace(path, "/current", "/"+h.HandleOf(token), 1)
			path = strings.Replace(path, "/other", "/"+h.HandleOf(other), 1)
			h.Store.Failing(errLost, op)
			resp := h.Send(request{Method: method, Path: path, Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":"x"}`})
			h.Store.On(nil)
			assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), "%s: %s", c.route, op)
			assert.Equal(h, user, h.Me(token), "%s: %s", c.route, op)
			assert.Equal(h, user, h.Me(other), "%s: %s", c.route, op)
		}
	}
}

// A dead cookie would be cleared, but not by an answer that says nothing about the session.
func checkDeadCookieInOutage(h *harness) {
	for _, op := range []string{httpcontract.OpMark, httpcontract.OpCreate} {
		for _, err := range []error{errLost, coatcheck.ErrFull} {
			h.Store.Failing(err, op)
			resp := h.TryLogin(h.User(), h.Cookie(madeUp()))
			assert.Equal(h, 503, resp.Status, op)
			assert.Empty(h, resp.Header["Set-Cookie"], op)
			h.Store.On(nil)
		}
	}
}

func checkLoginEndFails(h *harness) {
	for name, values := range map[string]int{"carried": 1, "several carried": 2} {
		user := h.User()
		line := h.Cookie(h.Login(h.User()))
		if values == 2 {
			line = h.Cookie(h.Login(h.User()), h.Login(h.User()))
		}
		h.Store.Failing(errLost, httpcontract.OpEnd)
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.TryLogin(user, line)), name)
		h.Store.On(nil)

		calls := 0
		h.Store.On(func(op string) error {
			if op == httpcontract.OpEnd {
				calls++
				if calls == 1 {
					return errLost
				}
			}
			return nil
		})
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(h.TryLogin(user, line)), name)
		h.Store.On(nil)
		watcher := h.Login(user)
		assert.LessOrEqual(h, len(h.devices(watcher)), 2, "%s: the new session stays only if the store could not end it either", name)
	}
}

func checkHousekeepingFails(h *harness) {
	user := h.User()
	old := h.Login(user)
	token := h.Refresh(old)
	h.Clock.Step(renewEvery)
	h.Store.Failing(errLost, httpcontract.OpSwap)
	for _, path := range []string{"/auth/me", "/auth/verify", "/auth/sessions"} {
		assert.Equal(h, answer{Status: 200}, h.Answer(h.Get(path, h.Cookie(token))), path)
	}
	h.Clock.Step(2 * grace)
	h.Store.On(nil)
	assert.True(h, h.Alive(old), "the first use was not noted")
	assert.True(h, h.Alive(token), "now it is, and the renewal done")
	h.Clock.Step(grace)
	assert.False(h, h.Alive(old))
	h.Clock.Step(ttl - grace - time.Millisecond)
	assert.True(h, h.Alive(token))
}

func checkNewer(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.Store.Failing(fmt.Errorf("%w: codec version 2", coatcheck.ErrNewer), httpcontract.OpLoad)
	for _, route := range allRoutes {
		method, path, _ := strings.Cut(route, " ")
		resp := h.Send(request{Method: method, Path: path, Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":"x"}`})
		assert.Equal(h, answer{Status: 503, Code: "record_newer"}, h.Answer(resp), route)
	}
	h.Store.Failing(coatcheck.ErrNewer, httpcontract.OpSwap)
	assert.Equal(h, answer{Status: 503, Code: "record_newer"}, h.Answer(h.Post("/auth/refresh", h.Cookie(token))))
	h.Store.On(nil)
	assert.Equal(h, user, h.Me(token), "it was not deleted")
}

func checkDamaged(h *harness) {
	h.Store.Failing(fmt.Errorf("%w: it ends early", coatcheck.ErrDamaged), httpcontract.OpLoad)
	token := madeUp()
	assert.Equal(h, answer{Status: 200, Code: "", Cookie: "cleared"}, h.Answer(h.Get("/auth/me", h.Cookie(token))))
	assert.Equal(h, answer{Status: 401, Code: "unauthenticated"}, h.Answer(h.Get("/auth/verify", h.Cookie(token))))
	assert.Equal(h, answer{Status: 401, Code: "unauthenticated", Cookie: "cleared"}, h.Answer(h.Get("/auth/sessions", h.Cookie(token))))
	assert.Equal(h, answer{Status: 200, Code: "", Cookie: "cleared"}, h.Answer(h.Post("/auth/refresh", h.Cookie(token))))
	assert.Equal(h, answer{Status: 204, Code: "", Cookie: "cleared"}, h.Answer(h.Post("/auth/logout", h.Cookie(token))))
	assert.Equal(h, answer{Status: 200, Code: "", Cookie: "set"}, h.Answer(h.TryLogin(h.User(), h.Cookie(token))))
}

func checkFull(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.Store.Failing(coatcheck.ErrFull, httpcontract.OpCreate)
	assert.Equal(h, answer{Status: 503, Code: "store_full"}, h.Answer(h.TryLogin(user, h.Cookie(token))))
	h.Store.On(nil)
	assert.Equal(h, user, h.Me(token))
}

// A renewal that fails leaves the answer as it is, so only the log says that sessions in use will expire.
func checkRenewalFailsLog(h *harness) {
	user := h.User()
	token := h.Login(user)
	h.Clock.Step(renewEvery)
	h.Store.Failing(errLost, httpcontract.OpSwap)
	assert.Equal(h, user, h.Me(token))
	events := h.Events("store_error")
	require.Len(h, events, 1)
	assert.Contains(h, events[0]["error"], "not renewed")
	h.Store.On(nil)
	h.Clock.Step(time.Second)
	assert.Equal(h, user, h.Me(token))
	assert.Len(h, h.Events("store_error"), 1)
}

func checkOutageLog(h *harness) {
	token := h.Login(h.User())
	h.Store.Failing(errLost)
	for range 500 {
		h.Get("/auth/me", h.Cookie(token))
	}
	assert.Len(h, h.Events("store_error"), 1)
	h.Clock.Step(time.Second)
	h.Get("/auth/me", h.Cookie(token))
	events := h.Events("store_error")
	assert.Len(h, events, 2)
	assert.EqualValues(h, 500, events[1]["count"], "what was left out is counted")
}
