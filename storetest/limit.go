package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var limitRules = []rule{
	{"the oldest end", limitOldest},
	{"sessions of the same age end by key", limitTies},
	{"the new session never ends itself", limitSparesNew},
	{"only live sessions count", limitCountsLive},
	{"zero or less is no limit", limitNone},
	{"a limit that was lowered", limitLowered},
	{"the limit and Replace leave tombstones until the given time", limitTombstones},
	{"Replace ends the old session in the same step", replaceEnds},
	{"Replace comes before the limit", replaceBeforeLimit},
	{"Replace of a session that does not live is no obstacle", replaceDead},
	{"Replace of another user's session leaves it alone", replaceOthers},
}

func (h *harness) limit(n int) coatcheck.CreateOptions {
	return coatcheck.CreateOptions{Limit: n, Until: h.until()}
}

func limitOldest(h *harness) {
	user := h.user()
	// The sessions are created neither in the order of their age nor in the reverse.
	middle := h.add(user, createdAt(h.now.Add(-2*time.Minute)))
	oldest := h.add(user, createdAt(h.now.Add(-3*time.Minute)))
	newest := h.add(user, createdAt(h.now.Add(-1*time.Minute)))
	rec := h.session(user)
	assert.Zero(h, h.create(h.session(h.user()), h.limit(1), h.now), "another user's do not count")
	assert.Equal(h, 1, h.create(rec, h.limit(3), h.now))
	h.refused(coatcheck.ErrEnded, oldest, h.now)
	assert.Equal(h, keysOf(middle, newest, rec), h.listed(user, h.now))

	renewed := h.next(middle, func(head *coatcheck.Header) { head.LastSeen = h.now.UnixMilli() })
	h.swap(renewed, h.now) // use makes a session no younger
	last := h.session(user)
	assert.Equal(h, 1, h.create(last, h.limit(3), h.now))
	h.refused(coatcheck.ErrEnded, middle, h.now)
	assert.Equal(h, keysOf(newest, rec, last), h.listed(user, h.now))
}

func limitTies(h *harness) {
	user := h.user()
	born := createdAt(h.now.Add(-time.Minute))
	keys := keysOf(h.add(user, born), h.add(user, born), h.add(user, born))
	rec := h.session(user)
	assert.Equal(h, 2, h.create(rec, h.limit(2), h.now))
	assert.Equal(h, ascending([]coatcheck.Key{keys[2], rec.Key}), h.listed(user, h.now))
}

func limitSparesNew(h *harness) {
	user := h.user()
	future := h.add(user, createdAt(h.now.Add(time.Minute))) // another node's clock
	rec := h.session(user)
	assert.Equal(h, 1, h.create(rec, h.limit(1), h.now))
	h.refused(coatcheck.ErrEnded, future, h.now)
	assert.Equal(h, keysOf(rec), h.listed(user, h.now))
}

func limitCountsLive(h *harness) {
	user := h.user()
	soon := h.now.Add(5 * time.Minute)
	expired, ended, live := h.add(user, idleUntil(soon)), h.add(user), h.add(user)
	h.end(ended)
	rec := h.session(user)
	assert.Zero(h, h.create(rec, h.limit(2), soon))
	assert.Equal(h, keysOf(live, rec), h.listed(user, soon))
	h.refused(coatcheck.ErrNotFound, expired, soon)
}

func limitNone(h *harness) {
	user := h.user()
	for i := range 20 {
		assert.Zero(h, h.create(h.session(user), h.limit(-i), h.now))
	}
	assert.Len(h, h.listed(user, h.now), 20)
}

func limitLowered(h *harness) {
	user := h.user()
	var recs []*coatcheck.Record
	for i := range 10 {
		recs = append(recs, h.add(user, createdAt(h.now.Add(time.Duration(i-20)*time.Second))))
	}
	rec := h.session(user)
	assert.Equal(h, 8, h.create(rec, h.limit(3), h.now))
	assert.Equal(h, keysOf(recs[8], recs[9], rec), h.listed(user, h.now))
	for _, old := range recs[:8] {
		h.refused(coatcheck.ErrEnded, old, h.now)
	}
}

func limitTombstones(h *harness) {
	user := h.user()
	oldest := h.add(user, createdAt(h.now.Add(-time.Minute)))
	old, newer := h.add(user), h.add(user)
	opt := h.limit(2)
	opt.Replace, opt.Replaced = old.Key, &coatcheck.Record{}
	rec := h.session(user)
	assert.Equal(h, 1, h.create(rec, opt, h.now))
	assert.Equal(h, keysOf(newer, rec), h.listed(user, h.now))
	for name, ended := range map[string]*coatcheck.Record{"the limit": oldest, "Replace": old} {
		_, err := h.load(ended.Key, h.justBefore())
		assert.ErrorIs(h, err, coatcheck.ErrEnded, name)
	}
}

func replaceEnds(h *harness) {
	user := h.user()
	old := h.nextWith(h.add(user), block(map[string]string{"cart": "[1]"}))
	h.swap(old, h.now)
	other, rec := h.add(user), h.session(user)
	replaced := largest(h)
	ended := h.create(rec, coatcheck.CreateOptions{Replace: old.Key, Replaced: replaced, Until: h.until()}, h.now)
	assert.Zero(h, ended, "the session that was replaced is not counted as ended by the limit")
	h.same(old, replaced)
	h.refused(coatcheck.ErrEnded, old, h.now)
	assert.Equal(h, keysOf(other, rec), h.listed(user, h.now))
}

func replaceBeforeLimit(h *harness) {
	user := h.user()
	oldest := h.add(user, createdAt(h.now.Add(-2*time.Minute)))
	newer := h.add(user, createdAt(h.now.Add(-1*time.Minute)))
	rec := h.session(user)
	opt := h.limit(2)
	opt.Replace, opt.Replaced = newer.Key, &coatcheck.Record{}
	assert.Zero(h, h.create(rec, opt, h.now))
	assert.Equal(h, keysOf(oldest, rec), h.listed(user, h.now))
	h.same(newer, opt.Replaced)
}

func replaceDead(h *harness) {
	user := h.user()
	soon := h.now.Add(5 * time.Minute)
	live, ended, expired := h.add(user), h.add(user), h.add(user, idleUntil(soon))
	h.end(ended)
	for name, old := range map[string]*coatcheck.Record{"ended": ended, "expired": expired, "missing": h.session(user)} {
		rec, replaced := h.session(user), largest(h)
		ended := h.create(rec, coatcheck.CreateOptions{Limit: 2, Replace: old.Key, Replaced: replaced, Until: soon.Add(graveLife)}, soon)
		assert.Zero(h, ended, name)
		assert.Zero(h, replaced.Version, name)
		assert.Equal(h, keysOf(live, rec), h.listed(user, soon), name)
		require.NoError(h, h.tryEnd(rec, soon))
	}
}

func replaceOthers(h *harness) {
	user := h.user()
	other, anonymous := h.add(h.user()), h.add("")
	for name, old := range map[string]*coatcheck.Record{"another user's": other, "nobody's": anonymous} {
		replaced := largest(h)
		h.create(h.session(user), coatcheck.CreateOptions{Replace: old.Key, Replaced: replaced, Until: h.until()}, h.now)
		assert.Zero(h, replaced.Version, name)
		h.lives(old, h.now)
	}
}
