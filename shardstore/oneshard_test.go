package shardstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// usersOfShard0 returns n users whose sessions all stand in the first shard of 256.
func usersOfShard0(n int) (users []string) {
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprintf("picked-%d", i); coatcheck.TagOf(user)[3] == 0 {
			users = append(users, user)
		}
	}
	return users
}

// sessionsOf creates some sessions for each user.
func sessionsOf(t *testing.T, s *shardstore.Store, users []string, each int) (keys []coatcheck.Key) {
	t.Helper()
	var rec coatcheck.Record
	for u, user := range users {
		tag := coatcheck.TagOf(user)
		for i := range each {
			var key coatcheck.Key
			copy(key[:], tag[:])
			binary.BigEndian.PutUint64(key[8:], uint64(u*each+i+1)*0x9E3779B97F4A7C15)
			require.NoError(t, rec.Write(key, coatcheck.Header{
				Version: 1, ID: coatcheck.ID{1}, CreatedAt: t0.UnixMilli(),
				IdleExpiry: t0.Add(time.Hour).UnixMilli(), AbsoluteExpiry: t0.Add(time.Hour).UnixMilli(),
			}, []byte(user), nil, nil, nil))
			_, err := s.Create(context.Background(), &rec, coatcheck.CreateOptions{Limit: 100}, t0)
			require.NoError(t, err)
			keys = append(keys, key)
		}
	}
	return keys
}

// DOS-08: user IDs that were picked to fall into one shard make a load take at most twice as long as an even spread does, on
// one goroutine.
func TestUsersPickedForOneShard(t *testing.T) {
	const each = 100
	users := turns(2000)
	var spread []string
	for i := range users {
		spread = append(spread, fmt.Sprintf("user-%d", i))
	}
	one, even := newStore(t, shardstore.Options{JanitorEvery: asleep}), newStore(t, shardstore.Options{JanitorEvery: asleep})
	oneKeys, evenKeys := sessionsOf(t, one, usersOfShard0(users), each), sessionsOf(t, even, spread, each)
	loads := func(s *shardstore.Store, keys []coatcheck.Key) time.Duration {
		var rec coatcheck.Record
		began := time.Now()
		for i := range 2000 {
			if err := s.Load(context.Background(), keys[i*7919%len(keys)], coatcheck.ID{1}, t0, &rec); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	crowded, quiet := time.Hour, time.Hour
	for round := 0; round < 50 || crowded > 2*quiet && round < 5000; round++ { // in turn, until a busy machine has disturbed neither once
		crowded, quiet = min(crowded, loads(one, oneKeys)), min(quiet, loads(even, evenKeys))
	}
	t.Logf("%v in one shard, %v spread", crowded/2000, quiet/2000)
	assert.LessOrEqual(t, crowded, 2*quiet)

	n, err := one.EndUser(context.Background(), usersOfShard0(1)[0], coatcheck.Key{}, true, t0, t0)
	require.NoError(t, err)
	assert.Equal(t, each, n)
}
