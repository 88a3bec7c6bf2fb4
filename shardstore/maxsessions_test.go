package shardstore_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// full returns a store that holds as many sessions as it may, and these sessions.
func full(t *testing.T, n int, user string, ttl time.Duration) (*shardstore.Store, []*coatcheck.Record) {
	t.Helper()
	s := newStore(t, shardstore.Options{Shards: 8, MaxSessions: n, JanitorEvery: asleep})
	var recs []*coatcheck.Record
	for range n {
		recs = append(recs, add(t, s, user, t0, ttl))
	}
	return s, recs
}

func TestMaxSessions(t *testing.T) {
	ctx := context.Background()
	var last coatcheck.Record

	t.Run("one more is refused and nothing changes", func(t *testing.T) {
		s, recs := full(t, 3, "ada", time.Hour)
		for _, user := range []string{"bob", ""} {
			rec := session(t, user, t0, time.Hour)
			_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, t0)
			require.ErrorIs(t, err, coatcheck.ErrFull)
			require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNotFound)
		}
		for _, rec := range recs {
			require.NoError(t, load(s, rec.Key, t0))
		}
		assert.Equal(t, shardstore.Sizes{Sessions: 3, Users: 1, Indexed: 3}, sizes(t, s))
	})
	t.Run("what ends makes room", func(t *testing.T) {
		s, recs := full(t, 3, "ada", time.Hour)
		require.NoError(t, s.End(ctx, recs[0].Key, "ada", t0, t0.Add(time.Hour), &last))
		add(t, s, "bob", t0, time.Hour) // a tombstone counts nowhere
		_, err := s.Create(ctx, session(t, "bob", t0, time.Hour), coatcheck.CreateOptions{}, t0)
		require.ErrorIs(t, err, coatcheck.ErrFull)
		_, err = s.EndUser(ctx, "ada", coatcheck.Key{}, true, t0, t0.Add(time.Hour))
		require.NoError(t, err)
		add(t, s, "bob", t0, time.Hour)
		add(t, s, "bob", t0, time.Hour)
	})
	t.Run("what has expired makes room before the janitor comes", func(t *testing.T) {
		s, _ := full(t, 600, "", time.Minute) // in all shards
		over := t0.Add(time.Minute)
		_, err := s.Create(ctx, session(t, "", t0, time.Hour), coatcheck.CreateOptions{}, over.Add(-time.Millisecond))
		require.ErrorIs(t, err, coatcheck.ErrFull)
		for range 600 {
			add(t, s, "", over, time.Hour)
		}
		_, err = s.Create(ctx, session(t, "", t0, time.Hour), coatcheck.CreateOptions{}, over)
		require.ErrorIs(t, err, coatcheck.ErrFull)
		assert.Equal(t, 600, sizes(t, s).Sessions)
	})
	t.Run("a Create that ends one is not refused", func(t *testing.T) {
		s, recs := full(t, 3, "ada", time.Hour)
		opt := coatcheck.CreateOptions{Replace: recs[0].Key, Replaced: &last, Until: t0.Add(time.Minute)}
		_, err := s.Create(ctx, session(t, "ada", t0, time.Hour), opt, t0)
		require.NoError(t, err)
		assert.Equal(t, uint64(1), last.Version)
		ended, err := s.Create(ctx, session(t, "ada", t0, time.Hour), coatcheck.CreateOptions{Limit: 3}, t0)
		require.NoError(t, err)
		assert.Equal(t, 1, ended)
		assert.Equal(t, 3, s.Len())
	})
}

// Each round begins with a store that is full of expired sessions: exactly as many sessions as the limit allows are
// created.
func TestMaxSessionsUnderConcurrency(t *testing.T) {
	const most, callers = 2, 4
	s, _ := full(t, most, "", time.Minute)
	now := t0
	for range turns(2000) {
		now = now.Add(time.Minute)
		recs := make([]*coatcheck.Record, callers)
		for i := range recs {
			recs[i] = session(t, "", now, time.Minute)
		}
		var waiting, created, refused atomic.Int64
		var calling sync.WaitGroup
		for _, rec := range recs {
			calling.Go(func() {
				for waiting.Add(1); waiting.Load() < callers; { // this starts them closer together than a channel would
					runtime.Gosched()
				}
				switch _, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, now); {
				case err == nil:
					created.Add(1)
				case errors.Is(err, coatcheck.ErrFull):
					refused.Add(1)
				default:
					assert.NoError(t, err)
				}
			})
		}
		calling.Wait()
		require.Equal(t, int64(most), created.Load())
		require.Equal(t, int64(callers-most), refused.Load())
		require.Equal(t, most, sizes(t, s).Sessions)
	}
}

// Two callers that make room at the same time both find that one place is free, and one of them takes it: the other must
// make room again.
func TestMaxSessionsMakesRoomAgain(t *testing.T) {
	const shards, swept, theirs = 8, 0, 3
	inShard := func(n byte, now time.Time) *coatcheck.Record {
		rec := session(t, "", now, time.Minute)
		rec.Key[3] = n // the last byte of the tag
		return rec
	}
	s := newStore(t, shardstore.Options{Shards: shards, MaxSessions: 2, JanitorEvery: asleep})
	for _, expired := range []*coatcheck.Record{inShard(swept, t0), inShard(shards-1, t0)} {
		_, err := s.Create(context.Background(), expired, coatcheck.CreateOptions{}, t0)
		require.NoError(t, err)
	}
	now := t0.Add(time.Minute)
	sweep := s.Hold(swept)
	var calling sync.WaitGroup
	for range 2 {
		rec := inShard(theirs, now)
		calling.Go(func() {
			_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, now)
			assert.NoError(t, err)
		})
	}
	waitFor(t, 2, "shardstore.(*shard).sweep(") // both were refused once, and make room
	create := s.Hold(theirs)
	sweep()
	waitFor(t, 2, "shardstore.(*Store).create(") // both have made room, and create
	create()
	calling.Wait()
	assert.Equal(t, 2, sizes(t, s).Sessions)
}

// waitFor returns when n goroutines wait for a lock in a function.
func waitFor(t *testing.T, n int, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		waiting := 0
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, function) && strings.Contains(stack, "sync.(*RWMutex).Lock") {
				waiting++
			}
		}
		return waiting == n
	}, time.Minute, time.Millisecond)
}
