package redisstore_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/storetest"
)

// open returns a store that the test closes itself. Its methods have ample time even on a slow machine, unless opt has a
// Timeout, which is for tests in which Redis is unreachable.
func open(t testing.TB, opt redisstore.Options) *redisstore.Store {
	t.Helper()
	if opt.Timeout == 0 {
		s, err := redisstore.NewPatient(context.Background(), opt)
		require.NoError(t, err)
		return s
	}
	var s *redisstore.Store
	redistest.Eventually(t, time.Minute, "a store in time", func() (ok bool) {
		var err error
		s, err = redisstore.New(context.Background(), opt)
		return err == nil
	})
	return s
}

// quickly returns a tenth of n under the race detector, which finds races in fewer iterations; the run without it makes all
// n.
func quickly(n int) int {
	if raceDetector {
		return n / 10
	}
	return n
}

// nextMillisecond returns when the clock, by which sessions are ordered, shows another millisecond.
func nextMillisecond() {
	for began := time.Now().UnixMilli(); time.Now().UnixMilli() == began; {
		runtime.Gosched()
	}
}

// conform runs the suite of storetest against stores with these options.
func conform(t *testing.T, opt redisstore.Options) {
	storetest.Run(t, func(t *testing.T) coatcheck.Store { return open(t, opt) })
}

// The suite takes half a minute each time, so that what does not touch is tried together: TestACLUser has the usual cache, on one server,
// the Cluster's user has as few permissions, and under the Sentinel a replica is waited for.
func TestConformance(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, opt := range map[string]redisstore.Options{
		"with a tiny cache":              {CacheSize: 1000},
		"with a prefix, without a cache": {Prefix: "ünusual prefix/", CacheTTL: -1},
	} {
		t.Run(name, func(t *testing.T) {
			opt.URL = server.URL()
			conform(t, opt)
		})
	}
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	cluster := undisturbedCluster(t)
	opt := redisstore.Options{URL: as(cluster.URL())}
	conform(t, opt)
	t.Run("own writes are seen", func(t *testing.T) { ownWritesAreSeen(t, opened(t, opt), quickly(2000)) })
	for _, node := range cluster.Primaries {
		nothingRefused(t, node)
		n, err := node.Do("DBSIZE").AsInt64()
		require.NoError(t, err)
		require.Greater(t, n, int64(100), "the sessions are spread over all nodes")
	}
}

func TestConformanceUnderSentinel(t *testing.T) {
	t.Parallel()
	conform(t, redisstore.Options{URL: undisturbedSentinel(t).URL(), WaitReplicas: 1})
}
