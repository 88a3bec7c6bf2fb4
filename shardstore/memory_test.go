package shardstore_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// MEM-02: the memory of a wave of sessions is given back when they have expired, though some sessions that came with them live
// on and stand between them.
func TestMemoryReturns(t *testing.T) {
	const shards, wave, lasting = 32, 40_000, 4_000 // with more shards, the memory of empty ones would count
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{Shards: shards, JanitorEvery: asleep, Now: c.now})
	empty := heap()
	for i := range lasting {
		createBench(t, s, i, time.Hour)
	}
	baseline := heap() - empty
	for i := range wave {
		createBench(t, s, lasting+i, time.Minute)
		if i%10 == 0 { // some lasting sessions are replaced by others, which stand among the wave
			endBench(t, s, i/10)
			createBench(t, s, wave+lasting+i/10, time.Hour)
		}
	}
	full := heap() - empty
	c.set(t0.Add(time.Minute))
	for range 3 {
		s.Sweep()
	}
	after := heap() - empty
	assert.Equal(t, lasting, s.Len())
	assert.Greater(t, full, 5*baseline)
	assert.LessOrEqual(t, 2*after, 3*baseline, "more than 1.5 times as before the wave")
	sizes(t, s)

	c.set(t0.Add(2 * time.Hour))
	for range 3 {
		s.Sweep()
	}
	assert.Equal(t, shardstore.Sizes{}, sizes(t, s))
	assert.Less(t, heap(), empty+baseline/4, "an empty store")
	runtime.KeepAlive(s)
}

func createBench(t testing.TB, s *shardstore.Store, i int, ttl time.Duration) {
	t.Helper()
	var rec coatcheck.Record
	require.NoError(t, writeBench(&rec, benchKey(i), i, 1, ttl))
	_, err := s.Create(context.Background(), &rec, coatcheck.CreateOptions{}, t0)
	require.NoError(t, err)
}

func endBench(t testing.TB, s *shardstore.Store, i int) {
	t.Helper()
	var last coatcheck.Record
	require.NoError(t, s.End(context.Background(), benchKey(i), benchUser(i), t0, t0.Add(time.Second), &last))
}
