package storetest

import (
	"crypto/rand"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// The Tag is a cheap hash, so an attacker can make users that share one. Such users may share a shard, but nothing else.
var collisionRules = []rule{
	{"listing", collidingList},
	{"ending all", collidingEndUser},
	{"marks", collidingMarks},
	{"the limit", collidingLimit},
	{"ending one by the other's name", collidingEnd},
	{"replacing the other's", collidingReplace},
}

// colliding returns two new users with one Tag, found by trying: of n random tags of 32 bits some n²/2³³ pairs are equal.
func (h *harness) colliding() (string, string) {
	h.Helper()
	const tries = 1 << 20
	prefix := rand.Text()
	seen := make(map[coatcheck.Tag]int, tries/8)
	for i := range tries {
		user := prefix + strconv.Itoa(i)
		tag := coatcheck.TagOf(user)
		if j, ok := seen[tag]; ok {
			return prefix + strconv.Itoa(j), user
		}
		seen[tag] = i
	}
	require.Fail(h, "no two users with one tag")
	return "", ""
}

func collidingList(h *harness) {
	a, b := h.colliding()
	ofA, ofB := h.add(a), h.add(b)
	assert.Equal(h, keysOf(ofA), h.listed(a, h.now))
	assert.Equal(h, keysOf(ofB), h.listed(b, h.now))
}

func collidingEndUser(h *harness) {
	a, b := h.colliding()
	ofA, ofB := h.add(a), h.add(b)
	_, err := h.EndUser(h.Context(), a, ofB.Key, true, h.now, h.until())
	require.ErrorIs(h, err, coatcheck.ErrNotFound, "keep is the other's")
	h.lives(ofA, h.now)
	assert.Equal(h, 1, h.endUser(a, coatcheck.Key{}, h.now))
	h.refused(coatcheck.ErrEnded, ofA, h.now)
	h.lives(ofB, h.now)
}

func collidingMarks(h *harness) {
	a, b := h.colliding()
	h.endUser(a, coatcheck.Key{}, h.now)
	assert.NotZero(h, h.mark(a, h.now))
	assert.Zero(h, h.mark(b, h.now))
	require.ErrorIs(h, h.login(a, 0, h.now), coatcheck.ErrRevoked)
	require.NoError(h, h.login(b, 0, h.now))
}

func collidingLimit(h *harness) {
	a, b := h.colliding()
	ofA, ofB := h.add(a), h.session(b)
	assert.Zero(h, h.create(ofB, h.limit(1), h.now))
	h.lives(ofA, h.now)
	h.lives(ofB, h.now)
}

func collidingEnd(h *harness) {
	a, b := h.colliding()
	ofA := h.add(a)
	var last coatcheck.Record
	require.Error(h, h.End(h.Context(), ofA.Key, b, h.now, h.until(), &last))
	h.lives(ofA, h.now)
	assert.Equal(h, keysOf(ofA), h.listed(a, h.now))
}

func collidingReplace(h *harness) {
	a, b := h.colliding()
	ofA, replaced := h.add(a), largest(h)
	h.create(h.session(b), coatcheck.CreateOptions{Replace: ofA.Key, Replaced: replaced, Until: h.until()}, h.now)
	assert.Zero(h, replaced.Version)
	h.lives(ofA, h.now)
}
