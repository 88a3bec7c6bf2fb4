package servertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var nthFailureRules = []rule{
	{name: "every operation of every route, before and after it is done", config: withMode(believing), check: checkNthFails},
	{name: "one of n operations for a while", check: checkEveryNthFails},
	{name: "panics of the store", config: withMode(believing), check: checkStorePanics},
	{name: "a panic in the server", config: withMode(panicMode{}), check: checkServerPanic},
	{name: "a store that blocks until its deadline", check: checkStoreBlocks},
}

// visit is a request that can be sent again and again, each time by a new user with two devices.
type visit struct {
	route string
	// own and other say which device's session the request is to end.
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

// userWithDevices returns a new user and the tokens of two devices, one of them in the middle of a rotation and due for renewal.
func (h *harness) userWithDevices() (user, token, other string) {
	h.Helper()
	user = h.User()
	token, other = h.Refresh(h.Login(user)), h.Login(user)
	h.Clock.Step(renewEvery)
	return user, token, other
}

func (v visit) request(h *harness, user, token, other string) request {
	method, path, _ := strings.Cut(v.route, " ")
	path = strings.Replace(path, "/own", "/"+h.HandleOf(token), 1)
	path = strings.Replace(path, "/other", "/"+h.HandleOf(other), 1)
	return request{Method: method, Path: path, Head: []string{asJSON, h.Cookie(token)}, Body: `{"user_id":` + quote(user) + `}`}
}

// afterFailure is what must hold when the store works again, whatever failed: a session that the request was not to end
// lives, one that it was to end is either unchanged or gone, and the same request succeeds now.
func (v visit) afterFailure(h *harness, resp response, user, token, other, what string) {
	if resp.Status == 503 {
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp), what)
		assert.Equal(h, "1", resp.Header.Get("Retry-After"), what)
	}
	live := token
	if set := h.Token(resp); set != "" {
		live = set
	}
	if got := h.Me(live); !v.own || got != "" {
		assert.Equal(h, user, got, "%s: %s", what, resp.Body)
	}
	if got := h.Me(other); !v.other || got != "" {
		assert.Equal(h, user, got, what)
	}
	if resp.Status != 503 {
		return
	}
	again := h.Send(v.request(h, user, token, other))
	assert.NotEqual(h, 503, again.Status, what)
	assert.Less(h, again.Status, 500, what)
	if v.other {
		assert.Empty(h, h.Me(other), "%s, and then done again", what)
	}
	if v.own && h.Token(again) == "" {
		assert.Empty(h, h.Me(token), "%s, and then done again", what)
	}
}

// Whichever operation fails, before it was done or with its answer lost, no answer is wrong, no cookie is touched, and
// everything recovers.
func checkNthFails(h *harness) {
	for _, v := range visits {
		for _, done := range []bool{false, true} {
			for n := 0; ; n++ {
				user, token, other := h.userWithDevices()
				failed := h.failNth(n, done)
				resp := h.Send(v.request(h, user, token, other))
				h.Store.On(nil)
				h.Store.Afterwards(nil)
				v.afterFailure(h, resp, user, token, other, fmt.Sprintf("%s, operation %d (%s), done %v", v.route, n, *failed, done))
				if *failed == "" {
					assert.Less(h, resp.Status, 300, "%s without a failure", v.route)
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
		h.Store.Afterwards(hook)
	} else {
		h.Store.On(hook)
	}
	return failed
}

// The store loses one of n operations while several users send requests.
func checkEveryNthFails(h *harness) {
	for _, n := range []int{3, 5, 7, 11} {
		h.Store.On(func(string) error {
			if rand.IntN(n) == 0 { // every n-th operation would always be the same one of a repeated request
				return errLost
			}
			return nil
		})
		lost := make([][]string, 4)
		h.AtOnce(len(lost), func(i int) { lost[i] = stubborn(h) })
		h.Store.On(nil)
		for _, faults := range lost {
			assert.Empty(h, faults, "one operation of %d", n)
		}
	}
}

// stubborn is a user who tries again after each 503, through the recipe's routes. It returns what was wrong.
func stubborn(h *harness) (faults []string) {
	user := h.User()
	token := ""
	ask := func(method, path string, want int) response {
		for range 50 {
			req := request{Method: method, Path: path, Head: []string{asJSON}, Body: `{"user_id":` + quote(user) + `}`}
			if token != "" {
				req.Head = append(req.Head, h.Cookie(token))
			}
			resp, err := h.Wire.Send(req)
			switch {
			case err != nil:
				faults = append(faults, err.Error())
				return resp
			case resp.Status == 503 && len(resp.Header["Set-Cookie"]) > 0:
				faults = append(faults, path+": 503 with a cookie")
			case resp.Status == 503:
				continue
			case resp.Status != want:
				faults = append(faults, fmt.Sprintf("%s: %d %s", path, resp.Status, resp.Body))
			}
			return resp
		}
		faults = append(faults, path+": nothing but 503")
		return response{}
	}
	for range 5 {
		token = ""
		token = h.Token(ask("POST", "/auth/login", 200))
		if got := ask("GET", "/auth/me", 200); !strings.Contains(got.Body, user) {
			faults = append(faults, "me: "+got.Body)
		}
		if rotated := h.Token(ask("POST", "/auth/refresh", 200)); rotated != "" {
			token = rotated
		}
		if got := ask("GET", "/auth/me", 200); !strings.Contains(got.Body, user) {
			faults = append(faults, "me after refresh: "+got.Body)
		}
		ask("POST", "/auth/logout", 204)
		if got := ask("GET", "/auth/me", 200); strings.Contains(got.Body, user) {
			faults = append(faults, "me after logout: "+got.Body)
		}
	}
	return faults
}

// DOS-06: if the store panics, at whichever operation, the answer is 500 and the process lives.
func checkStorePanics(h *harness) {
	for _, v := range visits {
		for _, op := range []string{
			httpcontract.OpLoad, httpcontract.OpMark, httpcontract.OpCreate, httpcontract.OpSwap, httpcontract.OpEnd,
			httpcontract.OpList, httpcontract.OpEndUser,
		} {
			user, token, other := h.userWithDevices()
			did := false
			h.Store.On(func(got string) error {
				if got == op {
					did = true
					panic(errors.New("a bug in the store"))
				}
				return nil
			})
			resp := h.Send(v.request(h, user, token, other))
			h.Store.On(nil)
			if !did {
				assert.Less(h, resp.Status, 300, "%s: %s", v.route, op)
				continue
			}
			assert.Equal(h, 500, resp.Status, "%s: %s", v.route, op)
			assert.Empty(h, resp.Header["Set-Cookie"], "%s: %s", v.route, op)
			assert.NotContains(h, resp.Body, "bug")
			v.afterFailure(h, resp, user, token, other, v.route+": a panic of "+op)
		}
	}
	for _, path := range []string{"/readyz", "/admin/users/u/sessions", "/admin/sessions"} {
		h.Store.On(func(string) error { panic(errors.New("a bug in the store")) })
		resp, err := h.admin.Send(request{Method: "GET", Path: path}) // a 500 of a defect is not in the document
		h.Store.On(nil)
		assert.NoError(h, err)
		assert.Equal(h, 500, resp.Status, path)
	}
	assert.Equal(h, 200, h.adminDo("GET", "/readyz").Status)
}

// A store that does not answer until the deadline delays no request that does not need it, and recovers.
func checkStoreBlocks(h *harness) {
	user, token, other := h.userWithDevices()
	blocked := make(chan struct{})
	entered := make(chan struct{}, 64)
	h.Store.On(func(string) error {
		entered <- struct{}{}
		<-blocked
		return fmt.Errorf("%w: %w", coatcheck.ErrUnavailable, context.DeadlineExceeded)
	})
	answers := make(chan response, len(visits))
	for _, v := range visits {
		go func() {
			resp, _ := h.Wire.Send(v.request(h, user, token, other))
			answers <- resp
		}()
	}
	for range visits {
		<-entered
	}
	start := time.Now()
	assert.Equal(h, anonymousView, h.Get("/auth/me").Body, "a request that needs no store is answered")
	health, err := h.admin.Send(request{Method: "GET", Path: "/healthz"})
	assert.NoError(h, err)
	assert.Equal(h, 200, health.Status)
	assert.Less(h, time.Since(start), patience/2)
	close(blocked)
	for range visits {
		resp := <-answers
		assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp))
	}
	h.Store.On(nil)
	assert.Equal(h, user, h.Me(token))
	assert.Equal(h, user, h.Me(other))
}
