package shardstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A call that only a defect of the caller causes returns an error that is none of the contract's sentinels, and changes
// nothing.
func TestDefectsAreRefused(t *testing.T) {
	ctx := context.Background()
	s := newStore(t, shardstore.Options{JanitorEvery: asleep})
	create := func(rec *coatcheck.Record) error {
		_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, t0)
		return err
	}
	unwritten := session(t, "ada", t0, time.Hour)
	unwritten.Version++
	ofTag := func(user string, tag coatcheck.Tag) *coatcheck.Record {
		rec := session(t, user, t0, time.Hour)
		copy(rec.Key[:], tag[:])
		return rec
	}
	noKey := session(t, "", t0, time.Hour)
	noKey.Key = coatcheck.Key{}
	for name, rec := range map[string]*coatcheck.Record{
		"the zero Record":              {},
		"a header that is not written": unwritten,
		"the tag of another user":      ofTag("ada", coatcheck.TagOf("bob")),
		"the zero Key":                 noKey,
	} {
		require.Error(t, create(rec), name)
	}
	assert.Equal(t, shardstore.Sizes{}, sizes(t, s))

	rec := add(t, s, "ada", t0, time.Hour)
	swapTo := func(version uint64, user string) error {
		h := rec.Header
		h.Version = version
		var next, cur coatcheck.Record
		require.NoError(t, next.Write(rec.Key, h, []byte(user), nil, nil, nil))
		return s.Swap(ctx, &next, rec.Version, t0, &cur)
	}
	require.Error(t, swapTo(1, "ada"), "the same version again")
	require.Error(t, swapTo(3, "ada"), "a version left out")
	require.Error(t, swapTo(2, "bob"), "another user")
	require.Error(t, swapTo(2, ""), "no user")
	var got coatcheck.Record
	require.NoError(t, s.Load(ctx, rec.Key, rec.ID, t0, &got))
	assert.Equal(t, rec.Bytes(), got.Bytes())
	require.NoError(t, swapTo(2, "ada"))
}

func TestDamagedRecordIsRemoved(t *testing.T) {
	ctx := context.Background()
	s := newStore(t, shardstore.Options{JanitorEvery: asleep})
	rec := session(t, "ada", t0, time.Hour)
	h, key := rec.Header, rec.Key
	require.Error(t, rec.Write(key, h, []byte("ada"), nil, nil, []byte("no block of values")))
	_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, t0)
	require.NoError(t, err, "a store does not judge values")
	require.NoError(t, s.List(ctx, "ada", t0, func(*coatcheck.Record) bool {
		assert.Fail(t, "a damaged record is listed")
		return true
	}))
	require.ErrorIs(t, load(s, key, t0), coatcheck.ErrDamaged)
	require.ErrorIs(t, load(s, key, t0), coatcheck.ErrNotFound)
	assert.Equal(t, shardstore.Sizes{}, sizes(t, s))
}

// A name that is longer than any user's has no sessions, and does not bring the store down.
func TestEndUserOfAnImpossibleName(t *testing.T) {
	s, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	n, err := s.EndUser(t.Context(), strings.Repeat("x", 300_000), coatcheck.Key{}, true, time.Now(), time.Now())
	require.NoError(t, err)
	assert.Zero(t, n)
}

// A record of a newer release, which a roll-back finds on the disk, is not served and stays, unless all of its user's
// sessions are ended.
func TestNewerRecordStays(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := onDisk(t, dir)
	rec := session(t, "ada", t0, time.Hour)
	rec.Bytes()[0] = 0xC3
	_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, t0)
	require.NoError(t, err, "a store does not judge versions")
	stays := func() {
		t.Helper()
		var last coatcheck.Record
		require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNewer)
		require.ErrorIs(t, s.End(ctx, rec.Key, "ada", t0, t0.Add(time.Second), &last), coatcheck.ErrNewer)
		require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNewer)
		require.NoError(t, s.List(ctx, "ada", t0, func(*coatcheck.Record) bool {
			assert.Fail(t, "a record that nobody here can read is listed")
			return true
		}))
	}
	stays()
	for _, between := range []func() error{func() error { return nil }, func() error { return s.Snapshot() }} { // from the journal, from the snapshot
		require.NoError(t, between())
		require.NoError(t, s.Close())
		s = onDisk(t, dir)
		stays()
	}
	n, err := s.EndUser(ctx, "ada", coatcheck.Key{}, true, t0, t0.Add(time.Second))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrEnded)
}
