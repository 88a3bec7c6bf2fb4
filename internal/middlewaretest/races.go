package middlewaretest

import (
	"errors"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var raceRules = []rule{
	{"different values both win", checkDifferentValues},
	{"the later write of one value wins", checkSameValue},
	{"updates lose nothing", checkUpdates},
	{"a write to a session that ended is dropped", checkWriteAfterEnd},
	{"a write by a token that is not admitted any more is dropped", checkWriteAfterCycle},
	{"a stolen old token does not ride a conflict", checkStolenToken},
	{"newer values follow into the login", checkValuesFollowLogin},
}

func checkDifferentValues(h *harness) {
	h.app(basics)
	token := h.begin("u")
	const n = 30
	h.AtOnce(n, func(i int) {
		name := strconv.Itoa(i)
		assert.Equal(h, 200, h.rawPost("/set?name=v"+name+"&value="+name, token).Status)
	})
	for i := range n {
		name := strconv.Itoa(i)
		assert.Equal(h, `"`+name+`"`, h.value("v"+name, token))
	}
}

// rawPost is post for answers that may repeat a token.
func (h *harness) rawPost(path, token string) response {
	h.Helper()
	resp, err := h.Wire.Send(request{Method: "POST", Path: path, Head: []string{h.Cookie(token)}})
	require.NoError(h, err)
	return resp
}

func checkSameValue(h *harness) {
	h.app(basics)
	token := h.begin("u")
	h.Store.Once(httpcontract.OpSwap, func() { h.rawPost("/set?name=a&value=first", token) })
	assert.Equal(h, 200, h.rawPost("/set?name=a&value=second", token).Status)
	assert.Equal(h, `"second"`, h.value("a", token))
}

// CON-03 through HTTP.
func checkUpdates(h *harness) {
	handlers := with(basics)
	handlers["/count"] = func(c Context) error {
		return coatcheck.Update(c.Session(), "n", func(n int) int { return n + 1 })
	}
	h.app(handlers)
	token := h.begin("u")
	const n = 100
	h.AtOnce(n, func(int) { assert.Equal(h, 200, h.rawPost("/count", token).Status) })
	assert.Equal(h, strconv.Itoa(n), h.value("n", token))
}

func checkWriteAfterEnd(h *harness) {
	handlers := with(basics)
	handlers["/slow"] = func(c Context) error {
		h.rawPost("/logout", c.Query("token"))
		return errors.Join(c.Session().Insert("a", 1), text(c, "the answer stands"))
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.Post("/slow?token="+token, h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, "the answer stands", resp.Body)
	assert.Equal(h, "", h.who(token))
	assert.Empty(h, h.value("a", token))
	assert.Empty(h, h.sessionsOf("u"))
	creates := h.Store.Calls(httpcontract.OpCreate)
	resp = h.Post("/set?name=a&value=1", h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp), "a late request begins no session: its cookie would replace the successor's in the jar")
	assert.Equal(h, creates, h.Store.Calls(httpcontract.OpCreate))
	assert.Equal(h, "", h.who(token))
}

func checkWriteAfterCycle(h *harness) {
	handlers := with(basics)
	var next string
	handlers["/cycle"] = func(c Context) error {
		c.Session().CycleID()
		return nil
	}
	handlers["/slow"] = func(c Context) error {
		next = h.Token(h.Post("/cycle", h.Cookie(c.Query("token"))))
		return c.Session().Insert("a", 1)
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.Post("/slow?token="+token, h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, "u", h.who(next))
	assert.Empty(h, h.value("a", next))
}

// The thief presents the old token while it is admitted; before the thief's write the owner rotates twice. That write must
// not be applied again on the current record, and the thief's rotation must not give the thief the session's next secret.
func checkStolenToken(h *harness) {
	handlers := with(basics)
	var owner string
	handlers["/thief"] = func(c Context) error {
		owner = h.Token(h.Post("/rotate", h.Cookie(h.Token(h.Post("/rotate", h.Cookie(owner))))))
		s := c.Session()
		s.Rotate()
		return s.Insert("stolen", true)
	}
	h.app(handlers)
	stolen := h.begin("u")
	owner = h.Token(h.Post("/rotate", h.Cookie(stolen)))
	require.Equal(h, "u", h.who(stolen))
	resp := h.Post("/thief", h.Cookie(stolen))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp), "no cookie for the thief")
	assert.Equal(h, "u", h.who(owner))
	assert.Empty(h, h.value("stolen", owner))
	assert.Equal(h, "", h.who(stolen))
}

func checkValuesFollowLogin(h *harness) {
	h.app(basics)
	token := h.Token(h.Post("/set?name=cart&value=1"))
	h.Store.Once(httpcontract.OpCreate, func() { h.rawPost("/set?name=cart&value=2", token) })
	user := h.begin("u", h.Cookie(token))
	assert.Equal(h, `"2"`, h.value("cart", user), "a write between load and end")

	token = h.Token(h.Post("/set?name=cart&value=1"))
	h.Store.Once(httpcontract.OpCreate, func() { h.rawPost("/logout", token) })
	user = h.begin("u", h.Cookie(token))
	assert.Empty(h, h.value("cart", user), "it had ended: its values do not come back")
}
