//go:build real

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/shardstore"
)

// bed is a test bed: three nodes on one Redis.
type bed struct {
	tb      testing.TB
	redis   *redistest.Server
	a, b, c *node
}

func newBed(tb testing.TB) *bed {
	redis := redistest.Start(tb)
	opt := nodeOptions{URL: redis.URL(), CacheTTL: time.Hour}
	return &bed{tb: tb, redis: redis, a: startNode(tb, opt), b: startNode(tb, opt), c: startNode(tb, opt)}
}

// each calls f for every cookie, eight at a time.
func each(tb testing.TB, cookies []string, f func(i int, cookie string) error) {
	tb.Helper()
	const workers = 8
	var errs [workers]error
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < len(cookies) && errs[w] == nil; i += workers {
				errs[w] = f(i, cookies[i])
			}
		})
	}
	running.Wait()
	require.NoError(tb, errors.Join(errs[:]...))
}

// price runs f, which does n operations on a node, and returns the cost of one.
func (b *bed) price(at *node, n int, f func()) Cost {
	b.tb.Helper()
	before, cpu := count(b.tb, b.redis), at.cpu()
	f()
	after := count(b.tb, b.redis)
	all := Cost{
		Commands:    after.commands - before.commands,
		RedisMicros: after.micros - before.micros,
		In:          after.in - before.in,
		Out:         after.out - before.out,
		NodeMicros:  at.cpu() - cpu,
	}
	return all.per(uint64(n))
}

func (c Cost) per(times uint64) Cost {
	n := float64(times)
	return Cost{c.Commands / n, c.RedisMicros / n, c.In / n, c.Out / n, c.NodeMicros / n}
}

// login begins n sessions on node a, each of a user of its own.
func (b *bed) login(n int, prefix string) []string {
	b.tb.Helper()
	cookies := make([]string, n)
	each(b.tb, cookies, func(i int, _ string) (err error) {
		cookies[i], err = b.a.login(fmt.Sprintf("%s-%d", prefix, i))
		return err
	})
	return cookies
}

// read presents every cookie to a node until its cache answers all of them, and returns how many requests that took and how
// many of them asked Redis.
func (b *bed) read(at *node, cookies []string) (requests, misses uint64) {
	b.tb.Helper()
	before := at.stats().Misses
	redistest.Eventually(b.tb, 20*time.Second, "the cache to be filled", func() bool {
		misses = at.stats().Misses
		each(b.tb, cookies, func(_ int, cookie string) error { return at.me(cookie) })
		requests += uint64(len(cookies))
		return at.stats().Misses == misses
	})
	return requests, misses - before
}

func (b *bed) refresh(cookies []string) {
	each(b.tb, cookies, func(i int, cookie string) (err error) {
		cookies[i], err = b.b.refresh(cookie)
		return err
	})
}

// measure measures the constants with n sessions at a time, and what idle processes use in the time idle.
func measure(tb testing.TB, n int, idle time.Duration) Constants {
	tb.Helper()
	var c Constants
	b := newBed(tb)
	first := b.login(16, "first") // this opens the connections and loads the scripts, which the first calls send in full
	b.refresh(first)
	b.read(b.b, first)
	b.logout(first)

	standing := b.price(b.a, 1, func() { pass(idle) })
	c.RedisStanding, c.NodeStanding = standing.RedisMicros/idle.Seconds(), standing.NodeMicros/idle.Seconds()

	empty := count(tb, b.redis)
	var one, two []string
	c.Login = b.price(b.a, n, func() { one = b.login(n, "one") })
	c.RedisBytes = b.atRest(empty, n)

	before := count(tb, b.redis)
	var requests, misses uint64
	filling := b.price(b.b, 1, func() { requests, misses = b.read(b.b, one) })
	c.RedisTrackedBytes = (count(tb, b.redis).memory - before.memory) / float64(n)
	st := b.b.stats()
	c.CachedBytes = float64(st.CachedBytes) / float64(st.CachedRecords)
	const entry = 256 // what redisstore counts beside the record
	c.RecordBytes = c.CachedBytes - entry

	const times = 10
	b.each(times, one) // connections
	c.Hit = b.price(b.b, times*n, func() { b.each(times, one) }).NodeMicros
	filling.NodeMicros -= c.Hit * float64(requests)
	c.Miss = filling.per(misses)

	// The same write, with one node to tell and with two: the difference is what it costs to tell one.
	alone := b.price(b.b, n, func() { b.refresh(one) })
	two = b.login(n, "two")
	b.read(b.b, two)
	b.read(b.c, two)
	both := b.price(b.b, n, func() { b.refresh(two) })
	c.Invalidation = both.Out - alone.Out
	c.InvalidationRedis = max(0, both.RedisMicros-alone.RedisMicros)
	c.Swap = beside(alone, &c)
	b.read(b.b, one) // the first use of the new token, a write, after which it is cached again
	c.Logout = beside(b.price(b.b, n, func() { b.logout(one) }), &c)

	c.MemoryStoreBytes = memoryStoreBytes(tb, 20*n)
	c.ConnectionBytes = connectionBytes(tb, min(n, 2000))
	return c
}

func (b *bed) logout(cookies []string) {
	each(b.tb, cookies, func(_ int, cookie string) error { return b.b.logout(cookie) })
}

func (b *bed) each(times int, cookies []string) {
	for range times {
		each(b.tb, cookies, func(_ int, cookie string) error { return b.b.me(cookie) })
	}
}

// beside is the cost of a write without that of the request, which is the cost of a hit, and without the one invalidation that
// every write of a session in use causes: the model counts both separately.
func beside(cost Cost, c *Constants) Cost {
	cost.Out -= c.Invalidation
	cost.RedisMicros -= c.InvalidationRedis
	cost.NodeMicros -= c.Hit
	return cost
}

// atRest is the memory that a session takes in Redis once the scripts' answers have expired: a record and an index.
func (b *bed) atRest(empty counts, n int) float64 {
	b.tb.Helper()
	var now counts
	redistest.Eventually(b.tb, 20*time.Second, "the scripts' answers to expire", func() bool {
		now = count(b.tb, b.redis)
		return now.keys <= empty.keys+float64(2*n)
	})
	return (now.memory - empty.memory) / float64(n)
}

// memoryStoreBytes is what a session takes in the memory store.
func memoryStoreBytes(tb testing.TB, n int) float64 {
	tb.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(tb, err)
	defer store.Close() //nolint:errcheck // nothing is on disk
	before := heapInuse()
	m, err := coatcheck.NewManager(store, coatcheck.Policy{})
	require.NoError(tb, err)
	var s coatcheck.Request
	ctx, now := context.Background(), time.Now()
	for i := range n {
		require.NoError(tb, m.Open(ctx, &s, &coatcheck.Presented{}, coatcheck.Client{UserAgent: []byte(userAgent)}, now))
		require.NoError(tb, s.Authenticate(fmt.Sprintf("one-%d", i)))
		require.NoError(tb, s.Commit(ctx))
	}
	used := heapInuse() - before
	runtime.KeepAlive(store)
	return used / float64(n)
}

func heapInuse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse)
}

// connectionBytes is what a connection takes that has made a request and waits for the next.
func connectionBytes(tb testing.TB, n int) float64 {
	tb.Helper()
	at := startNode(tb, nodeOptions{})
	cookie, err := at.login("ada")
	require.NoError(tb, err)
	at.hold(64, cookie) // what the first ones make the process allocate
	before := at.resident()
	at.hold(n, cookie)
	return (at.resident() - before) / float64(n)
}

// hold opens n connections that stay, and makes one request on each.
func (n *node) hold(conns int, cookie string) {
	n.tb.Helper()
	for range conns {
		conn := dial(n.tb, n.addr)
		_, err := fmt.Fprintf(conn, "GET /auth/me HTTP/1.1\r\nHost: x\r\nCookie: %s=%s\r\n\r\n", cookieName, cookie)
		require.NoError(n.tb, err)
		buf := make([]byte, 4096)
		_, err = conn.Read(buf)
		require.NoError(n.tb, err)
	}
}
