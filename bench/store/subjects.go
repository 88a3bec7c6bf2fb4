package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2/memstore"
	"github.com/allegro/bigcache/v3"
	"github.com/maypok86/otter/v2"
	"github.com/puzpuzpuz/xsync/v4"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// subject is one way to keep sessions. The maps store the record's bytes under its key, and have neither an index by user, nor a limit,
// nor a comparison of versions, nor tombstones; some of them have no expiry.
type subject struct {
	name string
	make func(n, bytes int) (store, error) // for n records of so many bytes
}

// store is the part of a subject that is measured. The caller owns the buffer of a load.
type store interface {
	create(i int, rec *coatcheck.Record) error
	load(i int, buf *coatcheck.Record) error
	swap(i int, rec *coatcheck.Record) error
	end(i int) error
}

var subjects = []subject{
	{"coatcheck", func(int, int) (store, error) { return newCoatcheck(shardstore.Options{JanitorEvery: time.Hour}) }},
	{"sharded map", func(int, int) (store, error) { return newSharded(), nil }},
	{"sync.Map", func(int, int) (store, error) { return &syncMap{}, nil }},
	{"xsync", func(int, int) (store, error) { return xsyncMap{xsync.NewMap[coatcheck.Key, []byte]()}, nil }},
	{"otter", newOtter},
	{"bigcache", newBigcache},
	{"scs memstore", func(int, int) (store, error) { return scsStore{memstore.NewWithCleanupInterval(0)}, nil }},
}

var errMissing = errors.New("a session is missing")

// now is the time of every operation.
var now = time.Now()

func user(i int) string { return "user-" + strconv.Itoa(i) }

// key is computed from i, so that no list of keys takes up heap.
func key(i int) (k coatcheck.Key) {
	tag := coatcheck.TagOf(user(i))
	copy(k[:], tag[:])
	binary.BigEndian.PutUint64(k[8:], uint64(i)*0x9E3779B97F4A7C15)
	return k
}

// write makes rec version v of session i, of so many bytes: a user agent, and from 200 bytes on two values.
func write(rec *coatcheck.Record, i int, v uint64, bytes int, ttl time.Duration) error {
	var values []byte
	if bytes >= 200 {
		values = append(values, "\x04cart\x00\x12{\"sku\":17,\"qty\":2}\x05theme\x00\x06\"dark\""...)
	}
	agent := make([]byte, bytes-98-len(user(i))-len(values))
	copy(agent, "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0 and what else a browser says of itself")
	h := coatcheck.Header{
		Version: v, ID: coatcheck.ID{1}, CreatedAt: now.UnixMilli(), LastSeen: now.UnixMilli(), RotatedAt: now.UnixMilli(),
		IdleExpiry: now.Add(ttl).UnixMilli(), AbsoluteExpiry: now.Add(12 * time.Hour).UnixMilli(),
	}
	if err := rec.Write(key(i), h, []byte(user(i)), []byte{192, 0, 2, 7}, agent, values); err != nil {
		return err
	}
	if len(rec.Bytes()) != bytes {
		return fmt.Errorf("a record of %d bytes", len(rec.Bytes()))
	}
	return nil
}

type coat struct {
	*shardstore.Store
	cur, last *coatcheck.Record
}

func newCoatcheck(opt shardstore.Options) (coat, error) {
	s, err := shardstore.New(opt)
	return coat{s, &coatcheck.Record{}, &coatcheck.Record{}}, err
}

func (c coat) create(_ int, rec *coatcheck.Record) error {
	_, err := c.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: 100}, now)
	return err
}

func (c coat) load(i int, buf *coatcheck.Record) error {
	return c.Load(context.Background(), key(i), coatcheck.ID{1}, now, buf)
}

func (c coat) swap(_ int, rec *coatcheck.Record) error {
	return c.Swap(context.Background(), rec, rec.Version-1, now, c.cur)
}

func (c coat) end(i int) error {
	return c.End(context.Background(), key(i), user(i), now, now.Add(10*time.Second), c.last)
}

// sharded is the obvious implementation: 256 maps with a lock each, and a slice per session.
type sharded [256]struct {
	mu sync.RWMutex
	m  map[coatcheck.Key][]byte
	_  [96]byte
}

func newSharded() *sharded {
	s := &sharded{}
	for i := range s {
		s[i].m = map[coatcheck.Key][]byte{}
	}
	return s
}

func (s *sharded) create(_ int, rec *coatcheck.Record) error {
	sh := &s[rec.Key[3]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.m[rec.Key] = append([]byte(nil), rec.Bytes()...)
	return nil
}
func (s *sharded) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s *sharded) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	sh := &s[k[3]]
	sh.mu.RLock()
	b := sh.m[k]
	sh.mu.RUnlock()
	return buf.Read(k, b)
}

func (s *sharded) end(i int) error {
	k := key(i)
	sh := &s[k[3]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.m, k)
	return nil
}

type syncMap struct{ m sync.Map }

func (s *syncMap) create(_ int, rec *coatcheck.Record) error {
	s.m.Store(rec.Key, append([]byte(nil), rec.Bytes()...))
	return nil
}
func (s *syncMap) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s *syncMap) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	b, ok := s.m.Load(k)
	if !ok {
		return errMissing
	}
	return buf.Read(k, b.([]byte))
}

func (s *syncMap) end(i int) error {
	s.m.Delete(key(i))
	return nil
}

type xsyncMap struct {
	m *xsync.Map[coatcheck.Key, []byte]
}

func (s xsyncMap) create(_ int, rec *coatcheck.Record) error {
	s.m.Store(rec.Key, append([]byte(nil), rec.Bytes()...))
	return nil
}
func (s xsyncMap) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s xsyncMap) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	b, ok := s.m.Load(k)
	if !ok {
		return errMissing
	}
	return buf.Read(k, b)
}

func (s xsyncMap) end(i int) error {
	s.m.Delete(key(i))
	return nil
}

type otterCache struct {
	c *otter.Cache[coatcheck.Key, []byte]
}

func newOtter(int, int) (store, error) {
	c, err := otter.New(&otter.Options[coatcheck.Key, []byte]{ // unbounded: a session store must not evict
		ExpiryCalculator: otter.ExpiryWriting[coatcheck.Key, []byte](30 * time.Minute),
	})
	return otterCache{c}, err
}

func (s otterCache) create(_ int, rec *coatcheck.Record) error {
	s.c.Set(rec.Key, append([]byte(nil), rec.Bytes()...))
	return nil
}
func (s otterCache) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s otterCache) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	b, ok := s.c.GetIfPresent(k)
	if !ok {
		return errMissing
	}
	return buf.Read(k, b)
}

func (s otterCache) end(i int) error {
	s.c.Invalidate(key(i))
	return nil
}

type bigCache struct{ c *bigcache.BigCache }

func newBigcache(n, bytes int) (store, error) {
	// bigcache makes the queue of each shard for its share of n entries of this size, and doubles one that gets full. An entry takes 36 bytes
	// beside its record, key included; what is left is for the shards that get more than their share.
	entry := bytes + 48
	cfg := bigcache.DefaultConfig(30 * time.Minute)
	cfg.Verbose, cfg.MaxEntriesInWindow, cfg.MaxEntrySize, cfg.Shards = false, n, entry, 256
	c, err := bigcache.New(context.Background(), cfg)
	return bigCache{c}, err
}

func (s bigCache) create(_ int, rec *coatcheck.Record) error {
	return s.c.Set(string(rec.Key[:]), rec.Bytes())
}
func (s bigCache) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s bigCache) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	b, err := s.c.Get(string(k[:]))
	if err != nil {
		return err
	}
	return buf.Read(k, b)
}

func (s bigCache) end(i int) error {
	k := key(i)
	return s.c.Delete(string(k[:]))
}

type scsStore struct{ m *memstore.MemStore }

func (s scsStore) create(_ int, rec *coatcheck.Record) error {
	return s.m.Commit(string(rec.Key[:]), append([]byte(nil), rec.Bytes()...), now.Add(30*time.Minute))
}
func (s scsStore) swap(i int, rec *coatcheck.Record) error { return s.create(i, rec) }

func (s scsStore) load(i int, buf *coatcheck.Record) error {
	k := key(i)
	b, ok, err := s.m.Find(string(k[:]))
	if err != nil || !ok {
		return errors.Join(err, errMissing)
	}
	return buf.Read(k, b)
}

func (s scsStore) end(i int) error {
	k := key(i)
	return s.m.Delete(string(k[:]))
}
