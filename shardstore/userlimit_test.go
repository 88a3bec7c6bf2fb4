package shardstore_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// TestUserLimitUnderConcurrency has many logins of one user at a time, while the janitor works and sessions of the user
// expire and are renewed: List never shows more sessions than the user may have, and each login ends no more than it must.
func TestUserLimitUnderConcurrency(t *testing.T) {
	const limit, callers = 20, 8
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
	ctx := context.Background()
	var created, ended atomic.Int64
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			r := rand.New(rand.NewPCG(uint64(caller), 1))
			for i := range turns(2000) {
				now := t0.Add(time.Duration(i) * time.Millisecond)
				rec := session(t, "ada", now.Add(-time.Duration(r.IntN(3))*time.Millisecond), time.Duration(5+r.IntN(1000))*time.Millisecond)
				n, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: limit, Until: now.Add(5 * time.Millisecond)}, now)
				if !assert.NoError(t, err) {
					return
				}
				created.Add(1)
				ended.Add(int64(n))
				assert.LessOrEqual(t, n, 1, "the user was within the limit before")
				if r.IntN(3) == 0 {
					_ = renew(t, s, rec, now, time.Duration(1+r.IntN(2000))*time.Millisecond) // or the session has ended meanwhile
				}
				if r.IntN(50) == 0 {
					c.set(now)
					s.Sweep()
				}
				seen := 0
				assert.NoError(t, s.List(ctx, "ada", now, func(*coatcheck.Record) bool {
					seen++
					return true
				}))
				assert.LessOrEqual(t, seen, limit)
			}
		})
	}
	calling.Wait()
	st, n := s.Stats(), sizes(t, s)
	assert.Equal(t, created.Load(), ended.Load()+int64(st.ExpiredIdle+st.ExpiredAbsolute)+int64(n.Sessions), "each session has one end")
	assert.LessOrEqual(t, n.Sessions, limit)
}

// TestUserLimitEndsTheOldest checks the order in which sessions end: by time of creation, then by key, in whatever order
// they were added.
func TestUserLimitEndsTheOldest(t *testing.T) {
	const many = 100
	for name, age := range map[string]func(i int) time.Duration{
		"in order":                  func(i int) time.Duration { return time.Duration(many-i) * time.Second },
		"the other way round":       func(i int) time.Duration { return time.Duration(i) * time.Second },
		"all of one age":            func(int) time.Duration { return time.Second },
		"two clocks in turn":        func(i int) time.Duration { return time.Duration(i%2)*time.Hour + time.Duration(many-i)*time.Second },
		"a clock that went back":    func(i int) time.Duration { return time.Duration(i/50)*time.Hour + time.Duration(many-i)*time.Second },
		"pairs of the wrong order":  func(i int) time.Duration { return time.Duration(many-i^1) * time.Second },
		"far apart, in no order":    func(i int) time.Duration { return time.Duration(i*37%many) * time.Hour / 10 },
		"the youngest but one last": func(i int) time.Duration { return time.Duration(many-min(i, many-2)) * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep})
			ctx := context.Background()
			for i := range many {
				add(t, s, "ada", t0.Add(-age(i)), 48*time.Hour)
			}
			sizes(t, s)
			oldest := func() *coatcheck.Record {
				var first coatcheck.Record
				require.NoError(t, s.List(ctx, "ada", t0, func(rec *coatcheck.Record) bool {
					if first.Version == 0 || rec.CreatedAt < first.CreatedAt || rec.CreatedAt == first.CreatedAt && string(rec.Key[:]) < string(first.Key[:]) {
						require.NoError(t, first.Read(rec.Key, rec.Bytes()))
					}
					return true
				}))
				return &first
			}
			for range many {
				next := oldest()
				rec := session(t, "ada", t0.Add(time.Hour), time.Hour)
				ended, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: many, Until: t0.Add(time.Hour)}, t0)
				require.NoError(t, err)
				require.Equal(t, 1, ended)
				require.ErrorIs(t, load(s, next.Key, t0), coatcheck.ErrEnded, "another than the oldest ended")
				sizes(t, s)
			}
		})
	}
}

// A limit that was lowered ends as many as it must, the oldest first.
func TestUserLimitLowered(t *testing.T) {
	s := newStore(t, shardstore.Options{JanitorEvery: asleep})
	var recs []*coatcheck.Record
	for i := range 10 {
		recs = append(recs, add(t, s, "ada", t0.Add(time.Duration(i-20)*time.Second), time.Hour))
	}
	ended, err := s.Create(context.Background(), session(t, "ada", t0, time.Hour), coatcheck.CreateOptions{Limit: 3, Until: t0.Add(time.Minute)}, t0)
	require.NoError(t, err)
	assert.Equal(t, 8, ended)
	for i, rec := range recs {
		if i < 8 {
			require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrEnded)
		} else {
			require.NoError(t, load(s, rec.Key, t0))
		}
	}
}
