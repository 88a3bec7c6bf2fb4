package redisstore_test

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A revocation makes the token of a session useless, in one of the ways that there are.
type revocation struct {
	name string
	do   func(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) error
}

var revocations = []revocation{
	{"end", func(_ testing.TB, s *redisstore.Store, rec *coatcheck.Record) error { return end(s, rec) }},
	{"end all", func(_ testing.TB, s *redisstore.Store, rec *coatcheck.Record) error {
		return endUser(s, rec.UserID(), coatcheck.Key{})
	}},
	{"cycle", func(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) error {
		fresh := next(t, rec, cycled)
		return swapAt(s, fresh, time.UnixMilli(fresh.RotatedAt))
	}},
	{"replace", func(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) error {
		opt := coatcheck.CreateOptions{Replace: rec.Key, Replaced: &coatcheck.Record{}, Until: time.Now().Add(grave)}
		_, err := s.Create(context.Background(), session(t, rec.UserID()), opt, time.Now())
		return err
	}},
	{"push out", func(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) error {
		opt := coatcheck.CreateOptions{Limit: 1, Until: time.Now().Add(grave)}
		_, err := s.Create(context.Background(), session(t, rec.UserID()), opt, time.Now())
		return err
	}},
}

// RED-03: 10,000 of 10,000 next requests see what this node has just done.
func TestOwnWritesAreSeen(t *testing.T) {
	t.Parallel()
	s := opened(t, redisstore.Options{URL: redistest.Start(t).URL()})
	ownWritesAreSeen(t, s, quickly(10_000))
	assert.Greater(t, s.Stats().Hits, uint64(quickly(10_000)))
}

// ownWritesAreSeen lets 64 clients revoke cached sessions, one in eight of them while another client reads the session
// without pause.
func ownWritesAreSeen(t *testing.T, s *redisstore.Store, trials int) {
	const clients = 64
	var turn, late atomic.Int64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for i := int(turn.Add(1)); i <= trials; i = int(turn.Add(1)) {
				if !ownWriteIsSeen(t, s, i) {
					late.Add(1)
				}
			}
		})
	}
	running.Wait()
	assert.Zero(t, late.Load(), "so many of %d saw the session as it was before", trials)
}

func ownWriteIsSeen(t *testing.T, s *redisstore.Store, i int) bool {
	rec := add(t, s, crand.Text())
	warm(t, s, rec)
	if i%8 == 0 {
		stop := readOn(s, rec)
		defer stop()
	}
	r := revocations[i%len(revocations)]
	if !assert.NoError(t, r.do(t, s, rec), r.name) {
		return true
	}
	open, err := opens(s, rec, rec.ID)
	assert.True(t, err == nil || errors.Is(err, coatcheck.ErrEnded), "%v", err)
	return !open
}

// readOn reads the session without pause until it is told to stop.
func readOn(s *redisstore.Store, rec *coatcheck.Record) (stop func()) {
	var over atomic.Bool
	var running sync.WaitGroup
	running.Go(func() {
		for !over.Load() {
			_ = load(s, rec)
			runtime.Gosched()
		}
	})
	return func() {
		over.Store(true)
		running.Wait()
	}
}

// A node that has not received the invalidation of another node's refresh yet must not refuse the new token, and may cache
// it afterwards.
func TestTokenOfAnotherNodeIsAccepted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := opened(t, redisstore.Options{URL: server.URL()})
	proxy := redistest.Between(t, server.Addr())
	b := opened(t, redisstore.Options{URL: "redis://" + proxy.Addr()})

	trials := quickly(10_000)
	recs := make([]*coatcheck.Record, trials)
	parallel(64, trials, func(i int) {
		recs[i] = add(t, a, fmt.Sprintf("user %d", i))
		warm(t, b, recs[i])
	})
	proxy.HoldNews(true)
	parallel(64, trials, func(i int) {
		rec := next(t, recs[i], rotated)
		if !assert.NoError(t, swap(a, rec)) {
			return
		}
		open, err := opens(b, rec, rec.ID)
		assert.NoError(t, err)
		assert.True(t, open)
		recs[i] = rec
	})
	require.Zero(t, b.Stats().Invalidations, "the news were held back")
	proxy.HoldNews(false)
	redistest.Eventually(t, time.Minute, "the news to arrive", func() bool { return b.Stats().Invalidations >= uint64(trials) })
	for _, rec := range recs[:100] {
		warm(t, b, rec)
	}
}

// parallel runs f(0) to f(n-1), as many at once as there are workers.
func parallel(workers, n int, f func(i int)) {
	var turn atomic.Int64
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for i := int(turn.Add(1)) - 1; i < n; i = int(turn.Add(1)) - 1 {
				f(i)
			}
		})
	}
	running.Wait()
}
