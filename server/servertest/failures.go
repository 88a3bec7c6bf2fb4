package servertest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

// errLost is an error of no kind, as a driver returns it.
var errLost = errors.New("i/o timeout: no answer from 10.0.0.1:6379")

var failureRules = []rule{
	{name: "503 on every route", check: checkStoreDown},
	{name: "each operation failing alone", check: checkOperationFails},
	{name: "a dead cookie stays in an outage", check: checkDeadCookieInOutage},
	{name: "a login that cannot end the carried session has begun nothing", check: checkLoginEndFails},
	{name: "housekeeping that fails is left to the next request", check: checkHousekeepingFails},
	{name: "record of a newer release", check: checkNewer},
	{name: "damaged record", check: checkDamaged},
	{name: "full store", check: checkFull},
	{name: "the log is not flooded", check: checkOutageLog},
}

func checkStoreDown(h *harness) {
	user := h.user()
	token, other := h.login(user), h.login(user)
	for _, err := range []error{coatcheck.ErrUnavailable, errLost, fmt.Errorf("closed: %w", coatcheck.ErrUnavailable)} {
		h.store.failing(err)
		for _, route := range append(allRoutes, "POST /auth/verify", "DELETE /auth/sessions?current=true", "DELETE /auth/sessions/"+handleOf(h, other)) {
			method, path, _ := strings.Cut(route, " ")
			for _, line := range []string{h.cookie(token), h.cookie(token, madeUp()), h.cookie("x", madeUp()), h.cookie(madeUp())} {
				resp := h.send(request{method, path, []string{asJSON, line}, `{"user_id":"x"}`})
				assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp), "%s: %s", route, line)
				assert.NotContains(h, resp.body, "10.0.0.1")
			}
		}
		resp := h.tryLogin(user)
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp), "login without a cookie")
		assert.Equal(h, answer{status: 200}, h.answer(h.get("/auth/me")), "what needs no store is answered")
		assert.Equal(h, answer{401, "unauthenticated", "cleared"}, h.answer(h.get("/auth/sessions", h.cookie("x"))))
		assert.Equal(h, answer{204, "", "cleared"}, h.answer(h.post("/auth/logout")))
		h.store.on(nil)
		assert.Equal(h, user, h.me(token), "an outage logs nobody out")
		assert.Equal(h, user, h.me(other))
	}
}

func checkOperationFails(h *harness) {
	for _, c := range []struct {
		route string
		ops   []string
	}{
		{"POST /auth/login", []string{opLoad, opMark, opCreate}},
		{"GET /auth/me", []string{opLoad}},
		{"POST /auth/refresh", []string{opLoad, opSwap}},
		{"POST /auth/logout", []string{opLoad, opEnd}},
		{"GET /auth/sessions", []string{opLoad, opList}},
		{"DELETE /auth/sessions", []string{opLoad, opEndUser}},
		{"DELETE /auth/sessions?current=true", []string{opLoad, opEndUser}},
		{"DELETE /auth/sessions/current", []string{opLoad, opList, opEnd}},
		{"DELETE /auth/sessions/other", []string{opLoad, opList, opEnd}},
	} {
		for _, op := range c.ops {
			user := h.user()
			token, other := h.login(user), h.login(user)
			method, path, _ := strings.Cut(c.route, " ")
			path = strings.Replace(path, "/current", "/"+handleOf(h, token), 1)
			path = strings.Replace(path, "/other", "/"+handleOf(h, other), 1)
			h.store.failing(errLost, op)
			resp := h.send(request{method, path, []string{asJSON, h.cookie(token)}, `{"user_id":"x"}`})
			h.store.on(nil)
			assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp), "%s: %s", c.route, op)
			assert.Equal(h, user, h.me(token), "%s: %s", c.route, op)
			assert.Equal(h, user, h.me(other), "%s: %s", c.route, op)
		}
	}
}

// A dead cookie would be cleared; not by an answer that says nothing about any session.
func checkDeadCookieInOutage(h *harness) {
	for _, op := range []string{opMark, opCreate} {
		for _, err := range []error{errLost, coatcheck.ErrFull} {
			h.store.failing(err, op)
			resp := h.tryLogin(h.user(), h.cookie(madeUp()))
			assert.Equal(h, 503, resp.status, op)
			assert.Empty(h, resp.header["Set-Cookie"], op)
			h.store.on(nil)
		}
	}
}

func checkLoginEndFails(h *harness) {
	for name, values := range map[string]int{"carried": 1, "several carried": 2} {
		user := h.user()
		line := h.cookie(h.login(h.user()))
		if values == 2 {
			line = h.cookie(h.login(h.user()), h.login(h.user()))
		}
		h.store.failing(errLost, opEnd)
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(h.tryLogin(user, line)), name)
		h.store.on(nil)

		calls := 0
		h.store.on(func(op string) error {
			if op == opEnd {
				calls++
				if calls == 1 {
					return errLost
				}
			}
			return nil
		})
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(h.tryLogin(user, line)), name)
		h.store.on(nil)
		watcher := h.login(user)
		assert.LessOrEqual(h, len(h.devices(watcher)), 2, "%s: only where the store could not end the new one either does it stay", name)
	}
}

func checkHousekeepingFails(h *harness) {
	user := h.user()
	old := h.login(user)
	token := h.refresh(old)
	h.clock.step(renewEvery)
	h.store.failing(errLost, opSwap)
	for _, path := range []string{"/auth/me", "/auth/verify", "/auth/sessions"} {
		assert.Equal(h, answer{status: 200}, h.answer(h.get(path, h.cookie(token))), path)
	}
	h.clock.step(2 * grace)
	h.store.on(nil)
	assert.True(h, h.alive(old), "the first use was not noted")
	assert.True(h, h.alive(token), "now it is, and the renewal done")
	h.clock.step(grace)
	assert.False(h, h.alive(old))
	h.clock.step(ttl - grace - time.Millisecond)
	assert.True(h, h.alive(token))
}

func checkNewer(h *harness) {
	user := h.user()
	token := h.login(user)
	h.store.failing(fmt.Errorf("%w: codec version 2", coatcheck.ErrNewer), opLoad)
	for _, route := range allRoutes {
		method, path, _ := strings.Cut(route, " ")
		resp := h.send(request{method, path, []string{asJSON, h.cookie(token)}, `{"user_id":"x"}`})
		assert.Equal(h, answer{status: 503, code: "record_newer"}, h.answer(resp), route)
	}
	h.store.failing(coatcheck.ErrNewer, opSwap)
	assert.Equal(h, answer{status: 503, code: "record_newer"}, h.answer(h.post("/auth/refresh", h.cookie(token))))
	h.store.on(nil)
	assert.Equal(h, user, h.me(token), "it was not deleted")
}

func checkDamaged(h *harness) {
	h.store.failing(fmt.Errorf("%w: it ends early", coatcheck.ErrDamaged), opLoad)
	token := madeUp()
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(h.get("/auth/me", h.cookie(token))))
	assert.Equal(h, answer{status: 401, code: "unauthenticated"}, h.answer(h.get("/auth/verify", h.cookie(token))))
	assert.Equal(h, answer{401, "unauthenticated", "cleared"}, h.answer(h.get("/auth/sessions", h.cookie(token))))
	assert.Equal(h, answer{200, "", "cleared"}, h.answer(h.post("/auth/refresh", h.cookie(token))))
	assert.Equal(h, answer{204, "", "cleared"}, h.answer(h.post("/auth/logout", h.cookie(token))))
	assert.Equal(h, answer{200, "", "set"}, h.answer(h.tryLogin(h.user(), h.cookie(token))))
}

func checkFull(h *harness) {
	user := h.user()
	token := h.login(user)
	h.store.failing(coatcheck.ErrFull, opCreate)
	assert.Equal(h, answer{status: 503, code: "store_full"}, h.answer(h.tryLogin(user, h.cookie(token))))
	h.store.on(nil)
	assert.Equal(h, user, h.me(token))
}

func checkOutageLog(h *harness) {
	token := h.login(h.user())
	h.store.failing(errLost)
	for range 500 {
		h.get("/auth/me", h.cookie(token))
	}
	assert.Len(h, h.events("store_error"), 1)
	h.clock.step(time.Second)
	h.get("/auth/me", h.cookie(token))
	events := h.events("store_error")
	assert.Len(h, events, 2)
	assert.EqualValues(h, 500, events[1]["count"], "what was left out is counted")
}
