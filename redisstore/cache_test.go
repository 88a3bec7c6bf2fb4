package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const prefix = "coatcheck:"

func redisKey(key coatcheck.Key) string { return fmt.Sprintf("%s{%s}:s:%s", prefix, key.Tag(), key) }

// The cache does what rueidis' own tests require of a CacheStore, except that a read which an invalidation overtook is not
// kept.
func TestCacheStore(t *testing.T) {
	now := time.Now()
	setUp := func(t *testing.T) (redisstore.Cache, rueidis.CacheStore, *coatcheck.Record, string) {
		c := redisstore.NewCache(prefix, 1<<20)
		rec := session(t, "ada")
		return c, c.NewStore(), rec, redisKey(rec.Key)
	}
	keys := func(key string) []rueidis.RedisMessage {
		return []rueidis.RedisMessage{redisstore.Message([]byte(key))}
	}
	isZero := func(m rueidis.RedisMessage) bool { return m == (rueidis.RedisMessage{}) }

	t.Run("a read is made once, and its answer is for all", func(t *testing.T) {
		c, conn, rec, key := setUp(t)
		msg, entry := conn.Flight(key, "GET", time.Minute, now)
		require.True(t, isZero(msg) && entry == nil, "the first one reads")
		msg, entry = conn.Flight(key, "GET", time.Minute, now)
		require.True(t, isZero(msg) && entry != nil, "the second one waits")
		answer := redisstore.Message(rec.Bytes())
		assert.Equal(t, now.Add(time.Minute).UnixMilli(), conn.Update(key, "GET", answer))
		got, err := entry.Wait(context.Background())
		require.NoError(t, err)
		assert.Equal(t, answer, got)
		msg, entry = conn.Flight(key, "GET", time.Minute, now)
		assert.True(t, msg == answer && entry == nil, "the third one has it")
		var found coatcheck.Record
		assert.True(t, c.Load(rec.Key, rec.ID, now, &found))
		assert.Equal(t, rec.Bytes(), found.Bytes())

		conn.Delete(keys(key))
		assert.False(t, c.Load(rec.Key, rec.ID, now, &found))
		msg, entry = conn.Flight(key, "GET", time.Minute, now)
		assert.True(t, isZero(msg) && entry == nil, "one reads again")
	})
	t.Run("a clock that was ahead", func(t *testing.T) {
		for _, step := range []time.Duration{-4 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 4 * 365 * 24 * time.Hour} {
			c, conn, rec, key := setUp(t)
			conn.Flight(key, "GET", time.Minute, now)
			conn.Update(key, "GET", redisstore.Message(rec.Bytes()))
			var found coatcheck.Record
			assert.True(t, c.Load(rec.Key, rec.ID, now, &found))
			assert.False(t, c.Load(rec.Key, rec.ID, now.Add(step), &found), "%v: it must be read again", step)
			msg, entry := conn.Flight(key, "GET", time.Minute, now.Add(step))
			assert.True(t, isZero(msg) && entry == nil, "%v: one reads again", step)
		}
	})
	t.Run("a read that fails", func(t *testing.T) {
		_, conn, _, key := setUp(t)
		conn.Flight(key, "GET", time.Minute, now)
		_, entry := conn.Flight(key, "GET", time.Minute, now)
		conn.Cancel(key, "GET", errors.New("failed"))
		_, err := entry.Wait(context.Background())
		require.EqualError(t, err, "failed")
		msg, entry := conn.Flight(key, "GET", time.Minute, now)
		assert.True(t, isZero(msg) && entry == nil)
	})
	t.Run("waiting ends with the context", func(t *testing.T) {
		_, conn, _, key := setUp(t)
		conn.Flight(key, "GET", time.Minute, now)
		_, entry := conn.Flight(key, "GET", time.Minute, now)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := entry.Wait(ctx)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("the connection is lost", func(t *testing.T) {
		c, conn, rec, key := setUp(t)
		put(conn, rec, time.Minute, now)
		other := redisKey(session(t, "bob").Key)
		conn.Flight(other, "GET", time.Minute, now)
		_, entry := conn.Flight(other, "GET", time.Minute, now)
		conn.Close(errors.New("lost"))
		_, err := entry.Wait(context.Background())
		require.EqualError(t, err, "lost")
		var found coatcheck.Record
		assert.False(t, c.Load(rec.Key, rec.ID, now, &found))
		_, entry = conn.Flight(key, "GET", time.Minute, now)
		assert.Nil(t, entry)
		conn.Update(key, "GET", redisstore.Message(rec.Bytes()))
		assert.False(t, c.Load(rec.Key, rec.ID, now, &found), "nothing comes after the end")
	})
	t.Run("a connection over which nothing was read takes nothing along", func(t *testing.T) {
		c, conn, rec, _ := setUp(t)
		put(conn, rec, time.Minute, now)
		c.NewStore().Close(errors.New("lost"))
		var found coatcheck.Record
		assert.True(t, c.Load(rec.Key, rec.ID, now, &found))
	})
	for name, takeOut := range map[string]func(redisstore.Cache, rueidis.CacheStore, string){
		"an invalidation":                   func(_ redisstore.Cache, conn rueidis.CacheStore, key string) { conn.Delete(keys(key)) },
		"an invalidation of all":            func(_ redisstore.Cache, conn rueidis.CacheStore, _ string) { conn.Delete(nil) },
		"a flush":                           func(c redisstore.Cache, _ rueidis.CacheStore, _ string) { c.Flush() },
		"the end of the connection":         func(_ redisstore.Cache, conn rueidis.CacheStore, _ string) { conn.Close(errors.New("lost")) },
		"another connection's invalidation": func(c redisstore.Cache, _ rueidis.CacheStore, key string) { c.NewStore().Delete(keys(key)) },
	} {
		t.Run("a read that "+name+" overtakes is not kept", func(t *testing.T) {
			c, conn, rec, key := setUp(t)
			conn.Flight(key, "GET", time.Minute, now)
			takeOut(c, conn, key)
			conn.Update(key, "GET", redisstore.Message(rec.Bytes()))
			var found coatcheck.Record
			assert.False(t, c.Load(rec.Key, rec.ID, now, &found))
			require.NoError(t, c.Check())
		})
	}
	t.Run("only records are kept", func(t *testing.T) {
		c, conn, rec, key := setUp(t)
		newer := append([]byte{0xC3}, rec.Bytes()[1:]...)
		for _, msg := range []rueidis.RedisMessage{
			redisstore.NilMessage(), redisstore.Message(nil), redisstore.Message(coatcheck.Tombstone()),
			redisstore.Message(newer), redisstore.Message(rec.Bytes()[:93]), redisstore.Message([]byte("text")),
		} {
			conn.Flight(key, "GET", time.Minute, now)
			conn.Update(key, "GET", msg)
			assert.Zero(t, c.Stats().CachedRecords)
		}
	})
	t.Run("keys that are no record's", func(t *testing.T) {
		c, conn, rec, _ := setUp(t)
		for _, key := range []string{"", prefix, "other:{00000000}:s:" + rec.Key.String(), redisKey(rec.Key) + "x", redisKey(rec.Key)[:40]} {
			conn.Flight(key, "GET", time.Minute, now)
			conn.Update(key, "GET", redisstore.Message(rec.Bytes()))
			conn.Cancel(key, "GET", errors.New("failed"))
			conn.Delete(keys(key))
		}
		assert.Zero(t, c.Stats().CachedRecords)
	})
}

// put does what a read for the cache does.
func put(conn rueidis.CacheStore, rec *coatcheck.Record, ttl time.Duration, now time.Time) {
	conn.Flight(redisKey(rec.Key), "GET", ttl, now)
	conn.Update(redisKey(rec.Key), "GET", redisstore.Message(rec.Bytes()))
}

// RED-02, SES-05: whatever is in the cache, it admits only a token of a session that lives.
func TestCacheOnlySaysYes(t *testing.T) {
	now := time.Now()
	c := redisstore.NewCache(prefix, 1<<20)
	conn := c.NewStore()
	first := session(t, "ada")
	rec := next(t, first, rotated, func(h *coatcheck.Header) { h.PrevUntil = now.Add(10 * time.Second).UnixMilli() })
	put(conn, rec, time.Minute, now)
	var got coatcheck.Record
	yes := func(key coatcheck.Key, id coatcheck.ID, at time.Duration) bool {
		return c.Load(key, id, now.Add(at), &got)
	}
	assert.True(t, yes(rec.Key, rec.ID, 0))
	assert.True(t, yes(rec.Key, first.ID, 0))
	assert.True(t, yes(rec.Key, first.ID, 9*time.Second))
	assert.False(t, yes(rec.Key, first.ID, 11*time.Second), "the previous token after its grace")
	assert.True(t, yes(rec.Key, rec.ID, 59*time.Second))
	assert.False(t, yes(rec.Key, rec.ID, time.Minute), "it must be read again")
	assert.False(t, yes(rec.Key, newID(), 0))
	assert.False(t, yes(rec.Key, coatcheck.ID{}, 0))
	assert.False(t, yes(session(t, "ada").Key, rec.ID, 0))

	put(conn, rec, 100*life, now.Add(time.Hour))
	c.Flush()
	put(conn, rec, 100*life, now)
	assert.True(t, yes(rec.Key, rec.ID, life-time.Second))
	assert.False(t, yes(rec.Key, rec.ID, life+time.Second), "the session has expired")

	c.Keep(rec.Key, nil, rec)
	assert.True(t, yes(rec.Key, rec.ID, 0), "the same version")
	c.Keep(rec.Key, nil, next(t, rec))
	assert.False(t, yes(rec.Key, rec.ID, 0), "a read past the cache has shown a later one")
	put(conn, rec, 100*life, now)
	c.Keep(rec.Key, coatcheck.ErrNotFound, rec)
	assert.False(t, yes(rec.Key, rec.ID, 0), "a read past the cache has shown none")
	require.NoError(t, c.Check())
}

// A session in use is read again before its time in the cache is over, beside the requests, so none of them waits for Redis. A
// session that is not used leaves the cache.
func TestSessionInUseStaysInTheCache(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour
	s := opened(t, redisstore.Options{URL: redistest.Start(t).URL(), CacheTTL: ttl})
	used, unused := lasting(t, s, "ada"), lasting(t, s, "bob")
	warm(t, s, used)
	warm(t, s, unused)
	over := time.Now().Add(ttl) // when what is cached by now must be read again
	misses := s.Stats().Misses
	var got coatcheck.Record
	require.NoError(t, s.Load(context.Background(), used.Key, used.ID, over.Add(-ttl*6/10), &got))
	nextMillisecond() // so that a read is later than over was taken
	assert.False(t, s.Cached(used.Key, used.ID, over), "it is too early")
	require.NoError(t, s.Load(context.Background(), used.Key, used.ID, over.Add(-time.Minute), &got))
	redistest.Eventually(t, time.Minute, "the session to be read again", func() bool { return s.Cached(used.Key, used.ID, over) })
	assert.False(t, s.Cached(unused.Key, unused.ID, over))
	assert.Equal(t, misses, s.Stats().Misses)
}

// lasting creates a session that outlives an hour.
func lasting(t *testing.T, s *redisstore.Store, user string) *coatcheck.Record {
	t.Helper()
	rec := session(t, user)
	h := rec.Header
	h.IdleExpiry = time.Now().Add(5 * time.Hour).UnixMilli()
	h.AbsoluteExpiry = h.IdleExpiry
	require.NoError(t, rec.Write(rec.Key, h, []byte(user), nil, nil, nil))
	_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, time.Now())
	require.NoError(t, err)
	return rec
}
