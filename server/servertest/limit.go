package servertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server"
)

var limitRules = []rule{
	{name: "the oldest ends", config: limited, check: checkOldestEnds},
	{name: "only live sessions count", config: limited, check: checkOnlyLiveCount},
	{name: "exact under parallel logins", config: limited, check: checkParallelLogins},
	{name: "default", check: checkDefaultLimit},
}

const userLimit = 5

func limited(cfg *server.Config) { cfg.Policy.MaxPerUser = userLimit }

func checkOldestEnds(h *harness) {
	user, other := h.user(), h.login(h.user())
	var tokens []string
	for i := range 3 * userLimit {
		tokens = append(tokens, h.login(user))
		h.clock.step(time.Second)
		for j, token := range tokens {
			assert.Equal(h, j > i-userLimit, h.alive(token), "session %d after login %d", j, i)
		}
	}
	resp := h.get("/auth/me", h.cookie(tokens[len(tokens)-userLimit-1]))
	assert.Equal(h, answer{status: 200}, h.answer(resp), "one that was pushed out a moment ago is not cleared")
	assert.True(h, h.alive(other))

	last := tokens[len(tokens)-1]
	next := h.login(user, h.cookie(last))
	assert.True(h, h.alive(tokens[len(tokens)-userLimit]), "a login that replaces a session pushes none out")
	assert.True(h, h.alive(next))
}

func checkOnlyLiveCount(h *harness) {
	user := h.user()
	login := func() string {
		h.clock.step(time.Second)
		return h.login(user)
	}
	for range userLimit - 1 {
		login()
	}
	h.clock.step(ttl)
	kept := login()
	for range userLimit - 1 {
		login()
	}
	assert.True(h, h.alive(kept), "expired ones do not count")
	ended := login()
	assert.False(h, h.alive(kept))
	h.post("/auth/logout", h.cookie(ended))
	kept = login()
	for range userLimit - 1 {
		login()
	}
	assert.True(h, h.alive(kept), "nor do ended ones")
}

func checkParallelLogins(h *harness) {
	for range 5 {
		user := h.user()
		tokens := make([]string, 50)
		h.parallel(len(tokens), func(i int) { tokens[i] = h.login(user) })
		n := 0
		for _, token := range tokens {
			if h.alive(token) {
				n++
			}
		}
		assert.Equal(h, userLimit, n)
		assert.Len(h, h.devices(h.login(user)), userLimit)
	}
}

func checkDefaultLimit(h *harness) {
	user := h.user()
	first := h.login(user)
	for range 99 {
		h.clock.step(time.Millisecond)
		h.login(user)
	}
	assert.True(h, h.alive(first), "a hundred")
	last := h.login(user)
	assert.False(h, h.alive(first), "and one")
	assert.Len(h, h.devices(last), 100, fmt.Sprint(user))
}
