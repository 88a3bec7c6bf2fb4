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

// A steady number of sessions with a tenth more that come and expire in each round keeps its memory: a slab that is given back with
// each round and taken again with the next logins is work under the lock for ever.
func TestMemoryReturnsOnce(t *testing.T) {
	for lasting := 50; lasting < 1000; lasting += 1 + lasting/50 {
		c := clockAt(t0)
		s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
		for i := range lasting {
			createBench(t, s, i, time.Hour)
		}
		var with, without int
		for round := range 4 {
			ttl := time.Duration(round+1) * time.Minute
			for i := range lasting / 10 {
				createBench(t, s, lasting*(round+2)+i, ttl)
			}
			with = s.Bytes()
			c.set(t0.Add(ttl))
			s.Sweep()
			without = s.Bytes()
		}
		assert.Equal(t, with, without, "%d sessions", lasting)
	}
}

// The janitor comes to an end: the slab by which a class grows while one of its slabs is emptied is not itself one to be emptied.
func TestCompactEnds(t *testing.T) {
	for _, lasting := range []int{72, 393} {
		c := clockAt(t0)
		s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
		for i := range lasting {
			createBench(t, s, i, time.Hour)
		}
		for i := range lasting {
			createBench(t, s, lasting+i, time.Minute)
			if i%10 == 0 {
				endBench(t, s, i/10)
				createBench(t, s, 2*lasting+i/10, time.Hour)
			}
		}
		c.set(t0.Add(time.Minute))
		for s.SweepOnce(c.now()) {
		}
		holds := 0
		for holds < lasting && s.CompactOnce() {
			holds++
		}
		assert.Less(t, holds, lasting, "it moves the same sessions again and again")
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
