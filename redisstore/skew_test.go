package redisstore_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// SES-07: the clocks of a node and of Redis differ by half a minute. With Redis behind, the record outlives its session
// there and opens nothing; with Redis ahead, the session ends early. Neither brings a session back.
func TestSkew(t *testing.T) {
	t.Parallel()
	const skew, lives = 30 * time.Second, 20 * time.Second
	server := redistest.Start(t)
	for name, cacheTTL := range map[string]time.Duration{"with a cache": 0, "without": -1} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, redisstore.Options{URL: server.URL(), CacheTTL: cacheTTL})
			ctx := t.Context()
			var cur coatcheck.Record
			at := func(now time.Time) *coatcheck.Record {
				rec := session(t, "ada")
				head := rec.Header
				head.IdleExpiry, head.AbsoluteExpiry = now.Add(lives).UnixMilli(), now.Add(lives).UnixMilli()
				require.NoError(t, rec.Write(rec.Key, head, rec.User(), nil, nil, nil))
				_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, now)
				require.NoError(t, err)
				return rec
			}

			now := time.Now().Add(skew) // Redis is behind
			rec := at(now)
			require.NoError(t, s.Load(ctx, rec.Key, rec.ID, now, &cur))
			over := now.Add(lives)
			require.ErrorIs(t, s.Load(ctx, rec.Key, rec.ID, over, &cur), coatcheck.ErrExpired, "although Redis has it")
			require.Equal(t, rec.Bytes(), cur.Bytes(), "a logout ends it")
			assert.Equal(t, "1", server.Must("EXISTS", s.RecordKey(rec.Key)))
			renewed := coatcheck.Record{}
			head := rec.Header
			head.Version++
			head.IdleExpiry, head.AbsoluteExpiry = over.Add(time.Hour).UnixMilli(), over.Add(time.Hour).UnixMilli()
			require.NoError(t, renewed.Write(rec.Key, head, rec.User(), nil, nil, nil))
			require.ErrorIs(t, s.Swap(ctx, &renewed, rec.Version, over, &cur), coatcheck.ErrNotFound, "a renewal that comes too late")
			require.ErrorIs(t, s.Load(ctx, rec.Key, rec.ID, over, &cur), coatcheck.ErrExpired)
			require.ErrorIs(t, s.End(ctx, rec.Key, "ada", over, over.Add(time.Second), &cur), coatcheck.ErrNotFound)
			assert.Equal(t, "0", server.Must("EXISTS", s.RecordKey(rec.Key)))
			require.ErrorIs(t, s.Load(ctx, rec.Key, rec.ID, now, &cur), coatcheck.ErrNotFound, "by a clock that is right")

			now = time.Now().Add(-skew) // Redis is ahead
			rec = at(now)
			require.ErrorIs(t, s.Load(ctx, rec.Key, rec.ID, now, &cur), coatcheck.ErrNotFound, "it was over for Redis when it began")
		})
	}
}

// A mark refuses logins for as long as Redis keeps it, whatever the clocks of the node that left it and of the login's say.
func TestMarkLivesByRedisClock(t *testing.T) {
	s := opened(t, redisstore.Options{URL: redistest.Start(t).URL()})
	for _, ending := range []time.Duration{-2 * time.Minute, 0, 2 * time.Minute} {
		for _, login := range []time.Duration{-2 * time.Minute, 0, 2 * time.Minute} {
			user, now := rand.Text(), time.Now()
			_, err := s.EndUser(t.Context(), user, coatcheck.Key{}, true, now.Add(ending), now.Add(ending+grave))
			require.NoError(t, err)
			mark, err := s.Mark(t.Context(), user, now.Add(login))
			require.NoError(t, err)
			require.NotZero(t, mark, "%v, %v", ending, login)
			_, err = s.Create(t.Context(), session(t, user), coatcheck.CreateOptions{}, now.Add(login))
			require.ErrorIs(t, err, coatcheck.ErrRevoked, "%v, %v", ending, login)
		}
	}
}

// The store also warns of a clock that goes wrong after the start.
func TestClockIsWatched(t *testing.T) {
	var b bytes.Buffer
	url := "redis://" + shifted(t, redistest.Start(t).Addr(), time.Minute)
	s := opened(t, redisstore.Options{URL: url, Logger: slog.New(slog.NewTextHandler(&b, nil))})
	require.Regexp(t, aMinuteAhead, b.String(), "at the start")
	b.Reset()
	require.NoError(t, s.Ping(t.Context()))
	assert.Empty(t, b.String(), "not with every Ping")
	s.LookAtClock()
	require.NoError(t, s.Ping(t.Context()))
	assert.Regexp(t, aMinuteAhead, b.String())
	b.Reset()
	require.NoError(t, s.Ping(t.Context()))
	assert.Empty(t, b.String())
}
