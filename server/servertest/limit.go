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
	user, other := h.User(), h.Login(h.User())
	var tokens []string
	for i := range 3 * userLimit {
		tokens = append(tokens, h.Login(user))
		h.Clock.Step(time.Second)
		for j, token := range tokens {
			assert.Equal(h, j > i-userLimit, h.Alive(token), "session %d after login %d", j, i)
		}
	}
	resp := h.Get("/auth/me", h.Cookie(tokens[len(tokens)-userLimit-1]))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp), "one that was pushed out a moment ago is not cleared")
	assert.True(h, h.Alive(other))

	last := tokens[len(tokens)-1]
	next := h.Login(user, h.Cookie(last))
	assert.True(h, h.Alive(tokens[len(tokens)-userLimit]), "a login that replaces a session pushes none out")
	assert.True(h, h.Alive(next))
}

func checkOnlyLiveCount(h *harness) {
	user := h.User()
	login := func() string {
		h.Clock.Step(time.Second)
		return h.Login(user)
	}
	for range userLimit - 1 {
		login()
	}
	h.Clock.Step(ttl)
	kept := login()
	for range userLimit - 1 {
		login()
	}
	assert.True(h, h.Alive(kept), "expired ones do not count")
	ended := login()
	assert.False(h, h.Alive(kept))
	h.Post("/auth/logout", h.Cookie(ended))
	kept = login()
	for range userLimit - 1 {
		login()
	}
	assert.True(h, h.Alive(kept), "nor do ended ones")
}

func checkParallelLogins(h *harness) {
	for range 5 {
		user := h.User()
		tokens := make([]string, 50)
		h.AtOnce(len(tokens), func(i int) { tokens[i] = h.Login(user) })
		n := 0
		for _, token := range tokens {
			if h.Alive(token) {
				n++
			}
		}
		assert.Equal(h, userLimit, n)
		assert.Len(h, h.devices(h.Login(user)), userLimit)
	}
}

func checkDefaultLimit(h *harness) {
	user := h.User()
	first := h.Login(user)
	for range 99 {
		h.Clock.Step(time.Millisecond)
		h.Login(user)
	}
	assert.True(h, h.Alive(first), "a hundred")
	last := h.Login(user)
	assert.False(h, h.Alive(first), "and one")
	assert.Len(h, h.devices(last), 100, fmt.Sprint(user))
}
