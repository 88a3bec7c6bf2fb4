package redisstore_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// The limit ends the oldest session although its script looks at all of a user's sessions only once in many logins,
// whichever sessions end meanwhile, and even if a node's clock is behind.
func TestLimitEndsTheOldest(t *testing.T) {
	const limit = 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the sequence must be repeatable
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	var live []*coatcheck.Record // the oldest first
	begin := time.Now().Add(-10 * time.Minute)
	for i := range 400 {
		born := begin.Add(time.Duration(i) * time.Second)
		switch random.IntN(10) {
		case 0:
			born = born.Add(-time.Duration(random.IntN(300)) * time.Second) // a clock that is behind
		case 1, 2:
			n := random.IntN(len(live) + 1)
			if n < len(live) {
				require.NoError(t, end(s, live[n]))
				live = slices.Delete(live, n, n+1)
			}
		}
		rec := session(t, "ada")
		h := rec.Header
		h.CreatedAt = born.UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
		ended, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: limit, Until: time.Now().Add(grave)}, time.Now())
		require.NoError(t, err)
		if len(live) == limit {
			require.Equal(t, 1, ended)
			require.ErrorIs(t, load(s, live[0]), coatcheck.ErrEnded, "login %d", i)
			live = live[1:]
		} else {
			require.Zero(t, ended)
		}
		live = append(live, rec)
		slices.SortFunc(live, func(a, b *coatcheck.Record) int {
			if a.CreatedAt != b.CreatedAt {
				return int(a.CreatedAt - b.CreatedAt)
			}
			return slices.Compare(a.Key[:], b.Key[:])
		})
		if i%20 == 0 {
			assert.ElementsMatch(t, keysOf(live), listed(t, s, "ada"))
		}
	}
	assert.ElementsMatch(t, keysOf(live), listed(t, s, "ada"))
}

// A user with more sessions than a number of Lua can tell apart together with their times logs in under a lower limit.
func TestLimitFarBelowTheSessions(t *testing.T) {
	t.Parallel()
	const many, limit = 5000, 5
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	begin := time.Now().Add(-time.Hour)
	login := func(i, limit int) (*coatcheck.Record, int) {
		rec := session(t, "eve")
		h := rec.Header
		h.CreatedAt = begin.Add(time.Duration(i) * time.Millisecond).UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, []byte("eve"), nil, nil, nil))
		ended, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: time.Now().Add(grave)}, time.Now())
		require.NoError(t, err)
		return rec, ended
	}
	var last []*coatcheck.Record
	for i := range many {
		rec, _ := login(i, 0)
		if i > many-limit {
			last = append(last, rec)
		}
	}
	rec, ended := login(many, limit)
	assert.Equal(t, many-limit+1, ended)
	assert.ElementsMatch(t, keysOf(append(last, rec)), listed(t, s, "eve"))
}

func keysOf(recs []*coatcheck.Record) (keys []coatcheck.Key) {
	for _, rec := range recs {
		keys = append(keys, rec.Key)
	}
	return keys
}

func listed(t *testing.T, s *redisstore.Store, user string) (keys []coatcheck.Key) {
	t.Helper()
	require.NoError(t, s.List(context.Background(), user, time.Now(), func(rec *coatcheck.Record) bool {
		keys = append(keys, rec.Key)
		return true
	}))
	return keys
}

// The list of the oldest sessions is stored beside the mark, and does not interfere with it.
func TestOldestBesideTheMark(t *testing.T) {
	const limit = 20
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	login := func(mark coatcheck.Mark) error {
		opt := coatcheck.CreateOptions{Mark: mark, Limit: limit, Until: time.Now().Add(grave)}
		_, err := s.Create(ctx, session(t, "ada"), opt, time.Now())
		return err
	}
	for range limit + 1 {
		require.NoError(t, login(0))
	}
	mark, err := s.Mark(ctx, "ada", time.Now())
	require.NoError(t, err)
	assert.Zero(t, mark, "a list of sessions is no mark")
	require.NoError(t, login(0))
	require.NoError(t, login(12345))

	require.NoError(t, endUser(s, "ada", coatcheck.Key{}))
	require.ErrorIs(t, login(0), coatcheck.ErrRevoked)
	mark, err = s.Mark(ctx, "ada", time.Now())
	require.NoError(t, err)
	for range limit + 5 {
		require.NoError(t, login(mark))
		require.ErrorIs(t, login(0), coatcheck.ErrRevoked, "the mark stays, however many sessions there are")
	}
	assert.Len(t, listed(t, s, "ada"), limit)
}

// The index stays as long as the session that lives longest, in whatever order they begin.
func TestIndexStaysForTheLast(t *testing.T) {
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	begin := func(life time.Duration) *coatcheck.Record {
		rec := session(t, "ada")
		h := rec.Header
		h.IdleExpiry = time.Now().Add(life).UnixMilli()
		h.AbsoluteExpiry = h.IdleExpiry
		require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
		_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, time.Now())
		require.NoError(t, err)
		return rec
	}
	ttl := func() time.Duration {
		for _, key := range allKeys(t, server) {
			if strings.Contains(key, "}:u:") {
				ms, err := server.Do("PTTL", key).AsInt64()
				require.NoError(t, err)
				return time.Duration(ms) * time.Millisecond
			}
		}
		return 0
	}
	const late = 60 // seconds, on a busy machine
	for _, step := range []struct{ life, want time.Duration }{{time.Hour, time.Hour}, {time.Minute, time.Hour}, {2 * time.Hour, 2 * time.Hour}} {
		begin(step.life)
		assert.InDelta(t, step.want.Seconds(), ttl().Seconds(), late)
	}
	rec := begin(time.Minute)
	require.NoError(t, swap(s, next(t, rec, func(h *coatcheck.Header) { h.IdleExpiry += 1000; h.AbsoluteExpiry += 1000 })))
	assert.InDelta(t, 7200, ttl().Seconds(), late)
}

// A login does not make room for itself in a Redis whose memory is full by deleting the list of the oldest sessions.
func TestFullMemoryRefusesALoginThatIsOlderThanTheList(t *testing.T) {
	t.Parallel()
	const limit = 20
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	login := func(born time.Time) (*coatcheck.Record, error) {
		rec := session(t, "ada")
		h := rec.Header
		h.CreatedAt = born.UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
		_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: time.Now().Add(grave)}, time.Now())
		return rec, err
	}
	now := time.Now()
	for i := range limit + 1 {
		_, err := login(now.Add(time.Duration(i) * time.Second))
		require.NoError(t, err)
	}
	keys := allKeys(t, server)
	server.Must("CONFIG", "SET", "maxmemory", "1")
	rec, err := login(now.Add(-time.Hour))
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorIs(t, load(s, rec), coatcheck.ErrNotFound)
	assert.Subset(t, allKeys(t, server), slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, "}:r:") }), "nothing is lost")
}
