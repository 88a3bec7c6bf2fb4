package storetest

import (
	"errors"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var userRules = []rule{
	{"List shows the user's live sessions and no others", listLive},
	{"List shows whole records", listWhole},
	{"List stops when it is told to", listStops},
	{"List holds no lock while yield runs", listUnlocked},
	{"EndUser ends all sessions of the user and no others", endUserAll},
	{"EndUser leaves tombstones until the given time", endUserTombstones},
	{"EndUser ends a thousand", endUserMany},
	{"EndUser spares the session to keep", endUserKeep},
	{"EndUser leaves a mark only where it is asked to", endUserLeavesNoMark},
	{"EndUser does nothing when the session to keep does not live", endUserKeepDead},
	{"EndUser counts live sessions only", endUserCountsLive},
	{"a mark refuses logins that began before it", markRefuses},
	{"a mark is left where there was no session", markWithoutSession},
	{"a mark is compared and has no order", markHasNoOrder},
	{"every mark is a new one", markIsNew},
	{"a mark stands for its life", markStands},
	{"a mark that is not there refuses nothing", markAbsent},
	{"a login that any mark suits is refused for none", markAny},
	{"a refused login changes nothing", markChangesNothing},
}

func listLive(h *harness) {
	user := h.user()
	assert.Empty(h, h.listed(user, h.now), "an unknown user")
	soon := h.now.Add(5 * time.Minute)
	short, long, ended := h.add(user, idleUntil(soon)), h.add(user), h.add(user)
	other, anonymous := h.add(h.user()), h.add("")
	h.end(ended)
	assert.Equal(h, keysOf(short, long), h.listed(user, h.now))
	assert.Equal(h, keysOf(long), h.listed(user, soon))
	assert.Equal(h, keysOf(other), h.listed(other.UserID(), h.now))
	h.lives(anonymous, h.now)
}

func listWhole(h *harness) {
	rec := largest(h)
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	require.NoError(h, h.List(h.Context(), rec.UserID(), h.now, func(got *coatcheck.Record) bool {
		h.same(rec, got)
		return true
	}))
}

func listStops(h *harness) {
	user := h.user()
	for range 5 {
		h.add(user)
	}
	calls := 0
	require.NoError(h, h.List(h.Context(), user, h.now, func(*coatcheck.Record) bool {
		calls++
		return calls < 2
	}))
	assert.Equal(h, 2, calls)
}

func listUnlocked(h *harness) {
	user := h.user()
	for range 3 {
		h.add(user)
	}
	h.unlocked("List", func() error {
		var within error
		err := h.List(h.Context(), user, h.now, func(rec *coatcheck.Record) bool {
			ended := h.tryEnd(rec, h.now)
			_, created := h.Create(h.Context(), h.session(user), coatcheck.CreateOptions{}, h.now)
			within = errors.Join(within, ended, created)
			return within == nil
		})
		return errors.Join(err, within)
	})
	assert.Len(h, h.listed(user, h.now), 3)
}

func endUserAll(h *harness) {
	user := h.user()
	a, b, other := h.add(user), h.add(user), h.add(h.user())
	assert.Equal(h, 2, h.endUser(user, coatcheck.Key{}, h.now))
	h.refused(coatcheck.ErrEnded, a, h.now)
	h.refused(coatcheck.ErrEnded, b, h.now)
	assert.Empty(h, h.listed(user, h.now))
	h.lives(other, h.now)
	assert.Zero(h, h.endUser(user, coatcheck.Key{}, h.now), "a second time")
}

func endUserTombstones(h *harness) {
	user := h.user()
	other, keep, last := h.add(user), h.add(user), h.add(h.user())
	assert.Equal(h, 1, h.endUser(user, keep.Key, h.now))
	assert.Equal(h, 1, h.endUser(last.UserID(), coatcheck.Key{}, h.now))
	h.refused(coatcheck.ErrEnded, other, h.justBefore())
	h.refused(coatcheck.ErrEnded, last, h.justBefore())
}

func endUserMany(h *harness) {
	const many = 1000
	user := h.user()
	h.addMany(many, func() string { return user })
	assert.Len(h, h.listed(user, h.now), many)
	assert.Equal(h, many, h.endUser(user, coatcheck.Key{}, h.now))
	assert.Empty(h, h.listed(user, h.now))
}

func endUserKeep(h *harness) {
	user := h.user()
	a, keep, b := h.add(user), h.add(user), h.add(user)
	before := h.mark(user, h.now)
	assert.Equal(h, 2, h.endUser(user, keep.Key, h.now))
	h.refused(coatcheck.ErrEnded, a, h.now)
	h.refused(coatcheck.ErrEnded, b, h.now)
	h.lives(keep, h.now)
	assert.Equal(h, keysOf(keep), h.listed(user, h.now))
	assert.NotEqual(h, before, h.mark(user, h.now))
	h.swap(h.next(keep), h.now) // the mark refuses logins only
	assert.Zero(h, h.endUser(user, keep.Key, h.now))
}

func endUserLeavesNoMark(h *harness) {
	user := h.user()
	keep, other := h.add(user), h.add(user)
	none := h.mark(user, h.now)
	for _, key := range []coatcheck.Key{keep.Key, keep.Key, {}, {}} { // each key a second time, with nothing left to end
		_, err := h.EndUser(h.Context(), user, key, false, h.now, h.until())
		require.NoError(h, err)
		assert.Equal(h, none, h.mark(user, h.now))
	}
	h.refused(coatcheck.ErrEnded, other, h.now)
	require.NoError(h, h.login(user, none, h.now), "a login that had begun before")

	h.endUser(user, coatcheck.Key{}, h.now)
	first := h.mark(user, h.now)
	require.NotZero(h, first)
	_, err := h.EndUser(h.Context(), user, coatcheck.Key{}, false, h.now, h.until())
	require.NoError(h, err)
	assert.Equal(h, first, h.mark(user, h.now), "an administrator's mark stays")
}

func endUserKeepDead(h *harness) {
	user := h.user()
	soon := h.now.Add(5 * time.Minute)
	live, expired, ended := h.add(user), h.add(user, idleUntil(soon)), h.add(user)
	other, anonymous := h.add(h.user()), h.add("")
	h.end(ended)
	for name, keep := range map[string]*coatcheck.Record{
		"expired": expired, "ended": ended, "missing": h.session(user), "another user's": other, "nobody's": anonymous,
	} {
		_, err := h.EndUser(h.Context(), user, keep.Key, true, soon, soon.Add(graveLife))
		require.ErrorIs(h, err, coatcheck.ErrNotFound, name)
		h.lives(live, soon)
		h.lives(other, soon)
		assert.Zero(h, h.mark(user, soon), name)
	}
}

func endUserCountsLive(h *harness) {
	user := h.user()
	soon := h.now.Add(5 * time.Minute)
	expired, ended := h.add(user, idleUntil(soon)), h.add(user)
	h.add(user)
	h.add(user)
	h.end(ended)
	assert.Equal(h, 2, h.endUser(user, coatcheck.Key{}, soon))
	h.refused(coatcheck.ErrNotFound, expired, soon)
}

// login is a Create by a login that read this mark before.
func (h *harness) login(user string, mark coatcheck.Mark, now time.Time) error {
	_, err := h.Create(h.Context(), h.session(user), coatcheck.CreateOptions{Mark: mark}, now)
	return err
}

func markRefuses(h *harness) {
	user := h.user()
	none := h.mark(user, h.now)
	require.Zero(h, none)
	h.add(user)
	h.endUser(user, coatcheck.Key{}, h.now)
	first := h.mark(user, h.now)
	require.NotZero(h, first)
	require.ErrorIs(h, h.login(user, none, h.now), coatcheck.ErrRevoked)
	assert.Empty(h, h.listed(user, h.now))
	require.NoError(h, h.login(user, first, h.now))
	require.NoError(h, h.login(user, first, h.now), "a mark can be used any number of times")

	h.endUser(user, coatcheck.Key{}, h.now)
	require.ErrorIs(h, h.login(user, none, h.now), coatcheck.ErrRevoked)
	require.ErrorIs(h, h.login(user, first, h.now), coatcheck.ErrRevoked)
	require.NoError(h, h.login(user, h.mark(user, h.now), h.now))
	require.NoError(h, h.login(h.user(), none, h.now), "another user")
}

func markWithoutSession(h *harness) {
	user := h.user()
	assert.Zero(h, h.endUser(user, coatcheck.Key{}, h.now))
	require.NotZero(h, h.mark(user, h.now))
	require.ErrorIs(h, h.login(user, 0, h.now), coatcheck.ErrRevoked)
}

func markHasNoOrder(h *harness) {
	user := h.user()
	h.endUser(user, coatcheck.Key{}, h.now)
	mark := h.mark(user, h.now)
	for _, other := range []coatcheck.Mark{mark + 1, mark - 1, coatcheck.AnyMark - 1, 1} {
		if other != mark && other != coatcheck.AnyMark {
			require.ErrorIs(h, h.login(user, other, h.now), coatcheck.ErrRevoked, "the mark %d, where %d stands", other, mark)
		}
	}
	require.NoError(h, h.login(user, mark, h.now))
}

func markIsNew(h *harness) {
	users := []string{h.user(), h.user()}
	seen := map[coatcheck.Mark]bool{0: true}
	for i := range 40 {
		user := users[i%len(users)]
		h.endUser(user, coatcheck.Key{}, h.now)
		mark := h.mark(user, h.now)
		require.False(h, seen[mark], "a mark was given twice, or is zero")
		seen[mark] = true
	}
}

// markStands cannot check when a mark expires, because a store may have a clock of its own for that. It checks that Create
// obeys what Mark returns.
func markStands(h *harness) {
	user := h.user()
	h.endUser(user, coatcheck.Key{}, h.now)
	mark := h.mark(user, h.now)
	last := h.now.Add(coatcheck.MarkLife - time.Millisecond)
	assert.Equal(h, mark, h.mark(user, last))
	require.ErrorIs(h, h.login(user, 0, last), coatcheck.ErrRevoked)

	gone := h.now.Add(coatcheck.MarkLife)
	if h.Shared() {
		require.ErrorIs(h, h.login(user, 0, gone), coatcheck.ErrRevoked, "by the clock of another process, which is ahead")
	}
	require.NoError(h, h.login(user, h.mark(user, gone), gone))
	require.NoError(h, h.login(user, mark, gone), "a login with the last mark")
}

func markAbsent(h *harness) {
	require.NoError(h, h.login(h.user(), 12345, h.now))
}

func markAny(h *harness) {
	user := h.user()
	require.NoError(h, h.login(user, coatcheck.AnyMark, h.now))
	h.endUser(user, coatcheck.Key{}, h.now)
	require.NotEqual(h, coatcheck.AnyMark, h.mark(user, h.now))
	require.NoError(h, h.login(user, coatcheck.AnyMark, h.now))
	require.ErrorIs(h, h.login(user, 0, h.now), coatcheck.ErrRevoked, "but any other is")
	assert.Len(h, h.listed(user, h.now), 1)
}

func markChangesNothing(h *harness) {
	user := h.user()
	keep := h.add(user)
	h.endUser(user, keep.Key, h.now)
	rec := h.session(user)
	var replaced coatcheck.Record
	_, err := h.Create(h.Context(), rec, coatcheck.CreateOptions{Limit: 1, Replace: keep.Key, Replaced: &replaced, Until: h.until()}, h.now)
	require.ErrorIs(h, err, coatcheck.ErrRevoked)
	h.lives(keep, h.now)
	h.refused(coatcheck.ErrNotFound, rec, h.now)
	assert.Equal(h, keysOf(keep), h.listed(user, h.now))
}
