package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/shardstore"
)

// policy lets sessions live so long that none is renewed while others are measured.
var policy = coatcheck.Policy{TTL: 12 * time.Hour, MaxLifetime: 12 * time.Hour}

// How many sessions a store holds while its hot path is measured, and how many of them make requests in turn.
const (
	inMemory = 1_000_000
	inRedis  = 100_000
	inTurn   = 64
)

// resident is a store with many sessions in it, and the Cookie headers that open them.
type resident struct {
	store   coatcheck.Store
	server  *server.Server
	n       int
	cookies []byte // one after the other, each of cookieLen bytes
}

const cookieLen = len(cookieName) + 1 + coatcheck.TokenLen

func (r *resident) cookie(i int) []byte {
	return r.cookies[i*cookieLen : (i+1)*cookieLen : (i+1)*cookieLen]
}

// any returns the index of a session that is far from the last one's; over time it returns every session's index.
func (r *resident) any(i int) int { return i * 7919 % r.n } // a prime that divides no n used here

// number is the size of a store: n, or with -short just enough to see that the benchmark works.
func number(n int) int {
	if testing.Short() {
		return 1000
	}
	return n
}

// million is a memory store, filled once for all benchmarks and all their repetitions.
func million(tb testing.TB) *resident {
	tb.Helper()
	r, err := filledMemory()
	require.NoError(tb, err)
	r.server = newServer(tb, r.store)
	return r
}

var filledMemory = sync.OnceValues(func() (*resident, error) {
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		return nil, err
	}
	r := &resident{store: store, n: number(inMemory)}
	return r, r.fill(1)
})

// newRedis is a store on a Redis of its own; a negative cacheTTL turns its cache off.
func newRedis(tb testing.TB, redis *redistest.Server, cacheTTL time.Duration) *redisstore.Store {
	tb.Helper()
	store := redistest.Store(tb, redisstore.Options{URL: redis.URL(), CacheTTL: cacheTTL, Logger: discard()})
	tb.Cleanup(func() { require.NoError(tb, store.Close()) })
	return store
}

// fill puts n sessions of as many users into the store.
func (r *resident) fill(workers int) error {
	m, err := coatcheck.NewManager(r.store, policy)
	if err != nil {
		return err
	}
	r.cookies = make([]byte, r.n*cookieLen)
	errs := make([]error, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < r.n && errs[w] == nil; i += workers {
				errs[w] = begin(m, fmt.Sprintf("resident-%d", i), nil, r.cookie(i))
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// begin logs a user in, past HTTP, gives the session values, and writes the cookie that opens it.
func begin(m *coatcheck.Manager, user string, values []string, cookie []byte) error {
	ctx, now := context.Background(), time.Now()
	var s coatcheck.Request
	defer s.Release()
	if err := m.Open(ctx, &s, &coatcheck.Presented{}, coatcheck.Client{UserAgent: []byte("Mozilla/5.0")}, now); err != nil {
		return err
	}
	err := s.Authenticate(user)
	for i, v := range values {
		err = errors.Join(err, s.Insert(valueName(i), v))
	}
	if err = errors.Join(err, s.Commit(ctx)); err != nil {
		return err
	}
	token, _ := s.Token(now)
	token.AppendSecretText(append(append(cookie[:0], cookieName...), '='))
	return nil
}

// warm presents every session until the cache holds all of them.
func (r *resident) warm(tb testing.TB, store *redisstore.Store) {
	tb.Helper()
	c := newClient(tb, r.server.Handler())
	redistest.Eventually(tb, time.Minute, "all sessions to be in the cache", func() bool {
		for i := 0; i < r.n && store.Stats().CachedRecords < r.n; i++ {
			c.me(r.cookie(i))
		}
		return store.Stats().CachedRecords == r.n
	})
}
