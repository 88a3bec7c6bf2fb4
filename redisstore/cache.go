package redisstore

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// cache holds the bytes of records in use for all connections together, and finds them by Key without making a string.
//
// Redis tracks, per connection, which keys were read for the cache, and sends one invalidation over that connection when
// one of them changes. The invariants that follow from it:
//
//   - A record is put only by the answer to a read that Redis tracks (Update), so Redis reports its change.
//   - Messages over one connection come in the order in which Redis acted. So a record that was put after an invalidation
//     is the one after the change. Nevertheless a read that was under way when anything of its shard was taken out
//     (invalidated, changed by this node, flushed) puts nothing, because the epoch has changed. That costs a miss, and
//     correctness does not depend on the order then.
//   - When a connection is lost, its invalidations are lost too, so everything is flushed, also the records read over other
//     connections, which cannot be told apart. The cache is flushed when rueidis notices the loss (Close) and, since a new
//     connection may carry writes before that, when a connection is made (see dialer).
//   - A cached record can only admit a request, never refuse one. load compares the ID and both expiries, and the time by
//     which a record must be read again whatever Redis has said. Tombstones, absent keys and records of other codec
//     versions are not put.
type cache struct {
	prefix string
	shards []cacheShard // a power of two; never resized

	invalidations atomic.Uint64 // written by invalidate
	flushes       atomic.Uint64 // written by flush
}

// cacheShard is one lock and what stands under it. ring holds the entries in no particular order; the hand of the clock
// algorithm walks over them and evicts the first that was not used since it last passed.
type cacheShard struct {
	mu      sync.Mutex // guards all below but hits
	entries map[coatcheck.Key]*cacheEntry
	ring    []*cacheEntry
	hand    int
	size    int
	max     int
	epoch   uint64 // grows whenever something is taken out
	hits    atomic.Uint64
	_       [64]byte // the next shard's lock stands in another cache line
}

// cacheEntry is a record in the cache. Only again, pos, used and asked change after the record was put.
type cacheEntry struct {
	key   coatcheck.Key
	msg   rueidis.RedisMessage // what Redis answered; flight hands it out again
	bytes []byte               // msg's; never written into, so that load may read them without the lock
	from  int64                // Unix milliseconds: a clock that shows less was set back since, and it must be read again
	until int64                // Unix milliseconds; from then on it must be read again
	again int64                // Unix milliseconds; a use from then on has it read again in the background
	pos   int                  // where it stands in the ring
	used  bool
	asked bool // it is to be read again although it is fresh
}

// entryBytes is what an entry takes up beside its record: itself, its part of the map and of the ring, and what the
// allocator rounds up.
const entryBytes = 256

const (
	maxShards   = 64
	minPerShard = 128 << 10
)

func newCache(prefix string, size int) *cache {
	n := 1
	for n < maxShards && size/(2*n) >= minPerShard {
		n *= 2
	}
	c := &cache{prefix: prefix, shards: make([]cacheShard, n)}
	for i := range c.shards {
		c.shards[i].entries = make(map[coatcheck.Key]*cacheEntry)
		c.shards[i].max = size / n
	}
	return c
}

// shard returns the shard of a key, by bytes that are random in the key of every record that was ever created.
func (c *cache) shard(key coatcheck.Key) *cacheShard {
	return &c.shards[binary.LittleEndian.Uint32(key[8:])&uint32(len(c.shards)-1)]
}

// load reads a cached record that lives and admits id at now into rec. It does not allocate once rec's buffer has grown. With
// again, the record's time is nearly over: the caller has it read for the cache once more, so that a session in use does not
// leave the cache. It is asked for that once a second at most.
func (c *cache) load(key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) (found, again bool) {
	sh, ms := c.shard(key), now.UnixMilli()
	sh.mu.Lock()
	e := sh.entries[key]
	if e == nil || !e.fresh(ms) {
		sh.mu.Unlock()
		return false, false
	}
	e.used = true
	if ms >= e.again {
		again, e.again, e.asked = true, ms+askEvery, true
	}
	b := e.bytes
	sh.mu.Unlock()
	if rec.Read(key, b) != nil || !rec.Lives(now) || !rec.Standing(id, now).Admitted() {
		return false, false // the caller reads past the cache
	}
	sh.hits.Add(1)
	return true, again
}

// askEvery is how many milliseconds a read for a record in use may take before another one is begun.
const askEvery = 1000

// readAgain is when a record that was read with a time to live until then is read again, if it is in use: in the second half
// of that time, at a moment that depends on the key, so that sessions which were cached together are not read together.
func readAgain(key coatcheck.Key, from, until int64) int64 {
	ttl := (until - from) / 2 // from is one TTL before the read
	return until - ttl*(int64(key[len(key)-1])+25)/(2*(255+25))
}

// keep compares the cache with what a read past it has shown. A cached record of another version is out of date, even if
// Redis has not invalidated it yet.
func (c *cache) keep(key coatcheck.Key, err error, rec *coatcheck.Record) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[key]; e != nil && (err != nil || coatcheck.Encoded(e.bytes).Version() != rec.Version) {
		sh.remove(e)
	}
}

// put is the only way into the cache. It does nothing if something was taken out of the shard since epoch.
func (c *cache) put(key coatcheck.Key, msg rueidis.RedisMessage, from, until int64, epoch uint64) {
	b, err := msg.AsBytes()
	var rec coatcheck.Record
	if err != nil || rec.Read(key, b) != nil {
		return
	}
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := &cacheEntry{key: key, msg: msg, bytes: b, from: from, until: until, again: readAgain(key, from, until), pos: len(sh.ring), used: true}
	if sh.epoch != epoch || e.size() > sh.max {
		return
	}
	if old := sh.entries[key]; old != nil {
		sh.remove(old)
		e.pos = len(sh.ring)
	}
	sh.makeRoom(e.size())
	e.pos = len(sh.ring)
	sh.entries[key] = e
	sh.ring = append(sh.ring, e)
	sh.size += e.size()
}

func (e *cacheEntry) size() int { return len(e.bytes) + entryBytes }

// fresh reports whether the clock shows a time within one TTL of when the entry was read. A clock that was ahead then, and
// was set right, must not keep the entry for as long as it was ahead.
func (e *cacheEntry) fresh(now int64) bool { return e.from <= now && now < e.until }

// makeRoom evicts until size more bytes fit. The caller holds the lock.
func (sh *cacheShard) makeRoom(size int) {
	for sh.size+size > sh.max {
		if sh.hand >= len(sh.ring) {
			sh.hand = 0
		}
		e := sh.ring[sh.hand]
		if e.used {
			e.used = false
			sh.hand++
			continue
		}
		sh.remove(e) // another entry takes its place under the hand
	}
}

// remove takes out an entry. The caller holds the lock. The epoch stays, because an eviction does not mean that the record
// has changed.
func (sh *cacheShard) remove(e *cacheEntry) {
	last := len(sh.ring) - 1
	sh.ring[e.pos] = sh.ring[last]
	sh.ring[e.pos].pos = e.pos
	sh.ring[last] = nil
	sh.ring = sh.ring[:last]
	delete(sh.entries, e.key)
	sh.size -= e.size()
}

// invalidate takes out what Redis says has changed.
func (c *cache) invalidate(key coatcheck.Key) {
	c.invalidations.Add(1)
	c.takeOut(key)
}

// takeOut takes out what this node has changed, and keeps the reads under way from putting anything.
func (c *cache) takeOut(key coatcheck.Key) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.epoch++
	if e := sh.entries[key]; e != nil {
		sh.remove(e)
	}
}

// flush takes everything out.
func (c *cache) flush() {
	c.flushes.Add(1)
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		sh.epoch++
		sh.entries = make(map[coatcheck.Key]*cacheEntry)
		sh.ring, sh.hand, sh.size = nil, 0, 0
		sh.mu.Unlock()
	}
}

// hit returns the message of a cached record for rueidis, or, if it is to be read, the epoch in which the read begins.
func (c *cache) hit(key coatcheck.Key, now int64) (msg rueidis.RedisMessage, found bool, epoch uint64) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[key]; e != nil && e.fresh(now) && !e.asked {
		return e.msg, true, 0
	}
	return msg, false, sh.epoch
}

// parse returns the session of a record's Redis key. It must agree with Store.recordKey.
func (c *cache) parse(redisKey string) (coatcheck.Key, bool) {
	rest, ok := strings.CutPrefix(redisKey, c.prefix)
	const head = len("{12345678") + len(kindRecord)
	if !ok || len(rest) != head+keyLen {
		return coatcheck.Key{}, false
	}
	return coatcheck.ParseKey([]byte(rest[head:]))
}

func (c *cache) addTo(st *Stats) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		st.CachedRecords += len(sh.ring)
		st.CachedBytes += sh.size
		sh.mu.Unlock()
		st.Hits += sh.hits.Load()
	}
	st.Invalidations, st.Flushes = c.invalidations.Load(), c.flushes.Load()
}

// newStore is rueidis' NewCacheStoreFn, called for each connection. Its size option would count for each connection; our
// limit counts for all of them.
func (c *cache) newStore(rueidis.CacheStoreOption) rueidis.CacheStore {
	return &connCache{cache: c, flights: make(map[coatcheck.Key]*flight)}
}

// connCache is one connection's side of the cache: the reads under way on it. Its lock is taken before a shard's.
type connCache struct {
	cache   *cache
	mu      sync.Mutex
	flights map[coatcheck.Key]*flight // guarded by mu; nil once closed
	read    bool                      // anything was ever read for the cache over this connection; guarded by mu
}

// flight is a read under way. msg and err are written before done is closed.
type flight struct {
	from  int64
	until int64
	epoch uint64
	done  chan struct{}
	msg   rueidis.RedisMessage
	err   error
}

// Wait implements rueidis.CacheEntry.
func (f *flight) Wait(ctx context.Context) (rueidis.RedisMessage, error) {
	select {
	case <-ctx.Done():
		return rueidis.RedisMessage{}, ctx.Err()
	case <-f.done:
		return f.msg, f.err
	}
}

// Flight implements rueidis.CacheStore: it returns a cached message, or the read that is under way, or neither, in which
// case the caller reads.
func (c *connCache) Flight(redisKey, _ string, ttl time.Duration, now time.Time) (rueidis.RedisMessage, rueidis.CacheEntry) {
	key, ok := c.cache.parse(redisKey)
	if !ok {
		return rueidis.RedisMessage{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights == nil {
		return rueidis.RedisMessage{}, nil
	}
	msg, found, epoch := c.cache.hit(key, now.UnixMilli())
	if found {
		return msg, nil
	}
	if f := c.flights[key]; f != nil {
		return rueidis.RedisMessage{}, f
	}
	c.read = true
	c.flights[key] = &flight{from: now.Add(-ttl).UnixMilli(), until: now.Add(ttl).UnixMilli(), epoch: epoch, done: make(chan struct{})}
	return rueidis.RedisMessage{}, nil
}

// Update implements rueidis.CacheStore: the answer to a read has come.
func (c *connCache) Update(redisKey, _ string, msg rueidis.RedisMessage) (pxat int64) {
	key, f := c.land(redisKey)
	if f == nil {
		return 0
	}
	c.cache.put(key, msg, f.from, f.until, f.epoch)
	f.msg = msg
	close(f.done)
	return f.until
}

// Cancel implements rueidis.CacheStore: there will be no answer.
func (c *connCache) Cancel(redisKey, _ string, err error) {
	if _, f := c.land(redisKey); f != nil {
		f.err = err
		close(f.done)
	}
}

// land takes the read of a key out of those under way.
func (c *connCache) land(redisKey string) (coatcheck.Key, *flight) {
	key, ok := c.cache.parse(redisKey)
	if !ok {
		return key, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flights[key]
	delete(c.flights, key)
	return key, f
}

// Delete implements rueidis.CacheStore: Redis reports that these keys have changed, or (nil) that all may have. Reads under
// way continue, but put nothing.
func (c *connCache) Delete(keys []rueidis.RedisMessage) {
	if keys == nil {
		c.cache.flush()
	}
	for i := range keys {
		if name, err := keys[i].ToString(); err == nil {
			if key, ok := c.cache.parse(name); ok {
				c.cache.invalidate(key)
			}
		}
	}
}

// Close implements rueidis.CacheStore: the connection is lost.
func (c *connCache) Close(err error) {
	c.mu.Lock()
	flights, read := c.flights, c.read
	c.flights = nil
	c.mu.Unlock()
	if read {
		c.cache.flush()
	}
	for _, f := range flights {
		f.err = err
		close(f.done)
	}
}
