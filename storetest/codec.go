package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A store keeps bytes and reads a few of them, so it must treat records of the codec's first and second version alike.
var codecRules = []rule{
	{"an extended record loads byte for byte", extendedLoads},
	{"an extended record is swapped, and conflicts are told of", extendedSwaps},
	{"an extended record ends", extendedEnds},
	{"an extended record expires", extendedExpires},
	{"an extended record is listed, and ends with all of its user's", extendedInIndex},
	{"an extended record counts against the limit", extendedLimit},
	{"an extended record is replaced", extendedReplaced},
}

// addExtended creates an extended session.
func (h *harness) addExtended(user string, edits ...edit) *coatcheck.Record {
	h.Helper()
	rec := extended(h, h.session(user, edits...))
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	return rec
}

func extendedLoads(h *harness) {
	h.lives(h.addExtended(h.user()), h.now)
	h.lives(h.addExtended(""), h.now)
}

func extendedSwaps(h *harness) {
	rec := h.addExtended(h.user())
	next := h.next(rec, func(head *coatcheck.Header) { head.ID, head.PrevID = newID(), head.ID })
	h.swap(next, h.now)
	h.lives(next, h.now)
	assert.Equal(h, rec.LastIP(), next.LastIP())
	cur := largest(h)
	require.ErrorIs(h, h.Swap(h.Context(), h.next(rec), rec.Version, h.now, cur), coatcheck.ErrConflict)
	h.same(next, cur)

	plain := h.add(h.user())
	bound := extended(h, h.next(plain)) // a session that is bound later on
	h.swap(bound, h.now)
	h.lives(bound, h.now)
}

func extendedEnds(h *harness) {
	rec := h.addExtended(h.user())
	var last coatcheck.Record
	require.Error(h, h.End(h.Context(), rec.Key, h.user(), h.now, h.until(), &last), "by another user's name")
	require.NoError(h, h.End(h.Context(), rec.Key, rec.UserID(), h.now, h.until(), &last))
	h.same(rec, &last)
	h.refused(coatcheck.ErrEnded, rec, h.now)
	require.ErrorIs(h, h.trySwap(h.next(rec), h.now), coatcheck.ErrNotFound)
}

func extendedExpires(h *harness) {
	soon := h.now.Add(5 * time.Minute)
	idle, absolute := h.addExtended(h.user(), idleUntil(soon)), h.addExtended(h.user(), absoluteUntil(soon))
	for _, rec := range []*coatcheck.Record{idle, absolute} {
		h.lives(rec, soon.Add(-time.Millisecond))
		require.ErrorIs(h, h.trySwap(h.next(rec), soon), coatcheck.ErrNotFound)
		h.refused(coatcheck.ErrNotFound, rec, soon)
	}
}

func extendedInIndex(h *harness) {
	user := h.user()
	recs := []*coatcheck.Record{h.addExtended(user), h.add(user), h.addExtended(user)}
	assert.Equal(h, keysOf(recs...), h.listed(user, h.now))
	assert.Equal(h, 2, h.endUser(user, recs[0].Key, h.now))
	assert.Equal(h, keysOf(recs[0]), h.listed(user, h.now))
	assert.Equal(h, 1, h.endUser(user, coatcheck.Key{}, h.now))
	for _, rec := range recs {
		h.refused(coatcheck.ErrEnded, rec, h.now)
	}
}

func extendedLimit(h *harness) {
	user := h.user()
	oldest := h.addExtended(user, createdAt(h.now.Add(-2*time.Minute)))
	old := h.add(user, createdAt(h.now.Add(-time.Minute)))
	rec := extended(h, h.session(user))
	assert.Equal(h, 1, h.create(rec, h.limit(2), h.now))
	h.refused(coatcheck.ErrEnded, oldest, h.now)
	assert.Equal(h, keysOf(old, rec), h.listed(user, h.now))
}

func extendedReplaced(h *harness) {
	user := h.user()
	old, rec := h.addExtended(user), h.session(user)
	replaced := largest(h)
	h.create(rec, coatcheck.CreateOptions{Replace: old.Key, Replaced: replaced, Until: h.until()}, h.now)
	h.same(old, replaced)
	h.refused(coatcheck.ErrEnded, old, h.now)
	assert.Equal(h, keysOf(rec), h.listed(user, h.now))
}
