package redisstore_test

import (
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A topology that no test disturbs is started once, by the first test that wants it, and ends after the last test.
var (
	sharedCluster  topology[*redistest.Cluster]
	sharedSentinel topology[*redistest.Sentinel]
)

// undisturbedCluster returns a Cluster without replicas, which other tests use as well.
func undisturbedCluster(t *testing.T) *redistest.Cluster {
	t.Helper()
	return sharedCluster.started(t, func(t testing.TB) *redistest.Cluster {
		return redistest.StartCluster(t, false, durable, "user coatcheck "+aclUser(t))
	})
}

// undisturbedSentinel returns a Sentinel's servers, which other tests use as well.
func undisturbedSentinel(t *testing.T) *redistest.Sentinel {
	t.Helper()
	return sharedSentinel.started(t, func(t testing.TB) *redistest.Sentinel { return redistest.StartSentinel(t, durable) })
}

type topology[T any] struct {
	mu      sync.Mutex
	servers T // guarded by mu
	running bool
}

func (s *topology[T]) started(t *testing.T, start func(testing.TB) T) T {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		s.servers = start(outliving{t})
		s.running = true
	}
	return s.servers
}

// outliving is a test whose temporary folders and cleanups outlive it, until the package's last test is over.
type outliving struct{ testing.TB }

var cleanups struct {
	sync.Mutex
	last []func() // guarded by Mutex
}

func (outliving) Cleanup(f func()) {
	cleanups.Lock()
	defer cleanups.Unlock()
	cleanups.last = append(cleanups.last, f)
}

func (t outliving) TempDir() string {
	dir, err := os.MkdirTemp("", "redisstore")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// cleaning runs the tests, and then what outliving tests have left, the latest first.
type cleaning struct{ *testing.M }

func (m cleaning) Run() int {
	code := m.M.Run()
	for _, f := range slices.Backward(cleanups.last) {
		f()
	}
	return code
}
