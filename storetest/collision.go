package storetest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// collisionRules returns rules about pairs of users that a careless store takes for one. They are new users with each call.
func collisionRules() []rule {
	var rules []rule
	for _, like := range allLookalikes() {
		for _, r := range []struct {
			name  string
			check func(h *harness, a, b string)
		}{
			{"listing", collidingList},
			{"ending all", collidingEndUser},
			{"marks", collidingMarks},
			{"the limit", collidingLimit},
			{"ending one by the other's name", collidingEnd},
			{"replacing the other's", collidingReplace},
		} {
			rules = append(rules, rule{r.name + like.name, func(h *harness) {
				a, b := like.pair(h)
				r.check(h, a, b)
			}})
		}
	}
	return rules
}

// allLookalikes returns the ways in which users may look like one. The Tag is a cheap hash, so an attacker can make users that share
// one; such users may share a shard, but nothing else. A database may compare text as people read it, or as C does. A store has
// to compare all bytes of a user ID.
func allLookalikes() []*lookalikes {
	return []*lookalikes{
		newLookalikes("", wholeTag, all, numbered),
		newLookalikes(", of users that differ in case only", wholeTag, all, caseVariant),
		newLookalikes(", of users that differ behind a NUL only", wholeTag, all, func(prefix string, i int) string {
			return numbered(prefix+"\x00", i)
		}),
		newLookalikes(", of users that differ in trailing spaces only", tagEnds, 128, func(prefix string, i int) string {
			return numbered(prefix, i/128) + strings.Repeat(" ", i%128)
		}),
		newLookalikes(", of users that differ in the last of 256 bytes only", tagEnds, 64, func(prefix string, i int) string {
			return fmt.Sprintf("%s%0*d%c", prefix, coatcheck.MaxUserID-len(prefix)-1, i/64, '0'+i%64)
		}),
	}
}

// lookalikes finds users that a careless store takes for one, by trying: of n random tags of 32 bits some n²/2³³ pairs are
// equal. A store may look for a user among those of a Tag, or of a shard, so that two that are apart there would prove nothing.
type lookalikes struct {
	name  string
	mask  uint32             // the bits of the tag that a pair has in common
	alike int                // how many users in a row, beginning with the first, are alike
	user  func(i int) string // the i-th user
	next  int                // the first that was not tried yet
	seen  map[uint32]int     // by the bits of the tag, those that were tried and may make a pair
}

const (
	all      = 1 << 20    // users in a row: more than are ever tried
	wholeTag = 0xFFFFFFFF // bits of the tag
	tagEnds  = 0xFF0000FF // bits that choose one of 256 shards, from either end: too few users are alike to find two of one tag
)

func newLookalikes(name string, mask uint32, alike int, user func(prefix string, i int) string) *lookalikes {
	prefix := rand.Text()
	return &lookalikes{
		name: name, mask: mask, alike: alike, seen: map[uint32]int{},
		user: func(i int) string { return user(prefix, i) },
	}
}

func numbered(prefix string, i int) string { return prefix + strconv.Itoa(i) }

// caseVariant returns a text that has letters large where i has ones.
func caseVariant(prefix string, i int) string {
	letters := []byte("abcdefghijklmnopqrst")
	for at := range letters {
		letters[at] ^= byte(i>>at&1) * ('a' ^ 'A')
	}
	return prefix + string(letters)
}

// pair returns two users that it has not returned before.
func (l *lookalikes) pair(h *harness) (string, string) {
	h.Helper()
	for l.next < all {
		i := l.next
		l.next++
		if i%l.alike == 0 {
			clear(l.seen)
		}
		user := l.user(i)
		tag := coatcheck.TagOf(user)
		bits := binary.BigEndian.Uint32(tag[:]) & l.mask
		if j, ok := l.seen[bits]; ok {
			delete(l.seen, bits)
			return l.user(j), user
		}
		l.seen[bits] = i
	}
	require.Fail(h, "no two users that are alike")
	return "", ""
}

// colliding returns two new users with one Tag.
func (h *harness) colliding() (string, string) {
	h.Helper()
	return newLookalikes("", wholeTag, all, numbered).pair(h)
}

func collidingList(h *harness, a, b string) {
	ofA, ofB := h.add(a), h.add(b)
	assert.Equal(h, keysOf(ofA), h.listed(a, h.now))
	assert.Equal(h, keysOf(ofB), h.listed(b, h.now))
}

func collidingEndUser(h *harness, a, b string) {
	ofA, ofB := h.add(a), h.add(b)
	_, err := h.EndUser(h.Context(), a, ofB.Key, true, h.now, h.until())
	require.ErrorIs(h, err, coatcheck.ErrNotFound, "keep is the other's")
	h.lives(ofA, h.now)
	assert.Equal(h, 1, h.endUser(a, coatcheck.Key{}, h.now))
	h.refused(coatcheck.ErrEnded, ofA, h.now)
	h.lives(ofB, h.now)
}

func collidingMarks(h *harness, a, b string) {
	h.endUser(a, coatcheck.Key{}, h.now)
	assert.NotZero(h, h.mark(a, h.now))
	assert.Zero(h, h.mark(b, h.now))
	require.ErrorIs(h, h.login(a, 0, h.now), coatcheck.ErrRevoked)
	require.NoError(h, h.login(b, 0, h.now))
}

func collidingLimit(h *harness, a, b string) {
	ofA, ofB := h.add(a), h.session(b)
	assert.Zero(h, h.create(ofB, h.limit(1), h.now))
	h.lives(ofA, h.now)
	h.lives(ofB, h.now)
}

func collidingEnd(h *harness, a, b string) {
	ofA := h.add(a)
	var last coatcheck.Record
	require.Error(h, h.End(h.Context(), ofA.Key, b, h.now, h.until(), &last))
	h.lives(ofA, h.now)
	assert.Equal(h, keysOf(ofA), h.listed(a, h.now))
}

func collidingReplace(h *harness, a, b string) {
	ofA, replaced := h.add(a), largest(h)
	h.create(h.session(b), coatcheck.CreateOptions{Replace: ofA.Key, Replaced: replaced, Until: h.until()}, h.now)
	assert.Zero(h, replaced.Version)
	h.lives(ofA, h.now)
}
