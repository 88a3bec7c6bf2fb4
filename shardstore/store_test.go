package shardstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// t0 is when these tests begin.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newStore returns a store that ends with the test. Its janitor's clock stands at t0 unless opt has another.
func newStore(t testing.TB, opt shardstore.Options) *shardstore.Store {
	t.Helper()
	if opt.Now == nil {
		opt.Now = func() time.Time { return t0 }
	}
	s, err := shardstore.New(opt)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// turns is how many iterations a long loop makes.
func turns(n int) int {
	if raceDetector {
		return n / 10
	}
	return n
}

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

// session returns the first version of a session that expires ttl after now.
func session(t tester, user string, now time.Time, ttl time.Duration) *coatcheck.Record {
	t.Helper()
	token := coatcheck.NewToken(coatcheck.TagOf(user))
	rec := &coatcheck.Record{}
	require.NoError(t, rec.Write(token.Key(), coatcheck.Header{
		Version: 1, ID: token.ID(), RotatedAt: now.UnixMilli(), CreatedAt: now.UnixMilli(), LastSeen: now.UnixMilli(),
		IdleExpiry: now.Add(ttl).UnixMilli(), AbsoluteExpiry: now.Add(24 * time.Hour).UnixMilli(),
	}, []byte(user), nil, nil, nil))
	return rec
}

// add creates a session and returns it.
func add(t testing.TB, s *shardstore.Store, user string, now time.Time, ttl time.Duration) *coatcheck.Record {
	t.Helper()
	rec := session(t, user, now, ttl)
	_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, now)
	require.NoError(t, err)
	return rec
}

// renew swaps in the same session with a later idle expiry.
func renew(t testing.TB, s *shardstore.Store, rec *coatcheck.Record, now time.Time, ttl time.Duration) error {
	t.Helper()
	h := rec.Header
	h.Version++
	h.IdleExpiry = now.Add(ttl).UnixMilli()
	var next, cur coatcheck.Record
	require.NoError(t, next.Write(rec.Key, h, rec.User(), nil, nil, nil))
	return s.Swap(context.Background(), &next, rec.Version, now, &cur)
}

func load(s *shardstore.Store, key coatcheck.Key, now time.Time) error {
	var rec coatcheck.Record
	return s.Load(context.Background(), key, coatcheck.ID{}, now, &rec)
}

func TestOptions(t *testing.T) {
	for name, opt := range map[string]shardstore.Options{
		"shards not a power of two": {Shards: 3},
		"negative shards":           {Shards: -4},
		"absurdly many shards":      {Shards: 1 << 30},
		"negative limit":            {MaxSessions: -1},
		"negative period":           {JanitorEvery: -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shardstore.New(opt)
			require.Error(t, err)
		})
	}
	t.Run("every mistake is told of", func(t *testing.T) {
		_, err := shardstore.New(shardstore.Options{Shards: 3, MaxSessions: -1, JanitorEvery: -1})
		require.Error(t, err)
		for _, field := range []string{"Shards", "MaxSessions", "JanitorEvery"} {
			assert.ErrorContains(t, err, field)
		}
	})
	t.Run("none", func(t *testing.T) {
		s, err := shardstore.New(shardstore.Options{})
		require.NoError(t, err)
		assert.NoError(t, s.Close())
	})
}

func TestCreateLoadSwapEnd(t *testing.T) {
	s := newStore(t, shardstore.Options{})
	rec := add(t, s, "ada", t0, time.Minute)
	var got coatcheck.Record
	require.NoError(t, s.Load(context.Background(), rec.Key, rec.ID, t0, &got))
	assert.Equal(t, rec.Bytes(), got.Bytes())
	require.NoError(t, renew(t, s, rec, t0, time.Hour))
	require.ErrorIs(t, renew(t, s, rec, t0, time.Hour), coatcheck.ErrConflict)
	require.NoError(t, load(s, rec.Key, t0.Add(30*time.Minute)))
	require.NoError(t, s.End(context.Background(), rec.Key, "ada", t0, t0.Add(time.Second), &got))
	assert.Equal(t, uint64(2), got.Version)
	require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrEnded)
	assert.Zero(t, s.Len())
}
