package redisstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// loginAt makes a login of the user ada, at a time of its own, and returns how many sessions the limit ended.
func loginAt(t *testing.T, s *redisstore.Store, now time.Time, life time.Duration, limit int) (*coatcheck.Record, int) {
	t.Helper()
	rec := session(t, "ada")
	h := rec.Header
	h.CreatedAt, h.IdleExpiry, h.AbsoluteExpiry = now.UnixMilli(), now.Add(life).UnixMilli(), now.Add(life).UnixMilli()
	require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
	ended, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: now.Add(grave)}, now)
	require.NoError(t, err)
	return rec, ended
}

// A login at the limit succeeds although records are gone, all of them or the older ones.
func TestLimitWithoutTheRecords(t *testing.T) {
	for name, gone := range map[string]int{"all": 20, "the older": 10} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			s := opened(t, redisstore.Options{URL: server.URL()})
			now := time.Now()
			var recs []*coatcheck.Record
			for range 20 {
				rec, _ := loginAt(t, s, now, time.Hour, 20) // all at the same time: none is older than the next login
				recs = append(recs, rec)
			}
			for _, rec := range recs[:gone] {
				server.Must("DEL", s.RecordKey(rec.Key))
			}
			rec, ended := loginAt(t, s, now, time.Hour, 20)
			assert.Zero(t, ended)
			assert.ElementsMatch(t, append(keysOf(recs[gone:]), rec.Key), listed(t, s, "ada"))
		})
	}
}

// Sessions that are gone do not count, either, where the list was not used because one of the sessions has expired, by the clock
// of a node that is ahead of Redis, and where a part of the list is gone.
func TestRecordsThatTheListKnowsAreGone(t *testing.T) {
	for _, name := range []string{"expired", "evicted"} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			s := opened(t, redisstore.Options{URL: server.URL()})
			now := time.Now().Add(time.Hour)
			var recs []*coatcheck.Record
			for range 20 {
				now = now.Add(time.Second)
				rec, _ := loginAt(t, s, now, 10*time.Minute, 20)
				recs = append(recs, rec)
			}
			now = now.Add(time.Second)
			_, ended := loginAt(t, s, now, time.Minute, 20) // makes the list
			require.Equal(t, 1, ended)
			if name == "expired" {
				now = now.Add(2 * time.Minute)
			} else {
				for range 9 { // up to the second part of the list
					now = now.Add(time.Second)
					_, ended = loginAt(t, s, now, 10*time.Minute, 20)
					require.Equal(t, 1, ended)
				}
				server.Must("DEL", keyWith(t, server, "}:n:"))
			}
			for _, rec := range recs[13:19] { // not the oldest
				server.Must("DEL", s.RecordKey(rec.Key))
			}
			for range 3 {
				now = now.Add(time.Second)
				_, ended = loginAt(t, s, now, 10*time.Minute, 20)
				if name == "evicted" { // the last of the list's first part is left
					name = ""
					continue
				}
				assert.Zero(t, ended)
			}
		})
	}
}

// A login whose answer is lost is told of all sessions that it ended, of those in the list and of those behind it.
func TestLostAnswerAtTheEndOfTheList(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.Between(t, server.Addr())
	s := opened(t, redisstore.Options{URL: "redis://" + proxy.Addr()})
	now := time.Now()
	login := func(limit int) int {
		now = now.Add(time.Millisecond)
		_, ended := loginAt(t, s, now, time.Hour, limit)
		return ended
	}
	for range 20 {
		require.Zero(t, login(20))
	}
	for range 1 + 18 { // the first makes a list of 19
		require.Equal(t, 1, login(20))
	}
	proxy.LoseAnswer()
	assert.Equal(t, 3, login(18))
	assert.Len(t, listed(t, s, "ada"), 18)
}

// However often a user is at the limit and signs out everywhere, not more parts of lists are left than the limit has tens.
func TestPartsOfListsAreBounded(t *testing.T) {
	const limit = 60
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	now := time.Now()
	for range 3 {
		for range limit + 1 {
			now = now.Add(time.Millisecond)
			loginAt(t, s, now, time.Hour, limit)
		}
		require.NoError(t, endUser(s, "ada", coatcheck.Key{}))
		parts := 0
		for _, key := range allKeys(t, server) {
			if strings.Contains(key, "}:n:") {
				parts++
			}
		}
		assert.Equal(t, limit/10-1, parts)
		server.Must("DEL", keyWith(t, server, "}:m:")) // as when the mark expires
	}
}
