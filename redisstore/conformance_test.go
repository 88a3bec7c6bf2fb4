package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/storetest"
)

// open returns a store that the test closes itself.
func open(t testing.TB, opt redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(context.Background(), opt)
	require.NoError(t, err)
	return s
}

// conform runs the suite of storetest against stores with these options.
func conform(t *testing.T, opt redisstore.Options) {
	storetest.Run(t, func(t *testing.T) coatcheck.Store { return open(t, opt) })
}

func TestConformance(t *testing.T) {
	server := redistest.Start(t)
	for name, opt := range map[string]redisstore.Options{
		"with a cache":      {},
		"without a cache":   {CacheTTL: -1},
		"with a tiny cache": {CacheSize: 1000},
		"with a prefix":     {Prefix: "ünusual prefix/"},
	} {
		t.Run(name, func(t *testing.T) {
			opt.URL, opt.Timeout = server.URL(), 3*time.Second
			conform(t, opt)
		})
	}
}

func TestConformanceOnCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, false)
	conform(t, redisstore.Options{URL: cluster.URL(), Timeout: 3 * time.Second})
	t.Run("own writes are seen", func(t *testing.T) {
		ownWritesAreSeen(t, opened(t, redisstore.Options{URL: cluster.URL(), Timeout: 3 * time.Second}), 2000)
	})
	for _, node := range cluster.Primaries {
		n, err := node.Do("DBSIZE").AsInt64()
		require.NoError(t, err)
		require.Greater(t, n, int64(100), "the sessions are spread over all nodes")
	}
}

func TestConformanceUnderSentinel(t *testing.T) {
	conform(t, redisstore.Options{URL: redistest.StartSentinel(t).URL(), Timeout: 3 * time.Second})
}
