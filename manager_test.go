package coatcheck_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// listed returns the IDs of a user's sessions as the manager lists them.
func listed(t *testing.T, w *world, user string) []string {
	t.Helper()
	var ids []string
	sessions, err := w.m.List(t.Context(), user)
	require.NoError(t, err)
	for _, s := range sessions {
		ids = append(ids, s.ID.String())
	}
	slices.Sort(ids)
	return ids
}

func ids(t *testing.T, tokens ...string) []string {
	t.Helper()
	var all []string
	for _, text := range tokens {
		tok, ok := coatcheck.ParseToken([]byte(text))
		require.True(t, ok)
		all = append(all, tok.ID().String())
	}
	slices.Sort(all)
	return all
}

func TestManagerList(t *testing.T) {
	w := newWorld(t)
	expired := w.login("u")
	w.clock.Step(ttl)
	one, two, ended := w.login("u"), w.login("u"), w.login("u")
	w.login("v")
	w.begin("a", 1)
	w.logout(ended)
	assert.Equal(t, ids(t, one, two), listed(t, w, "u"))
	assert.NotContains(t, listed(t, w, "u"), ids(t, expired)[0])
	two = w.refresh(two).token
	assert.Equal(t, ids(t, one, two), listed(t, w, "u"), "the ID after a rotation")
	assert.Empty(t, listed(t, w, "nobody"))
	assert.Empty(t, listed(t, w, strings.Repeat("u", 257)))
}

// A session that --sessions-not-before made dead is not listed either.
func TestManagerListNotBefore(t *testing.T) {
	w := newWorld(t, func(p *coatcheck.Policy) { p.NotBefore = time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC) })
	w.login("u")
	w.clock.Step(time.Second)
	live := w.login("u")
	assert.Equal(t, ids(t, live), listed(t, w, "u"))
}

func TestManagerEnd(t *testing.T) {
	w := newWorld(t)
	one, two := w.login("u"), w.login("u")
	require.NoError(t, w.m.End(t.Context(), "u", key(t, one)))
	assert.Empty(t, w.user(one))
	assert.Equal(t, "u", w.user(two))
	assert.ErrorIs(t, w.m.End(t.Context(), "u", key(t, one)), coatcheck.ErrNotFound)
	assert.Equal(t, coatcheck.KeepCookie, w.do(one, nothing).cookie, "a tombstone")
	w.clock.Step(grace)
	assert.Equal(t, coatcheck.ClearCookie, w.do(one, nothing).cookie, "for one grace")
}

func TestManagerEndUser(t *testing.T) {
	w := newWorld(t)
	one, two, other := w.login("u"), w.login("u"), w.login("v")
	n, err := w.m.EndOthers(t.Context(), "u", key(t, one))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, []string{"u", "", "v"}, []string{w.user(one), w.user(two), w.user(other)})

	_, err = w.m.EndOthers(t.Context(), "u", key(t, two))
	require.ErrorIs(t, err, coatcheck.ErrNotFound, "the session to keep has ended")
	assert.Equal(t, "u", w.user(one), "so nothing was done")

	n, err = w.m.EndUser(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Empty(t, w.user(one))
	n, err = w.m.EndUser(t.Context(), strings.Repeat("u", 257))
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, "v", w.user(other))
}

// everything returns all sessions of all users, by pages of that size, and how many pages there were.
func everything(t *testing.T, w *world, limit int, want func(*coatcheck.Record) bool) (all []coatcheck.Info, pages int) {
	t.Helper()
	for cursor := ""; ; {
		page, next, err := w.m.ListAll(t.Context(), cursor, limit, want)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), limit)
		all, pages = append(all, page...), pages+1
		if cursor = next; cursor == "" {
			return all, pages
		}
	}
}

func TestManagerListAll(t *testing.T) {
	w := newWorld(t)
	w.login("early")
	w.clock.Step(ttl)
	w.begin("a", 1) // it has no user
	w.logout(w.login("u"))
	users := map[string]int{}
	for i := range 12 {
		user := fmt.Sprint("user ", i%5)
		users[user]++
		w.login(user)
	}
	for _, limit := range []int{1, 5, 12, 100} {
		all, pages := everything(t, w, limit, nil)
		shown := map[string]int{}
		for _, s := range all {
			shown[s.UserID]++
		}
		assert.Equal(t, users, shown)
		assert.LessOrEqual(t, pages, 13/limit+2)
	}
	some, pages := everything(t, w, 2, func(r *coatcheck.Record) bool { return r.UserID() == "user 1" })
	require.Len(t, some, users["user 1"])
	assert.LessOrEqual(t, pages, 3, "the limit counts what is wanted")
	list, err := w.m.List(t.Context(), "user 1")
	require.NoError(t, err)
	assert.ElementsMatch(t, list, some, "the same members")

	w.clock.Step(time.Second)
	w.m.SetNotBefore(w.clock.Now())
	w.login("late")
	all, _ := everything(t, w, 10, nil)
	require.Len(t, all, 1, "the others are dead")
	assert.Equal(t, "late", all[0].UserID)

	_, _, err = w.m.ListAll(t.Context(), "?", 10, nil)
	require.ErrorIs(t, err, coatcheck.ErrCursor)
	w.store.before = func(context.Context, string) error { return errDisk }
	_, _, err = w.m.ListAll(t.Context(), "", 10, nil)
	assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
	assert.ErrorIs(t, err, errDisk)
}

// endlessStore is so large that no scan of it comes to an end.
type endlessStore struct{ *mapStore }

func (endlessStore) Scan(context.Context, string, int, time.Time, func(*coatcheck.Record)) (string, error) {
	return "more", nil
}

// A page takes a bounded time, and is given up with its caller.
func TestManagerListAllIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.Store = endlessStore{w.data}
	page, next, err := w.m.ListAll(t.Context(), "", 10, nil)
	require.NoError(t, err)
	assert.Empty(t, page)
	assert.Equal(t, "more", next)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, next, err = w.m.ListAll(ctx, "", 10, nil)
	require.NoError(t, err)
	assert.Equal(t, "more", next)
}

func TestManagerTellsOfOutages(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, func(p *coatcheck.Policy) { p.RevokeOnReuse = true })
	old := w.login("u")
	w.do(old, (*coatcheck.Session).CycleID)
	w.store.before = func(_ context.Context, op string) error {
		if op == opLoad {
			return nil
		}
		return errDisk
	}
	_, endUser := w.m.EndUser(ctx, "u")
	_, list := w.m.List(ctx, "u")
	s := new(coatcheck.Request)
	open := func(cookies ...string) error {
		return w.m.Open(ctx, s, presented(cookies...), coatcheck.Client{}, w.clock.Now())
	}
	for name, err := range map[string]error{
		"list":                        list,
		"end":                         w.m.End(ctx, "u", key(t, old)),
		"end user":                    endUser,
		"revoke on reuse":             open(old),
		"revoke on reuse, of several": open(text(coatcheck.NewToken(coatcheck.TagOf(""))), old),
	} {
		assert.ErrorIs(t, err, coatcheck.ErrUnavailable, name)
		assert.ErrorIs(t, err, errDisk, name)
	}
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
}
