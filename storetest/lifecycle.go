package storetest

import (
	"bytes"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var lifecycleRules = []rule{
	{"an unknown key is not found", unknownKey},
	{"a created record loads byte for byte", createLoads},
	{"a session without a user", withoutUser},
	{"the largest record", largestRecord},
	{"a record may grow and shrink", growAndShrink},
	{"Load leaves the ID to its caller", loadIgnoresID},
	{"Load reads over what the record held", loadOverwrites},
	{"Create refuses a taken key and changes nothing", createTaken},
	{"Swap replaces", swapReplaces},
	{"Swap keeps the rotation fields", swapRotation},
	{"Swap conflicts and hands back what is stored", swapConflict},
	{"Swap never creates", swapNeverCreates},
	{"End leaves a tombstone and hands back what it ended", endLeavesTombstone},
	{"End by another user's name ends nothing", endOfAnother},
	{"nothing the caller passed is kept", nothingKept},
	{"nothing the caller was given is the store's", nothingLent},
	{"Ping", ping},
	{"Close is idempotent and final", closeIsFinal},
}

func unknownKey(h *harness) {
	rec := h.session(h.user())
	h.refused(coatcheck.ErrNotFound, rec, h.now)
	require.ErrorIs(h, h.tryEnd(rec, h.now), coatcheck.ErrNotFound)
	h.refused(coatcheck.ErrNotFound, rec, h.now) // and the End left no tombstone
}

func createLoads(h *harness) {
	user := h.user()
	rec := h.session(user)
	require.NoError(h, rec.Write(rec.Key, rec.Header, []byte(user), bytes.Repeat([]byte{0x20, 1}, 8), []byte("agent \x00\xff"),
		block(map[string]string{"cart": `["a","b"]`, "theme": `"dark"`, "ünïcode": `null`})))
	assert.Zero(h, h.create(rec, coatcheck.CreateOptions{}, h.now))
	h.lives(rec, h.now)
	h.lives(rec, h.now) // Load succeeds any number of times
}

func withoutUser(h *harness) {
	rec := h.session("")
	h.create(rec, coatcheck.CreateOptions{Mark: 7, Limit: 1}, h.now)
	h.lives(rec, h.now)
	h.create(h.session(""), coatcheck.CreateOptions{Limit: 1}, h.now)
	next := h.next(rec)
	h.swap(next, h.now)
	h.lives(next, h.now) // no limit ended it: sessions without a user do not count as the sessions of one user
	assert.Empty(h, h.listed("", h.now))
	assert.Zero(h, h.endUser("", coatcheck.Key{}, h.now))
	h.lives(next, h.now)
	h.create(h.session(""), coatcheck.CreateOptions{Mark: 7}, h.now) // the EndUser left no mark for it
	h.end(next)
	h.refused(coatcheck.ErrEnded, next, h.now)
}

// largest returns a record that has every part as long as it may be.
func largest(h *harness) *coatcheck.Record {
	user := h.user()
	user += strings.Repeat("u", coatcheck.MaxUserID-len(user))
	rec := h.session(user)
	require.NoError(h, rec.Write(rec.Key, rec.Header, []byte(user), make([]byte, 16), bytes.Repeat([]byte("a"), coatcheck.MaxUserAgent),
		block(map[string]string{"v": strings.Repeat("7", coatcheck.MaxValues-len("v")-3)})))
	return rec
}

func largestRecord(h *harness) {
	rec := largest(h)
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	h.lives(rec, h.now)
	assert.Equal(h, keysOf(rec), h.listed(rec.UserID(), h.now))
}

func growAndShrink(h *harness) {
	rec := h.add(h.user())
	for _, size := range []int{1, 200, 1000, 3000, 900, 60, 3000, 1} {
		next := h.nextWith(rec, block(map[string]string{"v": strings.Repeat("1", size)}))
		h.swap(next, h.now)
		h.lives(next, h.now)
		rec = next
	}
}

func loadIgnoresID(h *harness) {
	rec := h.add(h.user())
	for name, id := range map[string]coatcheck.ID{"current": rec.ID, "another": newID(), "zero": {}} {
		var got coatcheck.Record
		require.NoError(h, h.Load(h.Context(), rec.Key, id, h.now, &got), name)
		h.same(rec, &got)
	}
}

func loadOverwrites(h *harness) {
	rec := h.add(h.user())
	got := largest(h)
	require.NoError(h, h.Load(h.Context(), rec.Key, rec.ID, h.now, got))
	h.same(rec, got)
}

func createTaken(h *harness) {
	user := h.user()
	rec, other, ended := h.add(user), h.add(user), h.add(user)
	h.end(ended)
	for name, key := range map[string]coatcheck.Key{"by a session": rec.Key, "by a tombstone": ended.Key} {
		var replaced coatcheck.Record
		_, err := h.Create(h.Context(), h.sessionAt(key, user),
			coatcheck.CreateOptions{Limit: 1, Replace: other.Key, Replaced: &replaced, Until: h.until()}, h.now)
		require.ErrorIs(h, err, coatcheck.ErrExists, name)
	}
	h.lives(rec, h.now)
	h.lives(other, h.now)
	h.refused(coatcheck.ErrEnded, ended, h.now)
	assert.Equal(h, keysOf(rec, other), h.listed(user, h.now))
}

func swapReplaces(h *harness) {
	rec := h.add(h.user())
	for range 3 {
		rec = h.nextWith(rec, block(map[string]string{"n": "1"}))
		h.swap(rec, h.now)
		h.lives(rec, h.now)
		assert.Equal(h, keysOf(rec), h.listed(rec.UserID(), h.now))
	}
}

func swapRotation(h *harness) {
	rec := h.add(h.user())
	open := h.next(rec, func(head *coatcheck.Header) {
		head.PrevID, head.ID = head.ID, newID()
		head.PrevUntil = coatcheck.PrevOpen
		head.RotatedAt = h.now.UnixMilli() + 1
	})
	h.swap(open, h.now)
	h.lives(open, h.now)
	got, err := h.load(rec.Key, h.now)
	require.NoError(h, err)
	assert.Equal(h, coatcheck.Previous, got.Standing(rec.ID, h.now))
	assert.Equal(h, coatcheck.Current, got.Standing(open.ID, h.now))

	used := h.next(open, func(head *coatcheck.Header) { head.PrevUntil = h.now.UnixMilli() })
	h.swap(used, h.now)
	h.lives(used, h.now)
	got, err = h.load(rec.Key, h.now)
	require.NoError(h, err)
	assert.Equal(h, coatcheck.Reused, got.Standing(rec.ID, h.now))
}

func swapConflict(h *harness) {
	rec := h.add(h.user())
	stored := h.nextWith(rec, block(map[string]string{"winner": "true"}))
	h.swap(stored, h.now)
	later := h.next(stored)
	for name, late := range map[string]*coatcheck.Record{"behind": h.next(rec), "ahead": h.next(later)} {
		cur := largest(h) // so that leftovers of it would show
		err := h.Swap(h.Context(), late, late.Version-1, h.now, cur)
		require.ErrorIs(h, err, coatcheck.ErrConflict, name)
		h.same(stored, cur)
		h.lives(stored, h.now)
	}
}

func swapNeverCreates(h *harness) {
	user := h.user()
	missing, ended, replaced, pushedOut := h.session(user), h.add(user), h.add(user), h.add(user)
	h.end(ended)
	var was coatcheck.Record
	h.create(h.session(user), coatcheck.CreateOptions{Limit: 1, Replace: replaced.Key, Replaced: &was, Until: h.until()}, h.now)
	revoked := h.add(h.user())
	h.endUser(revoked.UserID(), coatcheck.Key{}, h.now)
	listed := h.listed(user, h.now)
	require.Len(h, listed, 1)

	for name, rec := range map[string]*coatcheck.Record{
		"missing": missing, "ended": ended, "replaced": replaced, "pushed out": pushedOut, "revoked": revoked,
	} {
		require.ErrorIs(h, h.trySwap(h.next(rec), h.now), coatcheck.ErrNotFound, name)
		_, err := h.load(rec.Key, h.now)
		require.Error(h, err, name)
	}
	assert.Equal(h, listed, h.listed(user, h.now))
	assert.Empty(h, h.listed(revoked.UserID(), h.now))
}

func endLeavesTombstone(h *harness) {
	user := h.user()
	rec := h.next(h.add(user))
	h.swap(rec, h.now)
	last := largest(h)
	require.NoError(h, h.End(h.Context(), rec.Key, user, h.now, h.until(), last))
	h.same(rec, last)

	h.refused(coatcheck.ErrEnded, rec, h.now)
	h.refused(coatcheck.ErrEnded, rec, h.justBefore())
	require.ErrorIs(h, h.trySwap(h.next(rec), h.now), coatcheck.ErrNotFound)
	require.ErrorIs(h, h.tryEnd(rec, h.now), coatcheck.ErrNotFound)
	assert.Empty(h, h.listed(user, h.now), "a tombstone is listed")
	assert.Zero(h, h.endUser(user, coatcheck.Key{}, h.now), "a tombstone counts as a session")

	// The store's own clock decides when the tombstone goes; the session never comes back.
	_, err := h.load(rec.Key, h.until())
	if !assert.Error(h, err) {
		return
	}
	require.ErrorIs(h, h.trySwap(h.next(rec), h.until()), coatcheck.ErrNotFound)
}

func endOfAnother(h *harness) {
	rec := h.add(h.user())
	for _, user := range []string{h.user(), ""} {
		var last coatcheck.Record
		require.Error(h, h.End(h.Context(), rec.Key, user, h.now, h.until(), &last))
		h.lives(rec, h.now)
		assert.Equal(h, keysOf(rec), h.listed(rec.UserID(), h.now))
	}
	anonymous := h.add("")
	var last coatcheck.Record
	require.Error(h, h.End(h.Context(), anonymous.Key, h.user(), h.now, h.until(), &last), "a session without a user")
	h.lives(anonymous, h.now)
}

func nothingKept(h *harness) {
	rec := h.session(h.user())
	want := h.sessionAt(rec.Key, rec.UserID())
	require.NoError(h, want.Read(rec.Key, rec.Bytes()))
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	clear(rec.Bytes())
	h.lives(want, h.now)

	next := h.nextWith(want, block(map[string]string{"a": "1"}))
	require.NoError(h, want.Read(next.Key, next.Bytes()))
	h.swap(next, h.now)
	clear(next.Bytes())
	h.lives(want, h.now)
	assert.Equal(h, keysOf(want), h.listed(want.UserID(), h.now))
}

func nothingLent(h *harness) {
	rec := h.add(h.user())
	loaded, err := h.load(rec.Key, h.now)
	require.NoError(h, err)
	clear(loaded.Bytes())
	h.lives(rec, h.now)

	var cur coatcheck.Record
	require.ErrorIs(h, h.Swap(h.Context(), h.next(h.next(rec)), 2, h.now, &cur), coatcheck.ErrConflict)
	clear(cur.Bytes())
	h.lives(rec, h.now)
}

func ping(h *harness) { require.NoError(h, h.Ping(h.Context())) }

func closeIsFinal(h *harness) {
	ctx, user := h.Context(), h.user()
	rec := h.add(user)
	require.NoError(h, h.Close())
	require.NoError(h, h.Close())

	var buf coatcheck.Record
	_, err := h.Create(ctx, h.session(user), coatcheck.CreateOptions{}, h.now)
	require.ErrorIs(h, err, coatcheck.ErrUnavailable, "Create")
	_, err = h.Mark(ctx, user, h.now)
	require.ErrorIs(h, err, coatcheck.ErrUnavailable, "Mark")
	_, err = h.EndUser(ctx, user, coatcheck.Key{}, true, h.now, h.until())
	require.ErrorIs(h, err, coatcheck.ErrUnavailable, "EndUser")
	require.ErrorIs(h, h.Load(ctx, rec.Key, rec.ID, h.now, &buf), coatcheck.ErrUnavailable, "Load")
	require.ErrorIs(h, h.trySwap(h.next(rec), h.now), coatcheck.ErrUnavailable, "Swap")
	require.ErrorIs(h, h.tryEnd(rec, h.now), coatcheck.ErrUnavailable, "End")
	require.ErrorIs(h, h.Ping(ctx), coatcheck.ErrUnavailable, "Ping")
	require.ErrorIs(h, h.List(ctx, user, h.now, func(*coatcheck.Record) bool {
		assert.Fail(h, "List yields after Close")
		return false
	}), coatcheck.ErrUnavailable, "List")
	_, err = h.Scan(ctx, "", 10, h.now, func(*coatcheck.Record) { assert.Fail(h, "Scan yields after Close") })
	require.ErrorIs(h, err, coatcheck.ErrUnavailable, "Scan")
}
