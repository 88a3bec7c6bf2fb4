package coatcheck_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// positive is what an application's function of an Update may be: it panics on a value that it does not expect.
func positive(n int) int {
	if n < 0 {
		panic("negative")
	}
	return n + 1
}

// When the function of an Update panics as it is run again, and the application recovers, nothing of the request is persisted: neither
// what another request has committed meanwhile is overwritten, nor does a later commit of the same request write anything.
func TestPanicInAnUpdateThatRunsAgain(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	token := w.begin("n", 1)
	r := w.open(token)
	require.NoError(t, coatcheck.Update(r.Lend(), "n", positive))
	w.do(token, func(s *coatcheck.Session) {
		require.NoError(t, s.Insert("n", -5))
		require.NoError(t, s.Insert("order", "paid"))
	})
	assert.Panics(t, func() { _ = r.Finish(ctx) })
	assert.Empty(t, r.ID(), "nothing is shown that is not persisted")
	require.Error(t, r.Commit(ctx))
	require.NoError(t, r.Finish(ctx), "the answer is that of what recovered")
	assert.Equal(t, coatcheck.KeepCookie, r.Cookie())
	assert.Equal(t, "-5", w.value(token, "n"))
	assert.Equal(t, `"paid"`, w.value(token, "order"))
}

// The login's own commit runs it again, too, once the new session stands.
func TestPanicInTheCommitOfALogin(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	token := w.begin("n", 1)
	r := w.open(token)
	require.NoError(t, coatcheck.Update(r.Lend(), "n", positive))
	require.NoError(t, r.Authenticate("u"))
	w.do(token, func(s *coatcheck.Session) { require.NoError(t, s.Insert("n", -5)) })
	assert.Panics(t, func() { _ = r.Commit(ctx) })
	assert.Empty(t, w.data.liveOf("u", w.clock.Now()), "the new session must not outlive its login")
	assert.Empty(t, r.UserID())
	require.NoError(t, r.Finish(ctx))
	assert.Equal(t, coatcheck.KeepCookie, r.Cookie())
	assert.Empty(t, w.data.liveOf("u", w.clock.Now()), "no second try")
	assert.Empty(t, w.value(token, "n"), "the session that the login was to replace had ended by then, and stays so")
}

// Authenticate runs it again where the login leaves another user's session.
func TestPanicInAuthenticate(t *testing.T) {
	w := newWorld(t)
	token := w.login("ann")
	w.do(token, func(s *coatcheck.Session) { require.NoError(t, s.Insert("cart", map[string]int{"a": 1})) })
	r := w.open(token)
	require.NoError(t, coatcheck.Update(r.Lend(), "cart", func(cart map[string]int) map[string]int {
		cart["b"] = 2 // panics without a cart
		return cart
	}))
	assert.Panics(t, func() { _ = r.Authenticate("bob") })
	assert.False(t, r.LoginPending())
	assert.Equal(t, "ann", r.UserID())
	w.finish(r)
	assert.Empty(t, w.data.liveOf("bob", w.clock.Now()))
	assert.Equal(t, "ann", w.user(token))
	assert.JSONEq(t, `{"a":1,"b":2}`, w.value(token, "cart"), "what was asked for before the login stands")
}
