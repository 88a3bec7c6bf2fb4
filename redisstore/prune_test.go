package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A login now and then removes from the user's index what has expired, so that the index of a user who logs in for ever and
// never logs out stays small.
func TestLoginsPruneTheIndex(t *testing.T) {
	redis := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: redis.URL()})
	ctx := context.Background()
	const user, many = "ada", 200
	for range many {
		rec, soon := session(t, user), time.Now().Add(time.Second).UnixMilli()
		h := rec.Header
		h.IdleExpiry, h.AbsoluteExpiry = soon, soon
		require.NoError(t, rec.Write(rec.Key, h, []byte(user), nil, nil, nil))
		_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, time.Now())
		require.NoError(t, err)
	}
	last := add(t, s, user) // keeps the index
	redistest.Eventually(t, 20*time.Second, "the sessions to expire", func() bool {
		keys, err := redis.Do("KEYS", "*:s:*").AsStrSlice()
		require.NoError(t, err)
		return len(keys) == 1
	})
	index, err := redis.Do("KEYS", "*:u:*").AsStrSlice()
	require.NoError(t, err)
	require.Len(t, index, 1)
	members := func() int64 {
		n, err := redis.Do("ZCARD", index[0]).AsInt64()
		require.NoError(t, err)
		return n
	}
	for logins := int64(0); members() > 1+logins; logins++ { // until those that live are left
		require.Less(t, logins, int64(1000), "one login in twenty prunes")
		add(t, s, user)
	}
	require.NoError(t, load(s, last))
}
