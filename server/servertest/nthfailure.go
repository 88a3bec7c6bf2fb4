package servertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

var nthFailureRules = []rule{
	{name: "every operation of every route, before and after it is done", check: checkNthFails},
	{name: "one of n operations for a while", check: checkEveryNthFails},
	{name: "panics of the store", check: checkStorePanics},
	{name: "a store that blocks until its deadline", check: checkStoreBlocks},
}

// visit is a request that can be sent again and again, each time by somebody new with two devices.
type visit struct {
	route string
	// ends says whose session the request means to end.
	own, other bool
}

var visits = []visit{
	{route: "POST /auth/login", own: true},
	{route: "GET /auth/me"},
	{route: "GET /auth/verify"},
	{route: "POST /auth/refresh"},
	{route: "POST /auth/logout", own: true},
	{route: "GET /auth/sessions"},
	{route: "DELETE /auth/sessions", other: true},
	{route: "DELETE /auth/sessions?current=true", own: true, other: true},
	{route: "DELETE /auth/sessions/own", own: true},
	{route: "DELETE /auth/sessions/other", other: true},
}

// visitors are two devices of somebody, one of them in the middle of a rotation, and due for renewal.
func (h *harness) visitors() (user, token, other string) {
	h.Helper()
	user = h.user()
	token, other = h.refresh(h.login(user)), h.login(user)
	h.clock.step(renewEvery)
	return user, token, other
}

func (v visit) request(h *harness, user, token, other string) request {
	method, path, _ := strings.Cut(v.route, " ")
	path = strings.Replace(path, "/own", "/"+handleOf(h, token), 1)
	path = strings.Replace(path, "/other", "/"+handleOf(h, other), 1)
	return request{method, path, []string{asJSON, h.cookie(token)}, `{"user_id":` + quote(user) + `}`}
}

// afterFailure is what must hold when the store works again, whatever failed: a session that the request did not mean to end
// lives, one that it meant to end is whole or gone, and the same request does it now.
func (v visit) afterFailure(h *harness, resp response, user, token, other, what string) {
	if resp.status == 503 {
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp), what)
		assert.Equal(h, "1", resp.header.Get("Retry-After"), what)
	}
	live := token
	if set := h.token(resp); set != "" {
		live = set
	}
	if got := h.me(live); !v.own || got != "" {
		assert.Equal(h, user, got, "%s: %s", what, resp.body)
	}
	if got := h.me(other); !v.other || got != "" {
		assert.Equal(h, user, got, what)
	}
	if resp.status != 503 {
		return
	}
	again := h.send(v.request(h, user, token, other))
	assert.NotEqual(h, 503, again.status, what)
	assert.Less(h, again.status, 500, what)
	if v.other {
		assert.Empty(h, h.me(other), "%s, and then done again", what)
	}
	if v.own && h.token(again) == "" {
		assert.Empty(h, h.me(token), "%s, and then done again", what)
	}
}

// Whichever operation fails, before it was done or with its answer lost: no wrong answer, no cookie touched, and all of it
// heals.
func checkNthFails(h *harness) {
	for _, v := range visits {
		for _, done := range []bool{false, true} {
			for n := 0; ; n++ {
				user, token, other := h.visitors()
				failed := h.failNth(n, done)
				resp := h.send(v.request(h, user, token, other))
				h.store.on(nil)
				h.store.afterwards(nil)
				v.afterFailure(h, resp, user, token, other, fmt.Sprintf("%s, operation %d (%s), done %v", v.route, n, *failed, done))
				if *failed == "" {
					assert.Less(h, resp.status, 300, "%s without a failure", v.route)
					assert.Positive(h, n, "%s asks the store", v.route)
					break
				}
			}
		}
	}
}

// failNth makes the n-th operation from now on fail, and notes which it was.
func (h *harness) failNth(n int, done bool) *string {
	failed, count := new(string), 0
	hook := func(op string) error { // one request, so one operation at a time
		count++
		if count != n+1 {
			return nil
		}
		*failed = op
		return errLost
	}
	if done {
		h.store.afterwards(hook)
	} else {
		h.store.on(hook)
	}
	return failed
}

// A store that loses every n-th operation while several people are at work.
func checkEveryNthFails(h *harness) {
	for _, n := range []int64{3, 5, 7, 11} {
		var count atomic.Int64
		h.store.on(func(string) error {
			if count.Add(1)%n == 0 {
				return errLost
			}
			return nil
		})
		lost := make([][]string, 4)
		h.parallel(len(lost), func(i int) { lost[i] = stubborn(h) })
		h.store.on(nil)
		for _, faults := range lost {
			assert.Empty(h, faults, "every operation %d", n)
		}
	}
}

// stubborn is somebody who tries again after each 503, through the recipe and back. It returns what was wrong.
func stubborn(h *harness) (faults []string) {
	user := h.user()
	token := ""
	ask := func(method, path string, want int) response {
		for range 50 {
			req := request{method: method, path: path, head: []string{asJSON}, body: `{"user_id":` + quote(user) + `}`}
			if token != "" {
				req.head = append(req.head, h.cookie(token))
			}
			resp, err := h.wire.send(req)
			switch {
			case err != nil:
				faults = append(faults, err.Error())
				return resp
			case resp.status == 503 && len(resp.header["Set-Cookie"]) > 0:
				faults = append(faults, path+": 503 with a cookie")
			case resp.status == 503:
				continue
			case resp.status != want:
				faults = append(faults, fmt.Sprintf("%s: %d %s", path, resp.status, resp.body))
			}
			return resp
		}
		faults = append(faults, path+": nothing but 503")
		return response{}
	}
	for range 5 {
		token = ""
		token = h.token(ask("POST", "/auth/login", 200))
		if got := ask("GET", "/auth/me", 200); !strings.Contains(got.body, user) {
			faults = append(faults, "me: "+got.body)
		}
		if rotated := h.token(ask("POST", "/auth/refresh", 200)); rotated != "" {
			token = rotated
		}
		if got := ask("GET", "/auth/me", 200); !strings.Contains(got.body, user) {
			faults = append(faults, "me after refresh: "+got.body)
		}
		ask("POST", "/auth/logout", 204)
		if got := ask("GET", "/auth/me", 200); strings.Contains(got.body, user) {
			faults = append(faults, "me after logout: "+got.body)
		}
	}
	return faults
}

// DOS-06: a store that panics, at whichever operation, is a 500 and the process lives.
func checkStorePanics(h *harness) {
	for _, v := range visits {
		for _, op := range []string{opLoad, opMark, opCreate, opSwap, opEnd, opList, opEndUser} {
			user, token, other := h.visitors()
			did := false
			h.store.on(func(got string) error {
				if got == op {
					did = true
					panic(errors.New("a bug in the store"))
				}
				return nil
			})
			resp := h.send(v.request(h, user, token, other))
			h.store.on(nil)
			if !did {
				assert.Less(h, resp.status, 300, "%s: %s", v.route, op)
				continue
			}
			assert.Equal(h, 500, resp.status, "%s: %s", v.route, op)
			assert.Empty(h, resp.header["Set-Cookie"], "%s: %s", v.route, op)
			assert.NotContains(h, resp.body, "bug")
			v.afterFailure(h, resp, user, token, other, v.route+": a panic of "+op)
		}
	}
	for _, path := range []string{"/readyz", "/admin/users/u/sessions"} {
		h.store.on(func(string) error { panic(errors.New("a bug in the store")) })
		resp, err := h.admin.send(request{method: "GET", path: path}) // no bug is documented
		h.store.on(nil)
		assert.NoError(h, err)
		assert.Equal(h, 500, resp.status, path)
	}
	assert.Equal(h, 200, h.adminDo("GET", "/readyz").status)
}

// A store that answers nothing until its deadline holds up nobody who does not ask it, and heals.
func checkStoreBlocks(h *harness) {
	user, token, other := h.visitors()
	blocked := make(chan struct{})
	entered := make(chan struct{}, 64)
	h.store.on(func(string) error {
		entered <- struct{}{}
		<-blocked
		return fmt.Errorf("%w: %w", coatcheck.ErrUnavailable, context.DeadlineExceeded)
	})
	answers := make(chan response, len(visits))
	for _, v := range visits {
		go func() {
			resp, _ := h.wire.send(v.request(h, user, token, other))
			answers <- resp
		}()
	}
	for range visits {
		<-entered
	}
	start := time.Now()
	assert.Equal(h, anonymousView, h.get("/auth/me").body, "who needs no store is answered")
	health, err := h.admin.send(request{method: "GET", path: "/healthz"})
	assert.NoError(h, err)
	assert.Equal(h, 200, health.status)
	assert.Less(h, time.Since(start), patience/2)
	close(blocked)
	for range visits {
		resp := <-answers
		assert.Equal(h, answer{status: 503, code: "store_unavailable"}, h.answer(resp))
	}
	h.store.on(nil)
	assert.Equal(h, user, h.me(token))
	assert.Equal(h, user, h.me(other))
}
