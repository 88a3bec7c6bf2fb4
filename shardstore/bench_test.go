package shardstore_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// recordBytes is the encoded size of a benchmark's records, with a user, an IPv4 address and a short agent.
const recordBytes = 128

// fill creates n sessions, each of another user.
func fill(b *testing.B, s *shardstore.Store, n int, ttl time.Duration) []coatcheck.Key {
	b.Helper()
	keys := make([]coatcheck.Key, n)
	var rec coatcheck.Record
	for i := range keys {
		keys[i] = benchKey(i)
		require.NoError(b, writeBench(&rec, keys[i], i, 1, ttl))
		_, err := s.Create(context.Background(), &rec, coatcheck.CreateOptions{Limit: 100}, t0)
		require.NoError(b, err)
	}
	return keys
}

func benchUser(i int) string { return "user-" + strconv.Itoa(i) }

func benchKey(i int) coatcheck.Key {
	var key coatcheck.Key
	tag := coatcheck.TagOf(benchUser(i))
	copy(key[:], tag[:])
	binary.BigEndian.PutUint64(key[8:], uint64(i)*0x9E3779B97F4A7C15)
	return key
}

func writeBench(rec *coatcheck.Record, key coatcheck.Key, i int, version uint64, ttl time.Duration) error {
	user := []byte(benchUser(i))
	agent := make([]byte, recordBytes-94-len(user)-4)
	return rec.Write(key, coatcheck.Header{
		Version: version, ID: coatcheck.ID{1}, CreatedAt: t0.UnixMilli(),
		IdleExpiry: t0.Add(ttl).UnixMilli(), AbsoluteExpiry: t0.Add(24 * time.Hour).UnixMilli(),
	}, user, []byte{192, 0, 2, 7}, agent, nil)
}

// million is how many sessions a benchmark uses; with -short it is a hundredth, to check that the benchmark works.
func million() int {
	if testing.Short() {
		return 10_000
	}
	return 1_000_000
}

// BenchmarkLoad is Load of a million sessions in turn. With -cpu 1,2 it shows what the locks cost.
func BenchmarkLoad(b *testing.B) {
	s := newStore(b, shardstore.Options{JanitorEvery: asleep})
	keys := fill(b, s, million(), time.Hour)
	run := func(b *testing.B, keys []coatcheck.Key) {
		var starts atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var rec coatcheck.Record
			i := int(starts.Add(7919))
			for pb.Next() {
				i += 7919
				if err := s.Load(context.Background(), keys[i%len(keys)], coatcheck.ID{1}, t0, &rec); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("million", func(b *testing.B) { run(b, keys) })
	b.Run("64", func(b *testing.B) { run(b, keys[:64]) })
	b.Run("one", func(b *testing.B) { run(b, keys[:1]) })
}

// BenchmarkMemory reports what a million sessions cost beside their records, and a full collection over them.
func BenchmarkMemory(b *testing.B) {
	n := million()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	for b.Loop() {
		s := newStore(b, shardstore.Options{JanitorEvery: asleep})
		before := heap()
		fill(b, s, n, time.Hour)
		b.ReportMetric(float64(heap()-before)/float64(n)-recordBytes, "B/session-over-record")
		began := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms/GC")
		runtime.KeepAlive(s)
	}
}

// BenchmarkSweep lets a million sessions expire within a second and reports how long the janitor holds a shard's lock: the
// budget is 250 µs for the longest of a thousand.
func BenchmarkSweep(b *testing.B) {
	n := million()
	for range b.N {
		b.StopTimer()
		s := newStore(b, shardstore.Options{JanitorEvery: asleep})
		for i := range n {
			createBench(b, s, i, time.Minute+time.Duration(i)*time.Microsecond)
		}
		b.StartTimer()
		holds := s.SweepHolds(t0.Add(time.Minute + 2*time.Second))
		b.StopTimer()
		slices.Sort(holds)
		b.ReportMetric(float64(holds[len(holds)/2].Nanoseconds())/1000, "µs-p50-hold")
		b.ReportMetric(float64(holds[len(holds)*99/100].Nanoseconds())/1000, "µs-p99-hold")
		b.ReportMetric(float64(holds[len(holds)*999/1000].Nanoseconds())/1000, "µs-p99.9-hold")
		b.ReportMetric(float64(len(holds)), "holds")
		require.Zero(b, s.Len())
	}
}
