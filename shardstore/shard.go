package shardstore

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// shard is one lock and all that stands under it. Its invariants, whenever the lock is free:
//   - every slot that is not free is a session, a tombstone or a mark, and stands in the wheel;
//   - keys has exactly the sessions and the tombstones, marks the marks, by their users;
//   - users has the first of each user's sessions, which lead to the others, and no user without one; tombstones are in
//     no list;
//   - the sessions of all shards add up to the store's count.
//
// Its methods want the lock held by the caller, the exceptions say so. Times are Unix milliseconds. A slot's bytes are
// valid until the lock is let go or a slot is taken, given back or moved.
type shard struct {
	mu    sync.RWMutex // guards all below
	slots slabs
	keys  table
	users table
	marks table
	wheel wheel
	pen   pen

	dumping bool // a snapshot is being written: what stands in a slot stays there, unless the journal says so

	seed  maphash.Seed  // of this shard's tables: nobody outside can aim at one of their cells. Never changes
	live  *atomic.Int64 // the store's count
	swept *swept        // the store's

	// Two cache lines, because processors fetch them in pairs: without them the lock of one shard would share a line with
	// its neighbour's, and cores that work on different shards would still wait for each other.
	_ [128]byte
}

func (sh *shard) init(live *atomic.Int64, swept *swept, now int64) {
	sh.slots.init()
	sh.wheel.slots = &sh.slots
	sh.wheel.at = now
	sh.seed = maphash.MakeSeed()
	sh.live, sh.swept = live, swept
}

// hash is for the tables. It needs no lock.
func (sh *shard) hash(b []byte) uint32 { return uint32(maphash.Bytes(sh.seed, b)) }

func (sh *shard) at(n ref) slot { return sh.slots.at(n) }

// find returns what the janitor has not fetched from key, whether it is over or not; 0 is nothing.
func (sh *shard) find(key coatcheck.Key, hash uint32) ref {
	return sh.keys.find(hash, func(n ref) bool { return sh.at(n).key() == key })
}

// standing returns what stands at key, tombstones included; 0 is nothing.
func (sh *shard) standing(key coatcheck.Key, now int64) ref {
	if n := sh.find(key, sh.hash(key[:])); n != 0 && now < sh.at(n).ends() {
		return n
	}
	return 0
}

// living returns the session that lives at key; 0 is none.
func (sh *shard) living(key coatcheck.Key, now int64) ref {
	if n := sh.standing(key, now); n != 0 && sh.at(n).is(session) {
		return n
	}
	return 0
}

// read is Store.Load. It takes the lock itself.
func (sh *shard) read(key coatcheck.Key, now int64, rec *coatcheck.Record) error {
	hash := sh.hash(key[:])
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	n := sh.find(key, hash)
	if n == 0 {
		return coatcheck.ErrNotFound
	}
	switch s := sh.at(n); {
	case now >= s.ends():
		return errExpired
	case s.is(tombstone):
		return coatcheck.ErrEnded
	default:
		return rec.Read(key, s.payload())
	}
}

// errExpired is ErrNotFound for what the janitor has yet to fetch.
var errExpired = errors.New("shardstore: expired")

// dropExpired removes what is over at key: a clock that steps back must not bring back what somebody was told is gone. It
// takes the lock itself.
func (sh *shard) dropExpired(key coatcheck.Key, now int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if n := sh.find(key, sh.hash(key[:])); n != 0 && now >= sh.at(n).ends() {
		sh.remove(n)
	}
}

// dropDamaged removes what stands at key if it still is no record. It takes the lock itself.
func (sh *shard) dropDamaged(key coatcheck.Key) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.find(key, sh.hash(key[:]))
	if n == 0 || !sh.at(n).is(session) {
		return
	}
	var rec coatcheck.Record
	if rec.Read(key, sh.at(n).payload()) != nil {
		sh.remove(n)
	}
}

// insert adds a session whose place in the store's count is taken already.
func (sh *shard) insert(key coatcheck.Key, b []byte) {
	hash := sh.hash(key[:])
	if over := sh.find(key, hash); over != 0 { // the janitor has yet to come by
		sh.remove(over)
	}
	n := sh.slots.take(len(b))
	s := sh.at(n)
	copy(s, key[:])
	s.fill(session, b)
	sh.keys.add(hash, n)
	sh.wheel.add(n)
	sh.addToUser(n)
}

// replace puts a copy of b in the place of a session's record.
func (sh *shard) replace(n ref, b []byte) {
	was := sh.at(n).ends()
	if sh.slots.classAt(n) != classOf(len(b)) {
		n = sh.move(n, len(b))
	}
	sh.at(n).fill(session, b)
	// A later end finds its bucket when the janitor comes to the one it stands in.
	if sh.at(n).ends() < was {
		sh.wheel.remove(n)
		sh.wheel.add(n)
	}
}

// end turns a session into a tombstone that stands until the given time.
func (sh *shard) end(n ref, now, until int64) {
	if until <= now {
		sh.remove(n)
		return
	}
	sh.bury(n, until)
}

func (sh *shard) bury(n ref, until int64) {
	sh.removeFromUser(n)
	sh.live.Add(-1)
	grave := graveUntil(until)
	sh.at(n).fill(tombstone, grave[:])
	n = sh.move(n, len(grave))
	sh.wheel.remove(n)
	sh.wheel.add(n)
}

func graveUntil(until int64) (payload [8]byte) {
	binary.LittleEndian.PutUint64(payload[:], uint64(until))
	return payload
}

// insertTombstone leaves a tombstone where nothing stands.
func (sh *shard) insertTombstone(key coatcheck.Key, until int64) {
	grave := graveUntil(until)
	n := sh.slots.take(len(grave))
	s := sh.at(n)
	copy(s, key[:])
	s.fill(tombstone, grave[:])
	sh.keys.add(sh.hash(key[:]), n)
	sh.wheel.add(n)
}

// remove takes out whatever stands in a slot, without a trace.
func (sh *shard) remove(n ref) {
	s := sh.at(n)
	switch s.kind() {
	case session:
		sh.removeFromUser(n)
		sh.live.Add(-1)
		fallthrough
	case tombstone:
		sh.keys.remove(sh.hash(s[:offNext]), n)
	case mark:
		sh.marks.remove(sh.hash(s.user()), n)
	}
	sh.wheel.remove(n)
	sh.slots.give(n)
}

// move brings what stands in slot n to another one, whose payload may have the given size. All that leads there follows.
func (sh *shard) move(n ref, size int) ref {
	to := sh.slots.take(size)
	s := sh.at(n)
	copy(sh.at(to), s[:min(len(s), len(sh.at(to)))])
	switch s.kind() {
	case session:
		sh.renumberInUser(n, to)
		fallthrough
	case tombstone:
		sh.keys.set(sh.hash(s[:offNext]), n, to)
	case mark:
		sh.marks.set(sh.hash(s.user()), n, to)
	}
	sh.wheel.renumber(to)
	sh.slots.give(n)
	return to
}
