package shardstore

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// shard is one lock and everything that it guards. Its invariants, whenever the lock is free:
//   - every slot that is not free is a session, a tombstone or a mark, and stands in the timer wheel;
//   - keys holds exactly the sessions and the tombstones, and marks holds the marks, by their users;
//   - users has the first session of each user, which leads to the others (userlist.go), and no user without a session;
//     tombstones belong to no user;
//   - sessions counts the sessions.
//
// The caller of its methods holds the lock, unless a method's comment says that the method takes it. Times are Unix
// milliseconds. A slot's bytes are valid until the lock is released or a slot is taken, given back or moved.
type shard struct {
	mu       sync.RWMutex // guards everything below that changes
	sessions atomic.Int64 // written with mu held; Store.Len reads it without

	// Every reader writes to the cache line of mu. Fields that a Load only reads stand on other lines, which every core may
	// keep.
	_ [cacheLines]byte

	seed  maphash.Seed // of this shard's tables, so that nobody outside can aim at one of their cells; never changes
	keys  hashTable
	slots slabs
	users hashTable
	marks hashTable
	wheel timerWheel
	frame frame

	snapshotting bool // a snapshot is being written: nothing may move to another slot without an entry in the journal

	taken *atomic.Int64 // Store.taken; nil without Options.MaxSessions
	swept *swept        // the store's

	// Without this padding the lock of the next shard would share a line with this one's fields.
	_ [cacheLines]byte
}

// cacheLines is two lines of 64 bytes, because processors fetch them in pairs.
const cacheLines = 128

func (sh *shard) init(taken *atomic.Int64, swept *swept, now int64) {
	sh.slots.init()
	sh.wheel.slots = &sh.slots
	sh.wheel.at = now
	sh.seed = maphash.MakeSeed()
	sh.taken, sh.swept = taken, swept
}

// hash is the hash of the shard's tables. It needs no lock.
func (sh *shard) hash(b []byte) uint32 { return uint32(maphash.Bytes(sh.seed, b)) }

func (sh *shard) at(n ref) slot { return sh.slots.at(n) }

// find returns what stands at key, including what has ended and not been removed yet; 0 is nothing.
func (sh *shard) find(key coatcheck.Key, hash uint32) ref {
	return sh.keys.find(hash, func(n ref) bool { return sh.at(n).key() == key })
}

// standing returns the session or tombstone that stands at key; 0 is none. What has ended is removed, so that a clock that
// steps back does not bring back a session that the caller was told is gone.
func (sh *shard) standing(key coatcheck.Key, hash uint32, now int64) ref {
	n := sh.find(key, hash)
	if n != 0 && sh.at(n).ends() <= now {
		sh.expire(n)
		return 0
	}
	return n
}

// living returns the session that lives at key; 0 is none.
func (sh *shard) living(key coatcheck.Key, now int64) ref {
	if n := sh.standing(key, sh.hash(key[:]), now); n != 0 && sh.at(n).is(session) {
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

// errExpired is ErrNotFound for what has ended but is not removed yet.
var errExpired = errors.New("shardstore: expired")

// dropExpired removes what has ended at key. It takes the lock itself.
func (sh *shard) dropExpired(key coatcheck.Key, now int64) {
	sh.mu.Lock()
	defer sh.unlock()
	sh.standing(key, sh.hash(key[:]), now)
}

// expire removes what has ended. That a session did goes to the journal: if the clock is ahead, is set right, and the server starts
// again, whoever was told that the session is gone would find it there.
func (sh *shard) expire(n ref) {
	if s := sh.at(n); s.is(session) {
		sh.frame.end(s.key(), s.ends())
	}
	sh.discard(n)
}

// discard is expire for a session whose end the journal has already.
func (sh *shard) discard(n ref) {
	if s := sh.at(n); s.is(session) {
		sh.swept.count(coatcheck.Encoded(s.payload()).IdleFirst())
	}
	sh.remove(n)
}

// unlock releases the lock. What expired meanwhile, and went to the journal with no other change, goes there first. An error is lost:
// the journal counts it, and what has expired cannot be kept for it.
func (sh *shard) unlock() {
	if len(sh.frame.bytes) > 0 {
		_, _ = sh.frame.write()
	}
	sh.mu.Unlock()
}

// dropDamaged removes the session at key if its bytes are no record. It takes the lock itself.
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

// insert adds a session where nothing stands. Its place in Options.MaxSessions is taken already.
func (sh *shard) insert(key coatcheck.Key, hash uint32, b []byte) {
	n := sh.slots.take(len(b))
	s := sh.at(n)
	copy(s, key[:])
	s.fill(session, b)
	sh.keys.add(hash, n)
	sh.wheel.add(n)
	sh.addToUser(n)
	sh.sessions.Add(1)
}

// replace puts a copy of b, which has the same user and time of creation, in the place of a session's record.
func (sh *shard) replace(n ref, b []byte) {
	before := sh.at(n).ends()
	if sh.slots.classAt(n) != classOf(len(b)) {
		n = sh.move(n, len(b))
	}
	sh.at(n).fill(session, b)
	// A session that ends later stays in its bucket until the janitor comes to that bucket.
	if sh.at(n).ends() < before {
		sh.wheel.remove(n)
		sh.wheel.add(n)
		sh.endsEarlier(n)
	}
}

// end turns a session into a tombstone that stands until the given time.
func (sh *shard) end(n ref, now, until int64) {
	if until <= now {
		sh.remove(n)
		return
	}
	sh.toTombstone(n, until)
}

func (sh *shard) toTombstone(n ref, until int64) {
	sh.removeFromUser(n)
	sh.countDown()
	payload := tombstonePayload(until)
	sh.at(n).fill(tombstone, payload[:])
	n = sh.move(n, len(payload))
	sh.wheel.remove(n)
	sh.wheel.add(n)
}

// insertTombstone leaves a tombstone where nothing stands.
func (sh *shard) insertTombstone(key coatcheck.Key, hash uint32, until int64) {
	payload := tombstonePayload(until)
	n := sh.slots.take(len(payload))
	s := sh.at(n)
	copy(s, key[:])
	s.fill(tombstone, payload[:])
	sh.keys.add(hash, n)
	sh.wheel.add(n)
}

// countDown subtracts one from the count of sessions.
func (sh *shard) countDown() {
	sh.sessions.Add(-1)
	if sh.taken != nil {
		sh.taken.Add(-1)
	}
}

// remove removes whatever stands in a slot, and leaves nothing in its place.
func (sh *shard) remove(n ref) {
	s := sh.at(n)
	switch s.kind() {
	case session:
		sh.removeFromUser(n)
		sh.countDown()
		fallthrough
	case tombstone:
		sh.keys.remove(sh.hash(s[:keyBytes]), n)
	case mark:
		sh.marks.remove(sh.hash(s.user()), n)
	}
	sh.wheel.remove(n)
	sh.slots.give(n)
}

// move moves what stands in slot n to a slot for a payload of the given size, and returns that slot. Everything that refers
// to n is updated.
func (sh *shard) move(n ref, size int) ref {
	to := sh.slots.take(size)
	s := sh.at(n)
	copy(sh.at(to), s[:min(len(s), len(sh.at(to)))])
	switch s.kind() {
	case session:
		sh.renumberInUser(n, to)
		fallthrough
	case tombstone:
		sh.keys.set(sh.hash(s[:keyBytes]), n, to)
	case mark:
		sh.marks.set(sh.hash(s.user()), n, to)
	}
	sh.wheel.renumber(to)
	sh.slots.give(n)
	return to
}

// frame collects what one operation changes and writes it to the journal as one frame: after a crash all of it is there, or
// nothing. It is guarded by its shard's lock, and its checksum is computed before any lock of the journal is taken. Without
// a journal it does nothing.
type frame struct {
	journal *journal // never changes once the store is used
	bytes   []byte   // the frame's head, which is not filled in yet, and its entries; empty when the lock is free
}

// begin reports whether there is a journal to write to.
func (f *frame) begin() bool {
	if f.journal == nil {
		return false
	}
	if len(f.bytes) == 0 {
		f.bytes = append(f.bytes, make([]byte, frameHead)...)
	}
	return true
}

func (f *frame) put(key coatcheck.Key, record []byte) {
	if f.begin() {
		f.bytes = appendPut(f.bytes, key, record)
	}
}

func (f *frame) end(key coatcheck.Key, until int64) {
	if f.begin() {
		f.bytes = appendEnd(f.bytes, key, until)
	}
}

func (f *frame) mark(until int64, m coatcheck.Mark, user string) {
	if f.begin() {
		f.bytes = appendMarkEntry(f.bytes, until, m, []byte(user))
	}
}

// maxFrameBuffer is how large a buffer a shard keeps for its next operation.
const maxFrameBuffer = 16 << 10

// write writes the frame, and returns the count up to which the journal must be synced for the frame to survive a power
// cut. After an error the operation must change nothing.
func (f *frame) write() (upTo uint64, err error) {
	if f.journal == nil {
		return 0, nil
	}
	sealFrame(f.bytes)
	upTo, err = f.journal.write(f.bytes)
	if f.bytes = f.bytes[:0]; cap(f.bytes) > maxFrameBuffer {
		f.bytes = nil
	}
	return upTo, err
}
