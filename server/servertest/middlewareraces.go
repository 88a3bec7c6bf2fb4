package servertest

import (
	"errors"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
)

var middlewareRaceRules = []rule{
	{name: "different values both win", unserved: true, check: checkDifferentValues},
	{name: "the later write of one value wins", unserved: true, check: checkSameValue},
	{name: "updates lose nothing", unserved: true, check: checkUpdates},
	{name: "a write to a session that ended is dropped", unserved: true, check: checkWriteAfterEnd},
	{name: "a write by a token that is not admitted any more is dropped", unserved: true, check: checkWriteAfterCycle},
	{name: "a stolen old token does not ride a conflict", unserved: true, check: checkStolenToken},
	{name: "newer values follow into the login", unserved: true, check: checkValuesFollowLogin},
}

func checkDifferentValues(h *harness) {
	h.app(basics())
	token := h.begin("u")
	const n = 30
	h.parallel(n, func(i int) {
		name := strconv.Itoa(i)
		assert.Equal(h, 200, h.rawPost("/set?name=v"+name+"&value="+name, token).status)
	})
	for i := range n {
		name := strconv.Itoa(i)
		assert.Equal(h, `"`+name+`"`, h.value("v"+name, token))
	}
}

// rawPost is post for answers that may repeat a token.
func (h *harness) rawPost(path, token string) response {
	h.Helper()
	resp, err := h.wire.send(request{method: "POST", path: path, head: []string{h.cookie(token)}})
	require.NoError(h, err)
	return resp
}

func checkSameValue(h *harness) {
	h.app(basics())
	token := h.begin("u")
	h.store.once(opSwap, func() { h.rawPost("/set?name=a&value=first", token) })
	assert.Equal(h, 200, h.rawPost("/set?name=a&value=second", token).status)
	assert.Equal(h, `"second"`, h.value("a", token))
}

// CON-03 through HTTP.
func checkUpdates(h *harness) {
	handlers := basics()
	handlers["count"] = func(c *fiber.Ctx) error {
		return coatcheck.Update(fibersession.Get(c), "n", func(n int) int { return n + 1 })
	}
	// The bound on retries is about how long a client waits, and a busy machine is slow; what is lost does not depend on it.
	h.retryFor = time.Minute
	h.app(handlers)
	token := h.begin("u")
	const n = 100
	h.parallel(n, func(int) { assert.Equal(h, 200, h.rawPost("/count", token).status) })
	assert.Equal(h, strconv.Itoa(n), h.value("n", token))
}

func checkWriteAfterEnd(h *harness) {
	handlers := basics()
	handlers["slow"] = func(c *fiber.Ctx) error {
		h.rawPost("/logout", c.Query("token"))
		return errors.Join(fibersession.Get(c).Insert("a", 1), c.SendString("the answer stands"))
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.post("/slow?token="+token, h.cookie(token))
	assert.Equal(h, answer{status: 200}, h.answer(resp))
	assert.Equal(h, "the answer stands", resp.body)
	assert.Equal(h, "", h.who(token))
	assert.Empty(h, h.value("a", token))
	assert.Empty(h, h.devicesOf("u"))
	creates := h.store.calls(opCreate)
	resp = h.post("/set?name=a&value=1", h.cookie(token))
	assert.Equal(h, answer{status: 200}, h.answer(resp), "a late request begins no session: its cookie would replace the successor's in the jar")
	assert.Equal(h, creates, h.store.calls(opCreate))
	assert.Equal(h, "", h.who(token))
}

func checkWriteAfterCycle(h *harness) {
	handlers := basics()
	var next string
	handlers["cycle"] = func(c *fiber.Ctx) error {
		fibersession.Get(c).CycleID()
		return nil
	}
	handlers["slow"] = func(c *fiber.Ctx) error {
		next = h.token(h.post("/cycle", h.cookie(c.Query("token"))))
		return fibersession.Get(c).Insert("a", 1)
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.post("/slow?token="+token, h.cookie(token))
	assert.Equal(h, answer{status: 200}, h.answer(resp))
	assert.Equal(h, "u", h.who(next))
	assert.Empty(h, h.value("a", next))
}

// The thief presents the old token while it is admitted; before his write the owner rotates twice. His write must not be
// applied again on the current record, nor his rotation bring him its next secret.
func checkStolenToken(h *harness) {
	handlers := basics()
	var owner string
	handlers["thief"] = func(c *fiber.Ctx) error {
		owner = h.token(h.post("/rotate", h.cookie(h.token(h.post("/rotate", h.cookie(owner))))))
		s := fibersession.Get(c)
		s.Rotate()
		return s.Insert("stolen", true)
	}
	h.app(handlers)
	stolen := h.begin("u")
	owner = h.token(h.post("/rotate", h.cookie(stolen)))
	require.Equal(h, "u", h.who(stolen))
	resp := h.post("/thief", h.cookie(stolen))
	assert.Equal(h, answer{status: 200}, h.answer(resp), "no cookie for the thief")
	assert.Equal(h, "u", h.who(owner))
	assert.Empty(h, h.value("stolen", owner))
	assert.Equal(h, "", h.who(stolen))
}

func checkValuesFollowLogin(h *harness) {
	h.app(basics())
	token := h.token(h.post("/set?name=cart&value=1"))
	h.store.once(opCreate, func() { h.rawPost("/set?name=cart&value=2", token) })
	user := h.begin("u", h.cookie(token))
	assert.Equal(h, `"2"`, h.value("cart", user), "a write between load and end")

	token = h.token(h.post("/set?name=cart&value=1"))
	h.store.once(opCreate, func() { h.rawPost("/logout", token) })
	user = h.begin("u", h.cookie(token))
	assert.Empty(h, h.value("cart", user), "it had ended: its values do not come back")
}
