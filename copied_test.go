package coatcheck_test

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// lentText is a text that is overwritten, as those of a framework may be that lends its buffers.
type lentText []byte

func (b lentText) text() string { return unsafe.String(&b[0], len(b)) }

func (b lentText) overwrite() { clear(b) }

// What a handler hands over is copied by the call.
func TestArgumentsAreCopied(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	first := w.do("", func(s *coatcheck.Session) {
		require.NoError(t, s.Authenticate("anne"))
		require.NoError(t, s.Insert("removed", 1))
	}).token
	_, err := w.m.EndUser(ctx, "bert") // whoever logs in as somebody else than BeginLogin was told is refused
	require.NoError(t, err)

	for user, cookies := range map[string][]string{"anne": {first}, "bert": nil} {
		r := new(coatcheck.Request)
		lent := map[string]lentText{}
		lend := func(text string) string {
			lent[text] = lentText(text)
			return lent[text].text()
		}
		agent := []byte("browser")
		require.NoError(t, w.m.Open(ctx, r, presented(cookies...), coatcheck.Client{UserAgent: agent}, w.clock.Now()))
		s := r.Lend()
		require.NoError(t, s.BeginLogin(ctx, lend(user)))
		lent[user].overwrite()
		require.NoError(t, s.Authenticate(lend(user)))
		require.NoError(t, s.Insert(lend("inserted"), lend("value")))
		require.NoError(t, coatcheck.Update(s, lend("updated"), func(n int) int { return n + 1 }))
		s.Remove(lend("removed"))
		clear(agent)
		for _, b := range lent {
			b.overwrite()
		}
		require.NoError(t, s.Commit(ctx), "it applies the changes once more to what it finds")
		assert.Equal(t, user, s.UserID())
		assert.Equal(t, []string{`inserted="value"`, "updated=1"}, entries(s))
		list, err := w.m.List(ctx, user)
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, "browser", list[0].UserAgent)
	}
}

// keepingStore keeps the user IDs that it is given, as one does whose command is sent when the caller waits no longer.
type keepingStore struct {
	coatcheck.Store
	users []string
}

func (s *keepingStore) End(_ context.Context, _ coatcheck.Key, user string, _, _ time.Time, _ *coatcheck.Record) error {
	s.users = append(s.users, user)
	return coatcheck.ErrUnavailable
}

func (s *keepingStore) EndUser(_ context.Context, user string, _ coatcheck.Key, _ bool, _, _ time.Time) (int, error) {
	s.users = append(s.users, user)
	return 0, coatcheck.ErrUnavailable
}

func TestManagersArgumentsAreCopied(t *testing.T) {
	ctx, store := context.Background(), &keepingStore{Store: newMapStore()}
	m, err := coatcheck.NewManager(store, coatcheck.Policy{})
	require.NoError(t, err)
	lent := lentText("anne")
	require.ErrorIs(t, m.End(ctx, lent.text(), coatcheck.Key{1}), coatcheck.ErrUnavailable)
	_, err = m.EndUser(ctx, lent.text())
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	_, err = m.EndOthers(ctx, lent.text(), coatcheck.Key{})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	lent.overwrite()
	assert.Equal(t, []string{"anne", "anne", "anne"}, store.users)
}
