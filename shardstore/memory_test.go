package shardstore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse)
}

// MEM-02: the memory of a wave of sessions is given back when they have expired, though some sessions that came with them live
// on and stand between them.
func TestMemoryReturns(t *testing.T) {
	for _, tt := range []struct{ shards, lasting, wave int }{
		{32, 4_000, 40_000}, // with more shards, the memory of empty ones would count
		{0, 50_000, 250_000},
	} {
		if tt.shards == 0 && raceDetector {
			continue
		}
		t.Run(fmt.Sprintf("%d shards, %d after %d", tt.shards, tt.lasting, tt.wave), func(t *testing.T) {
			c := clockAt(t0)
			s := newStore(t, shardstore.Options{Shards: tt.shards, JanitorEvery: asleep, Now: c.now})
			empty := heap()
			baseline, full, after := waveReturns(t, s, c, tt.lasting, tt.wave, func() int { return heap() - empty })
			assert.Greater(t, full, 4*baseline)
			assert.LessOrEqual(t, 2*after, 3*baseline, "more than 1.5 times as before the wave")

			c.set(t0.Add(2 * time.Hour))
			for range 3 {
				s.Sweep()
			}
			assert.Equal(t, shardstore.Sizes{}, sizes(t, s))
			assert.Less(t, heap(), empty+baseline/4, "an empty store")
			runtime.KeepAlive(s)
		})
	}
}

// How much a shard keeps depends on where the number of its sessions lies between the steps in which its slabs and tables grow.
func TestMemoryReturnsAtAnySize(t *testing.T) {
	for lasting := 20; lasting < turns(1500); lasting += 1 + lasting/8 {
		for _, times := range []int{1, 4, 9} {
			c := clockAt(t0)
			s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
			before, _, after := waveReturns(t, s, c, lasting, times*lasting, s.Bytes)
			assert.LessOrEqual(t, 2*after, 3*before, "%d sessions after a wave of %d", lasting, times*lasting)
		}
	}
}

// waveReturns measures a store of some sessions before as many others as the wave has come and expire, then, and afterwards.
func waveReturns(t *testing.T, s *shardstore.Store, c *clock, lasting, wave int, measure func() int) (before, full, after int) {
	t.Helper()
	for i := range lasting {
		createBench(t, s, i, time.Hour)
	}
	before = measure()
	for i := range wave {
		createBench(t, s, lasting+i, time.Minute)
		if i%10 == 0 { // some lasting sessions are replaced by others, which stand among the wave
			endBench(t, s, i/10)
			createBench(t, s, wave+lasting+i/10, time.Hour)
		}
	}
	full = measure()
	c.set(t0.Add(time.Minute))
	for range 3 {
		s.Sweep()
	}
	after = measure()
	assert.Equal(t, lasting, s.Len())
	sizes(t, s)
	return before, full, after
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
