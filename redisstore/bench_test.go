package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// BenchmarkLoad measures a Load of a session that is in the cache, one past the cache, and the first one.
func BenchmarkLoad(b *testing.B) {
	server := redistest.Start(b)
	ctx := context.Background()
	b.Run("hit", func(b *testing.B) {
		s := opened(b, redisstore.Options{URL: server.URL()})
		recs := make([]*coatcheck.Record, 64)
		for i := range recs {
			recs[i] = add(b, s, fmt.Sprintf("user %d", i))
			warm(b, s, recs[i])
		}
		var got coatcheck.Record
		now := time.Now()
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			rec := recs[i%len(recs)]
			if err := s.Load(ctx, rec.Key, rec.ID, now, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hit of 100,000", func(b *testing.B) {
		s := opened(b, redisstore.Options{URL: server.URL(), CacheTTL: time.Hour})
		n := 100_000
		if testing.Short() { // only to check that the benchmark works
			n = 1000
		}
		recs := make([]*coatcheck.Record, n)
		parallel(64, len(recs), func(i int) {
			recs[i] = add(b, s, fmt.Sprintf("user %d", i))
			warm(b, s, recs[i])
		})
		var got coatcheck.Record
		now := time.Now()
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			rec := recs[i*7919%len(recs)]
			if err := s.Load(ctx, rec.Key, rec.ID, now, &got); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(s.Stats().CachedRecords), "cached")
	})
	b.Run("past the cache", func(b *testing.B) {
		s := opened(b, redisstore.Options{URL: server.URL(), CacheTTL: -1})
		rec := add(b, s, "ada")
		b.ReportAllocs()
		for b.Loop() {
			if err := load(s, rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold", func(b *testing.B) {
		s := opened(b, redisstore.Options{URL: server.URL()})
		rec := add(b, s, "ada")
		b.ReportAllocs()
		for b.Loop() {
			s.Forget()
			if err := load(s, rec); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWrite measures a login and a refresh by 64 callers, each beside a plain rueidis client that sends the same
// commands.
func BenchmarkWrite(b *testing.B) {
	ctx := context.Background()
	for _, kind := range []string{"login", "refresh"} {
		for _, plain := range []bool{false, true} {
			name := kind
			if plain {
				name += " by a plain client"
			}
			b.Run(name, func(b *testing.B) {
				s := opened(b, redisstore.Options{URL: redistest.Start(b).URL(), Timeout: 3 * time.Second})
				b.SetParallelism(32) // for each of two cores
				b.RunParallel(func(pb *testing.PB) {
					rec := next(b, add(b, s, "refresher"), rotated)
					require.NoError(b, swap(s, rec))
					for i := 0; pb.Next(); i++ {
						user := fmt.Sprintf("user %p %d", pb, i)
						switch {
						case kind == "login" && !plain:
							add(b, s, user)
						case kind == "login":
							sendPlain(ctx, b, s, s.CreateCommands(session(b, user)))
						case !plain:
							rec = next(b, rec, rotated)
							require.NoError(b, swap(s, rec))
						default:
							rec = next(b, rec, rotated)
							sendPlain(ctx, b, s, s.SwapCommands(rec))
						}
					}
				})
			})
		}
	}
}

func sendPlain(ctx context.Context, b *testing.B, s *redisstore.Store, cmds []rueidis.Completed) {
	for _, r := range s.Client().DoMulti(ctx, cmds...) {
		require.NoError(b, r.Error())
	}
}

// BenchmarkOtherNode measures how long a session that one node has ended is served by another: from the acknowledgment to
// the last Load that succeeds. Beside it, it measures a bare message over Redis' pub/sub, which also passes two
// connections.
func BenchmarkOtherNode(b *testing.B) {
	server := redistest.Start(b)
	nodeA := opened(b, redisstore.Options{URL: server.URL(), Timeout: 3 * time.Second})
	nodeB := opened(b, redisstore.Options{URL: server.URL(), Timeout: 3 * time.Second})
	b.Run("ended session", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			rec := add(b, nodeA, "ada")
			warm(b, nodeB, rec)
			require.NoError(b, end(nodeA, rec))
			ended := time.Now()
			for load(nodeB, rec) == nil { //nolint:revive // until the session is refused
			}
			times = append(times, time.Since(ended))
		}
		report(b, times)
	})
	b.Run("message", func(b *testing.B) {
		heard := make(chan time.Time)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ready := make(chan struct{})
		go func() {
			subscribe := nodeB.Client().B().Subscribe().Channel("hop").Build()
			onReady := rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { close(ready) })
			_ = nodeB.Client().Receive(onReady, subscribe, func(rueidis.PubSubMessage) { heard <- time.Now() })
		}()
		<-ready
		var times []time.Duration
		for b.Loop() {
			publish := nodeA.Client().B().Publish().Channel("hop").Message("x").Build()
			require.NoError(b, nodeA.Client().Do(ctx, publish).Error())
			sent := time.Now()
			times = append(times, max(0, (<-heard).Sub(sent)))
		}
		report(b, times)
	})
}

func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(float64(times[min(len(times)-1, int(q*float64(len(times))))].Microseconds()), name+"-µs")
	}
}
