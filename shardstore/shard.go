package shardstore

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// shard is one lock and all that stands under it. Its invariants, whenever the lock is free:
//   - entries holds what stands at a key, and ends holds the same entries in the order in which they go;
//   - users holds exactly the sessions among them (not the tombstones) that have a user, and no user without one;
//   - the same goes for marks and markEnds;
//   - the sessions of all shards add up to the store's count.
//
// Its methods want the lock held by the caller, the exceptions say so. Times are Unix milliseconds.
type shard struct {
	mu       sync.RWMutex // guards all below and all that is reached from there
	entries  map[coatcheck.Key]*entry
	ends     queue[*entry]
	users    users
	marks    map[string]*mark
	markEnds queue[*mark]

	live *atomic.Int64 // the store's count

	// Two cache lines, because processors fetch them in pairs: without them the lock of one shard would share a line with
	// its neighbour's, and cores that work on different shards would still wait for each other.
	_ [128]byte
}

// entry is what stands at a key: a session, or the tombstone of one.
type entry struct {
	deadline // the session's expiry, the tombstone's end
	key      coatcheck.Key
	user     string
	created  int64
	slot     int    // where it stands in users[user]
	bytes    []byte // the record; nil for a tombstone. Replaced as a whole and never written into, so readers may keep it
}

func (e *entry) isTombstone() bool { return e.bytes == nil }

func (sh *shard) init(live *atomic.Int64) {
	sh.entries = make(map[coatcheck.Key]*entry)
	sh.users = make(users)
	sh.marks = make(map[string]*mark)
	sh.live = live
}

// standing returns what stands at key, tombstones included; nil if nothing does, or only what the janitor has yet to fetch.
func (sh *shard) standing(key coatcheck.Key, now int64) *entry {
	if e := sh.entries[key]; e != nil && now < e.at {
		return e
	}
	return nil
}

// living returns the session that lives at key, or nil.
func (sh *shard) living(key coatcheck.Key, now int64) *entry {
	if e := sh.standing(key, now); e != nil && !e.isTombstone() {
		return e
	}
	return nil
}

// read is Store.Load. It takes the lock itself.
func (sh *shard) read(key coatcheck.Key, now int64, rec *coatcheck.Record) error {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	e := sh.standing(key, now)
	switch {
	case e == nil:
		return coatcheck.ErrNotFound
	case e.isTombstone():
		return coatcheck.ErrEnded
	default:
		return rec.Read(key, e.bytes)
	}
}

// dropDamaged removes what stands at key if it still is no record. It takes the lock itself.
func (sh *shard) dropDamaged(key coatcheck.Key) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[key]
	if e == nil || e.isTombstone() {
		return
	}
	var rec coatcheck.Record
	if rec.Read(key, e.bytes) != nil {
		sh.remove(e)
	}
}

// insert adds a session whose place in the store's count is taken already.
func (sh *shard) insert(e *entry) {
	if gone := sh.entries[e.key]; gone != nil { // expired, and the janitor has yet to come by
		sh.remove(gone)
	}
	sh.entries[e.key] = e
	sh.ends.add(e)
	sh.users.add(e)
}

// replace puts a copy of other bytes in the place of a session's.
func (sh *shard) replace(e *entry, b []byte) {
	e.bytes = bytes.Clone(b)
	sh.ends.move(e, coatcheck.EncodedExpiry(b))
}

// end turns a session into a tombstone that stands until the given time.
func (sh *shard) end(e *entry, now, until int64) {
	if until <= now {
		sh.remove(e)
		return
	}
	sh.users.remove(e)
	sh.live.Add(-1)
	e.bytes = nil
	sh.ends.move(e, until)
}

// remove takes out a session or a tombstone without a trace.
func (sh *shard) remove(e *entry) {
	delete(sh.entries, e.key)
	sh.ends.remove(e)
	if !e.isTombstone() {
		sh.users.remove(e)
		sh.live.Add(-1)
	}
}
