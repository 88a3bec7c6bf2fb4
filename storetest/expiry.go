package storetest

import (
	"errors"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var expiryRules = []rule{
	{"idle, to the millisecond", func(h *harness) { expiresAt(h, idleUntil) }},
	{"absolute, to the millisecond", func(h *harness) { expiresAt(h, absoluteUntil) }},
	{"an expired session cannot be swapped or ended", expiredIsGone},
	{"an expired session that is ended stays ended when the clock is set back", expiredIsEnded},
	{"End by another user's name leaves an expired session as it was", expiredOfAnother},
	{"a renewed session outlives its first expiry", renewedLives},
	{"a session whose expiry was brought forward does not outlive it", broughtForward},
}

// expiresAt checks both sides of an expiry. The times between two milliseconds count as the first.
func expiresAt(h *harness, expiry func(time.Time) edit) {
	end := time.UnixMilli(h.now.Add(10 * time.Minute).UnixMilli())
	rec := h.add(h.user(), expiry(end))
	for _, live := range []time.Time{h.now, end.Add(-time.Millisecond), end.Add(-time.Nanosecond)} {
		h.lives(rec, live)
		assert.Equal(h, keysOf(rec), h.listed(rec.UserID(), live))
	}
	for _, dead := range []time.Time{end, end.Add(time.Nanosecond), end.Add(time.Millisecond), end.Add(time.Hour)} {
		h.refused(coatcheck.ErrNotFound, rec, dead)
		assert.Empty(h, h.listed(rec.UserID(), dead))
	}
}

func expiredIsGone(h *harness) {
	end := h.now.Add(10 * time.Minute)
	user := h.user()
	rec := h.add(user, idleUntil(end))
	require.ErrorIs(h, h.trySwap(h.next(rec, idleUntil(end.Add(time.Hour))), end), coatcheck.ErrNotFound, "a renewal that comes too late")
	require.ErrorIs(h, h.tryEnd(rec, end), coatcheck.ErrNotFound)
	h.refused(coatcheck.ErrNotFound, rec, end) // not ErrEnded: there was nothing to end
	_, err := h.EndUser(h.Context(), user, rec.Key, true, end, end.Add(graveLife))
	require.ErrorIs(h, err, coatcheck.ErrNotFound, "as the session to keep")
	assert.Zero(h, h.endUser(user, coatcheck.Key{}, end))
	assert.Empty(h, h.listed(user, end))
}

// expiredIsEnded ends sessions by a clock that is ahead.
func expiredIsEnded(h *harness) {
	ahead := h.now.Add(idleLife)
	ended := h.add(h.user())
	require.ErrorIs(h, h.tryEnd(ended, ahead), coatcheck.ErrNotFound)
	user := h.user()
	all := h.add(user)
	assert.Zero(h, h.endUser(user, coatcheck.Key{}, ahead))
	other := h.user()
	kept, others := h.add(other, idleUntil(ahead.Add(time.Minute))), h.add(other)
	assert.Zero(h, h.endUser(other, kept.Key, ahead))

	for _, rec := range []*coatcheck.Record{ended, all, others} {
		_, err := h.load(rec.Key, h.now)
		require.True(h, errors.Is(err, coatcheck.ErrNotFound) || errors.Is(err, coatcheck.ErrEnded), "%v", err)
		require.ErrorIs(h, h.trySwap(h.next(rec), h.now), coatcheck.ErrNotFound)
		assert.NotContains(h, h.listed(rec.UserID(), h.now), rec.Key)
	}
	h.lives(kept, h.now)
}

// expiredOfAnother ends sessions by a clock that is ahead. Only a store that keeps what has expired can leave it where it is.
func expiredOfAnother(h *harness) {
	ahead := h.now.Add(idleLife)
	for name, end := range map[string][2]string{
		"another's": {h.user(), h.user()}, "a user's, by none": {h.user(), ""}, "nobody's": {"", h.user()},
	} {
		rec := h.add(end[0])
		_, err := h.load(rec.Key, ahead)
		require.ErrorIs(h, err, coatcheck.ErrNotFound, name)
		kept := errors.Is(err, coatcheck.ErrExpired)
		var last coatcheck.Record
		require.Error(h, h.End(h.Context(), rec.Key, end[1], ahead, ahead.Add(graveLife), &last), name)
		if _, err := h.load(rec.Key, h.now); kept {
			assert.NoError(h, err, name)
		}
	}
}

func renewedLives(h *harness) {
	first, second := h.now.Add(10*time.Minute), h.now.Add(15*time.Minute)
	user := h.user()
	old := h.add(user, idleUntil(first))
	rec := h.next(old, idleUntil(second))
	h.swap(rec, first.Add(-time.Millisecond))
	h.lives(rec, first)
	assert.Equal(h, keysOf(rec), h.listed(user, first), "the index must follow")
	newest := h.session(user)
	assert.Equal(h, 1, h.create(newest, coatcheck.CreateOptions{Limit: 1, Until: first.Add(graveLife)}, first), "it counts")
	h.refused(coatcheck.ErrEnded, rec, first)

	kept := h.next(newest, idleUntil(second.Add(time.Minute)))
	h.swap(kept, first)
	assert.Equal(h, keysOf(kept), h.listed(user, second))
	assert.Equal(h, 1, h.endUser(user, coatcheck.Key{}, second))
}

func broughtForward(h *harness) {
	first, second := h.now.Add(10*time.Minute), h.now.Add(15*time.Minute)
	user := h.user()
	rec := h.next(h.add(user, idleUntil(second)), absoluteUntil(first))
	h.swap(rec, h.now)
	h.lives(rec, first.Add(-time.Millisecond))
	h.refused(coatcheck.ErrNotFound, rec, first)
	assert.Empty(h, h.listed(user, first))
	assert.Zero(h, h.create(h.session(user), coatcheck.CreateOptions{Limit: 1}, first))
}
