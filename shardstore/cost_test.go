package shardstore_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

func TestLoadDoesNotAllocate(t *testing.T) {
	s := newStore(t, shardstore.Options{})
	ctx := context.Background()
	live, missing := add(t, s, "ada", t0, time.Hour), session(t, "ada", t0, time.Hour)
	var rec coatcheck.Record
	require.NoError(t, s.Load(ctx, live.Key, live.ID, t0, &rec))
	for name, key := range map[string]coatcheck.Key{"found": live.Key, "not found": missing.Key} {
		assert.Zero(t, testing.AllocsPerRun(1000, func() {
			if err := s.Load(ctx, key, live.ID, t0, &rec); (err == nil) != (key == live.Key) {
				t.Error(err)
			}
		}), name)
	}
}

// DOS-08: a user with very many sessions makes no operation slower, and neither do many sessions in one shard.
func TestOneCrowdedShard(t *testing.T) {
	few, many := crowd(t, 1000), crowd(t, turns(200_000))
	for _, tt := range []struct {
		name string
		op   func(*crowded)
	}{
		{"load", (*crowded).load},
		{"swap", (*crowded).swap},
		{"create and end", (*crowded).replace},
		{"create at the limit", (*crowded).login}, // the last case, because it ends the sessions of the others
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A walk through all of them would take almost as many times as long as there are more of them, and caches account for some
			// of the difference.
			times := time.Duration(len(many.keys) / len(few.keys))
			assert.Less(t, many.cost(tt.op), few.cost(tt.op)*times/5)
		})
	}
}

// crowded is a store of one shard, in which all sessions are one user's.
type crowded struct {
	t    *testing.T
	s    *shardstore.Store
	keys []coatcheck.Key
	vers []uint64
	turn int
	rec  coatcheck.Record
	cur  coatcheck.Record
}

func crowd(t *testing.T, n int) *crowded {
	c := &crowded{
		t: t, s: newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep}),
		keys: make([]coatcheck.Key, n), vers: make([]uint64, n),
	}
	for i := range c.keys {
		c.create(i, uint64(i))
	}
	return c
}

func (c *crowded) write(i int, version uint64) {
	created := t0.Add(time.Duration(i%1000) * time.Second).UnixMilli()
	expiry := t0.Add(time.Duration(c.turn%1000) * time.Second).UnixMilli()
	require.NoError(c.t, c.rec.Write(c.keys[i], coatcheck.Header{
		Version: version, ID: coatcheck.ID{1}, CreatedAt: created, IdleExpiry: expiry + 1e6, AbsoluteExpiry: expiry + 1e7,
	}, []byte("ada"), nil, nil, nil))
	c.vers[i] = version
}

func (c *crowded) create(i int, unique uint64) {
	c.turn++
	tag := coatcheck.TagOf("ada")
	copy(c.keys[i][:], tag[:])
	binary.BigEndian.PutUint64(c.keys[i][8:], unique)
	c.write(i, 1)
	_, err := c.s.Create(context.Background(), &c.rec, coatcheck.CreateOptions{}, t0)
	require.NoError(c.t, err)
}

// next walks through the sessions in steps that visit all of them.
func (c *crowded) next() int {
	c.turn++
	return c.turn * 7919 % len(c.keys)
}

func (c *crowded) load() {
	require.NoError(c.t, c.s.Load(context.Background(), c.keys[c.next()], coatcheck.ID{1}, t0, &c.cur))
}

func (c *crowded) swap() {
	i := c.next()
	c.write(i, c.vers[i]+1)
	require.NoError(c.t, c.s.Swap(context.Background(), &c.rec, c.vers[i]-1, t0, &c.cur))
}

func (c *crowded) replace() {
	i := c.next()
	require.NoError(c.t, c.s.End(context.Background(), c.keys[i], "ada", t0, t0.Add(time.Second), &c.cur))
	c.create(i, uint64(1<<32+c.turn))
}

// login ends the oldest session, as a login of a user at the limit does.
func (c *crowded) login() {
	c.turn++
	key := c.keys[0]
	binary.BigEndian.PutUint64(key[8:], uint64(2<<32+c.turn))
	ms := t0.Add(time.Hour + time.Duration(c.turn)*time.Millisecond).UnixMilli()
	require.NoError(c.t, c.rec.Write(key, coatcheck.Header{
		Version: 1, ID: coatcheck.ID{1}, CreatedAt: ms, IdleExpiry: ms + 1e7, AbsoluteExpiry: ms + 1e7,
	}, []byte("ada"), nil, nil, nil))
	ended, err := c.s.Create(context.Background(), &c.rec, coatcheck.CreateOptions{Limit: len(c.keys)}, t0)
	require.NoError(c.t, err)
	require.Equal(c.t, 1, ended)
}

// cost is the time that a hundred operations take, undisturbed.
func (c *crowded) cost(op func(*crowded)) time.Duration {
	best := time.Hour
	for range 20 {
		began := time.Now()
		for range 100 {
			op(c)
		}
		best = min(best, time.Since(began))
	}
	return best
}
