package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Cache is the cache without a store, for tests that simulate Redis.
type Cache struct{ *cache }

// NewCache returns an empty cache of size bytes.
func NewCache(prefix string, size int) Cache { return Cache{newCache(prefix, size)} }

// NewStore does what rueidis does for a new connection.
func (c Cache) NewStore() rueidis.CacheStore { return c.newStore(rueidis.CacheStoreOption{}) }

// Load does what Store.Load does first.
func (c Cache) Load(key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) bool {
	found, _ := c.load(key, id, now, rec)
	return found
}

// Flush does what a new connection does first.
func (c Cache) Flush() { c.flush() }

// Keep does what a read past the cache does last.
func (c Cache) Keep(key coatcheck.Key, err error, rec *coatcheck.Record) { c.keep(key, err, rec) }

// Stats returns the cache's part of a store's Stats.
func (c Cache) Stats() (st Stats) {
	c.addTo(&st)
	return st
}

// Check returns which of the cache's invariants do not hold.
func (c Cache) Check() error {
	var errs []error
	for i := range c.shards {
		errs = append(errs, c.shards[i].check())
	}
	return errors.Join(errs...)
}

func (sh *cacheShard) check() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	size := 0
	for i, e := range sh.ring {
		size += e.size()
		if e.pos != i || sh.entries[e.key] != e {
			return fmt.Errorf("the ring's entry %d says it is %d", i, e.pos)
		}
	}
	if len(sh.ring) != len(sh.entries) || size != sh.size || size > sh.max {
		return fmt.Errorf("%d in the ring, %d in the map, %d bytes counted as %d of %d", len(sh.ring), len(sh.entries), size, sh.size, sh.max)
	}
	return nil
}

// Message returns Redis' answer to a GET.
func Message(value []byte) rueidis.RedisMessage {
	return message('$', value)
}

// NilMessage returns Redis' answer to a GET of a key that does not exist.
func NilMessage() rueidis.RedisMessage { return message('_', nil) }

func message(kind byte, value []byte) (m rueidis.RedisMessage) {
	b := append(make([]byte, 7), kind)
	b = binary.BigEndian.AppendUint64(b, uint64(len(value)))
	if err := m.CacheUnmarshalView(append(b, value...)); err != nil {
		panic(err)
	}
	return m
}

// NewPatient is New for tests in which Redis is never away for long: no method and no connection times out before the test
// ends, however slow the machine. Options.Timeout, at most three seconds, is too short for that.
func NewPatient(ctx context.Context, opt Options) (*Store, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	conn, err := opt.client()
	if err != nil {
		return nil, err
	}
	opt.Timeout, conn.ConnWriteTimeout, conn.Dialer.Timeout, conn.Sentinel.Dialer.Timeout = Patience, Patience, Patience, Patience
	s := &Store{born: time.Now(), prefix: opt.Prefix, timeout: opt.Timeout, wait: opt.WaitReplicas, log: opt.Logger}
	if err := s.connect(ctx, opt, conn); err != nil {
		return nil, err
	}
	if err := s.start(ctx, opt, s.inspect(ctx, conn, opt.AllowEviction)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Patience is how long a method of a store by NewPatient may take.
const Patience = 2 * time.Minute

// ErrReplicas is the error of a write that the primary has, but too few replicas.
var ErrReplicas = errReplicas

// SetTimeout sets how long a method may take from now on. The goroutine that reads the timeout beside the methods starts anew.
func (s *Store) SetTimeout(d time.Duration) {
	s.watcher.stop()
	s.timeout = d
	s.watch()
}

// RecordKey returns the Redis key of key's record.
func (s *Store) RecordKey(key coatcheck.Key) string { return s.recordKey(key) }

// Cached reports whether the cache, if there is one, would answer a Load.
func (s *Store) Cached(key coatcheck.Key, id coatcheck.ID, now time.Time) bool {
	var rec coatcheck.Record
	if s.cache == nil {
		return true
	}
	found, _ := s.cache.load(key, id, now, &rec)
	return found
}

// LookAtClock makes the next Ping check Redis' clock.
func (s *Store) LookAtClock() { s.clockAge.Store(-int64(clockEvery)) }

// Look looks at the topology at once.
func (s *Store) Look(ctx context.Context) {
	s.watcher.stop()
	s.look(ctx)
	s.watch()
}

// WatchAMinute does at once what the store does beside its callers in a minute.
func (s *Store) WatchAMinute() {
	s.watcher.stop()
	for n := range policyEvery {
		s.turn(context.Background(), n+1)
	}
	s.watch()
}

// RefusalOf is refusalOf of Redis' error with this text.
func RefusalOf(text string) string {
	m := message('-', []byte(text))
	return refusalOf(m.Error())
}

// SlotOf is slotOf.
var SlotOf = slotOf

// Client is the store's client.
func (s *Store) Client() rueidis.Client { return s.client }

// Forget empties the cache.
func (s *Store) Forget() { s.cache.flush() }

// CreateCommands returns the commands that a login sends, for another client.
func (s *Store) CreateCommands(rec *coatcheck.Record) []rueidis.Completed {
	tag, name, now := rec.Key.Tag(), userName(rec.UserID()), millis(time.Now())
	return s.commands(createScript,
		[]string{s.recordKey(rec.Key), s.key(tag, kindIndex, name), s.key(tag, kindMark, name)},
		[]string{string(rec.Bytes()), ends(rec), member(rec), "\x00\x00\x00\x00\x00\x00\x00\x00", "", now, now})
}

// SwapCommands returns the commands that a refresh sends.
func (s *Store) SwapCommands(rec *coatcheck.Record) []rueidis.Completed {
	return s.commands(swapScript,
		[]string{s.recordKey(rec.Key), s.key(rec.Key.Tag(), kindIndex, userName(rec.UserID()))},
		[]string{string(rec.Bytes()), string(binary.BigEndian.AppendUint64(nil, rec.Version-1)), millis(time.Now()), ends(rec)})
}

func (s *Store) commands(sc *script, keys, args []string) []rueidis.Completed {
	b := s.client.B()
	return []rueidis.Completed{b.Evalsha().Sha1(sc.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()}
}

// ReadView reads an answer to CLUSTER SLOTS, which consists of slices, strings, ints and nil, and returns the ID and the address
// of the primary of each range, and those of all nodes.
func ReadView(from string, answer any) (claims []string, nodes map[string]string, err error) {
	var m rueidis.RedisMessage
	if err := m.CacheUnmarshalView(appendAny(make([]byte, 7), answer)); err != nil {
		panic(err)
	}
	v, err := readView(from, m)
	for _, c := range v.claims {
		claims = append(claims, fmt.Sprintf("%d-%d %s %s", c.first, c.last, c.id, c.addr))
	}
	return claims, v.nodes, err
}

func appendAny(b []byte, v any) []byte {
	switch v := v.(type) {
	case []any:
		b = binary.BigEndian.AppendUint64(append(b, '*'), uint64(len(v)))
		for _, part := range v {
			b = appendAny(b, part)
		}
		return b
	case string:
		return append(binary.BigEndian.AppendUint64(append(b, '$'), uint64(len(v))), v...)
	case int:
		return binary.BigEndian.AppendUint64(append(b, ':'), uint64(v))
	}
	return binary.BigEndian.AppendUint64(append(b, '_'), 0)
}

// Topology is a topology whose nodes are made up. Their addresses are their IDs, but for those in Addr; -: the
// Cluster tells none.
type Topology struct {
	topology
	Addr map[string]string
}

// Update takes in what nodes say: each view is the ID of the primary of the first slot, of the second, and so on, and which
// other nodes it names.
func (t *Topology) Update(views ...[2]string) (agreed bool, gone []string) {
	var all []view
	for _, text := range views {
		v := view{nodes: map[string]string{}}
		for _, id := range strings.Split(text[0]+text[1], "") {
			v.nodes[id] = strings.TrimPrefix(cmp.Or(t.Addr[id], id), "-")
		}
		for i, id := range strings.Split(text[0], "") {
			v.claims = append(v.claims, claim{i, i, id, v.nodes[id]})
		}
		all = append(all, v)
	}
	return t.update(all)
}

// Probe tries a write, as the store does every two seconds.
func (s *Store) Probe(ctx context.Context) { s.probe(ctx) }

// Turn does at once what the store does every two seconds.
func (s *Store) Turn() {
	s.watcher.stop()
	s.turn(context.Background(), 1)
	s.watch()
}

// Dialer is what connects a store to Redis.
type Dialer struct{ *dialer }

// NewDialer returns a Dialer that connects with base.
func NewDialer(base func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)) Dialer {
	return Dialer{newDialer(base, time.Hour, func() {})}
}

// Dial returns a connection.
func (d Dialer) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return d.dial(ctx, addr, &net.Dialer{Timeout: time.Minute}, nil)
}

// CloseAll closes all connections.
func (d Dialer) CloseAll() { d.closeAll() }

// Forbid lets no connection be open to these addresses.
func (d Dialer) Forbid(addrs []string) { d.forbid(addrs) }

// Close ends all dials.
func (d Dialer) Close() { d.close() }
