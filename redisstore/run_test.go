package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// An operation whose answer is lost is done once, and its caller gets the answer after all.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	replica := redistest.Start(t, fmt.Sprintf("replicaof 127.0.0.1 %d", server.Port))
	proxy := redistest.Between(t, server.Addr())
	for name, opt := range map[string]redisstore.Options{
		"with a cache": {}, "without a cache": {CacheTTL: -1}, "waiting for a replica": {WaitReplicas: 1},
	} {
		opt.URL = "redis://" + proxy.Addr()
		s := opened(t, opt)
		everything(t, s, "to load the scripts "+name, new([]coatcheck.Token))
		for range max(3, quickly(10)) {
			t.Run("end "+name, func(t *testing.T) { loseEnd(t, s, proxy) })
			t.Run("swap "+name, func(t *testing.T) { loseSwap(t, s, proxy) })
			t.Run("plain create "+name, func(t *testing.T) { losePlain(t, s, proxy) })
			t.Run("create "+name, func(t *testing.T) { loseCreate(t, s, proxy) })
			t.Run("create at the limit "+name, func(t *testing.T) { loseAtLimit(t, s, proxy) })
			t.Run("create from the list "+name, func(t *testing.T) { loseFromList(t, s, proxy) })
			t.Run("end user "+name, func(t *testing.T) { loseEndUser(t, s, proxy) })
		}
	}
	replica.Kill()
}

func loseEnd(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	rec := add(t, s, "ada")
	var last coatcheck.Record
	proxy.LoseAnswer()
	require.NoError(t, s.End(context.Background(), rec.Key, "ada", time.Now(), time.Now().Add(grave), &last))
	assert.Equal(t, rec.Bytes(), last.Bytes())
	require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
}

func loseSwap(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	rec := add(t, s, "ada")
	for range 3 {
		rec = next(t, rec, rotated)
		proxy.LoseAnswer()
		require.NoError(t, swap(s, rec))
		require.NoError(t, load(s, rec))
	}
	proxy.LoseAnswer()
	require.ErrorIs(t, swap(s, next(t, next(t, rec))), coatcheck.ErrConflict)
	require.NoError(t, end(s, rec))
	proxy.LoseAnswer()
	require.ErrorIs(t, swap(s, next(t, rec)), coatcheck.ErrNotFound)
}

func loseCreate(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	user := fmt.Sprintf("user %d", rand.Uint64())
	oldest := add(t, s, user)
	nextMillisecond() // so that this session is the oldest
	old := next(t, add(t, s, user))
	require.NoError(t, swap(s, old))
	add(t, s, user)
	rec := session(t, user)
	var replaced coatcheck.Record
	proxy.LoseAnswer()
	opt := coatcheck.CreateOptions{Limit: 2, Replace: old.Key, Replaced: &replaced, Until: time.Now().Add(grave)}
	ended, err := s.Create(context.Background(), rec, opt, time.Now())
	require.NoError(t, err)
	assert.Equal(t, 1, ended)
	assert.Equal(t, old.Bytes(), replaced.Bytes())
	require.NoError(t, load(s, rec))
	require.ErrorIs(t, load(s, old), coatcheck.ErrEnded)
	require.ErrorIs(t, load(s, oldest), coatcheck.ErrEnded)
	// What the proxy cuts may be a connection that the call had not reached yet. Its next try must not find the receipt of the first
	// session, so this one is anonymous, which leaves none.
	taken := add(t, s, "")
	proxy.LoseAnswer()
	_, err = s.Create(context.Background(), next(t, taken), coatcheck.CreateOptions{}, time.Now())
	require.ErrorIs(t, err, coatcheck.ErrExists)
}

// loseAtLimit makes logins that end the oldest sessions and replace none.
func loseAtLimit(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	user := fmt.Sprintf("user %d", rand.Uint64())
	oldest := []*coatcheck.Record{add(t, s, user), add(t, s, user), add(t, s, user)}
	nextMillisecond() // so that these are the oldest
	add(t, s, user)
	rec := session(t, user)
	proxy.LoseAnswer()
	ended, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: 2, Until: time.Now().Add(grave)}, time.Now())
	require.NoError(t, err)
	assert.Equal(t, 3, ended)
	require.NoError(t, load(s, rec))
	for _, old := range oldest {
		require.ErrorIs(t, load(s, old), coatcheck.ErrEnded)
	}
}

// loseFromList makes logins whose answers stand in the list of the user's oldest sessions.
func loseFromList(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	user := fmt.Sprintf("user %d", rand.Uint64())
	var recs []*coatcheck.Record
	login := func() int {
		nextMillisecond()
		rec := session(t, user)
		recs = append(recs, rec)
		ended, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: 17, Until: time.Now().Add(grave)}, time.Now())
		require.NoError(t, err)
		return ended
	}
	for range 17 + 1 { // the last of these makes the list
		login()
	}
	for i := range 12 { // it has two parts
		proxy.LoseAnswer()
		require.Equal(t, 1, login())
		require.ErrorIs(t, load(s, recs[1+i]), coatcheck.ErrEnded)
		require.NoError(t, load(s, recs[2+i]), "a try and its repetition end one session")
	}
}

// losePlain makes a login that ends no other session and so leaves no receipt.
func losePlain(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	ctx := context.Background()
	for _, user := range []string{"", fmt.Sprintf("user %d", rand.Uint64())} {
		rec := session(t, user)
		proxy.LoseAnswer()
		ended, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: 5, Until: time.Now().Add(grave)}, time.Now())
		require.NoError(t, err)
		assert.Zero(t, ended)
		require.NoError(t, load(s, rec))
		require.NoError(t, end(s, rec))
	}
}

func loseEndUser(t *testing.T, s *redisstore.Store, proxy *redistest.Proxy) {
	user := fmt.Sprintf("user %d", rand.Uint64())
	add(t, s, user)
	add(t, s, user)
	keep := add(t, s, user)
	proxy.LoseAnswer()
	n, err := s.EndUser(context.Background(), user, keep.Key, true, time.Now(), time.Now().Add(grave))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	require.NoError(t, load(s, keep))
	require.NoError(t, endUser(s, user, keep.Key))
	proxy.LoseAnswer()
	require.ErrorIs(t, endUser(s, user, session(t, user).Key), coatcheck.ErrNotFound)
}

// RED-02: callers whose contexts are cancelled do not get each other's answers.
func TestCancellations(t *testing.T) {
	t.Parallel()
	s := opened(t, redisstore.Options{URL: redistest.Start(t).URL()})
	recs := make([]*coatcheck.Record, 32)
	for i := range recs {
		recs[i] = add(t, s, fmt.Sprintf("user %d", i))
	}
	parallel(32, quickly(20_000), func(i int) {
		rec := recs[i%len(recs)]
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(300))*time.Microsecond)
		defer cancel()
		var got coatcheck.Record
		if i%4 == 0 {
			s.Forget()
		}
		err := s.Load(ctx, rec.Key, rec.ID, time.Now(), &got)
		if err == nil {
			assert.Equal(t, rec.Bytes(), got.Bytes())
		} else {
			assert.True(t, errors.Is(err, coatcheck.ErrUnavailable), "%v", err)
		}
	})
}
