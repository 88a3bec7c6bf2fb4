package server_test

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/servertest"
	"github.com/coatcheck/coatcheck/shardstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp starts one goroutine for the Date header with its first server, and has no way to stop it.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// It looks every ten seconds for workers to stop, and only then sees that its server has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// The whole HTTP contract over TCP, on the memory store.
func TestContract(t *testing.T) {
	servertest.Run(t, func(t *testing.T) coatcheck.Store {
		store, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: never})
		require.NoError(t, err)
		return store
	})
}

// never keeps the janitor away: it goes by the real time, and these tests' clocks go their own way.
const never = time.Hour

// newStore is a memory store that goes with the test.
func newStore(t testing.TB) *shardstore.Store {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{JanitorEvery: never})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

// What sessions have to do with is the same over Redis, with its cache: handlers cannot tell which store they have.
func TestContractOnRedis(t *testing.T) {
	redis := redistest.Start(t)
	var stores atomic.Uint32
	servertest.RunStore(t, func(t *testing.T) coatcheck.Store {
		t.Helper()
		database := fmt.Sprint("/", stores.Add(1)%16) // a list of all sessions passes over what the other rules keep in the same one
		return redistest.Store(t, redisstore.Options{URL: redis.URL() + database, Prefix: rand.Text() + ":"})
	})
}
