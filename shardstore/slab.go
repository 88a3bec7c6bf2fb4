package shardstore

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/coatcheck/coatcheck"
)

// ref is the number of a slot within its shard; 0 is none. A ref stands where another store would have a pointer, so that
// the garbage collector finds nothing to follow however many sessions there are.
type ref uint32

// slot is the bytes of one slot. Everything that the store knows of a session stands in them:
//
//	 0  16  Key; unused in a mark
//	16   4  next and
//	20   4  previous slot in the same bucket of the timer wheel; of a free slot, the next free one
//	24   4  next younger and
//	28   4  next older session of the same user (userlist.go)
//	32   4  in the first session of a user: how many sessions the user has, with the upper bit set if their order is
//	        not known; in their other sessions 0; undefined in a slot that no user's ring holds
//	36   4  in the first session of a user: the second in which the first of the user's sessions may end (userlist.go)
//	40   2  bucket of the timer wheel
//	42   2  kind (upper two bits) and length of the payload
//	44      payload: a session's record; a tombstone's end; a mark's end, the mark and its user
type slot []byte

const (
	offNext      = 16
	offPrev      = 20
	offNextUser  = 24
	offPrevUser  = 28
	offUserCount = 32
	offUserEnd   = 36
	offBucket    = 40
	offSize      = 42
	slotHead     = 44

	keyBytes = offNext

	kindShift = 14
	sizeMask  = 1<<kindShift - 1

	markHead = 16 // a mark's payload before the user
)

// kind is what stands in a slot.
type kind uint16

const (
	free kind = iota
	session
	tombstone
	mark
)

func (s slot) key() coatcheck.Key { return coatcheck.Key(s[:keyBytes]) }

func (s slot) ref(off int) ref       { return ref(binary.LittleEndian.Uint32(s[off:])) }
func (s slot) setRef(off int, n ref) { binary.LittleEndian.PutUint32(s[off:], uint32(n)) }

func (s slot) bucket() bucket     { return bucket(binary.LittleEndian.Uint16(s[offBucket:])) }
func (s slot) setBucket(b bucket) { binary.LittleEndian.PutUint16(s[offBucket:], uint16(b)) }

func (s slot) head() uint16    { return binary.LittleEndian.Uint16(s[offSize:]) }
func (s slot) kind() kind      { return kind(s.head() >> kindShift) }
func (s slot) payload() []byte { return s[slotHead : slotHead+int(s.head()&sizeMask)] }
func (s slot) clear()          { binary.LittleEndian.PutUint16(s[offSize:], 0) }
func (s slot) is(k kind) bool  { return s.kind() == k }
func (s slot) set(k kind, n int) {
	binary.LittleEndian.PutUint16(s[offSize:], uint16(k)<<kindShift|uint16(n))
}

// fill makes the slot one of kind k that holds a copy of b.
func (s slot) fill(k kind, b []byte) {
	s.set(k, len(b))
	copy(s[slotHead:], b)
}

// ends returns when what stands in the slot ends, in Unix milliseconds.
func (s slot) ends() int64 {
	if s.is(session) {
		return coatcheck.Encoded(s.payload()).Expiry()
	}
	return int64(binary.LittleEndian.Uint64(s[slotHead:]))
}

// user returns the user of a session or a mark; empty if it has none. The bytes are the slot's.
func (s slot) user() []byte {
	switch s.kind() {
	case session:
		return coatcheck.Encoded(s.payload()).User()
	case mark:
		return s.payload()[markHead:]
	default:
		return nil
	}
}

// mark returns the mark that stands in the slot.
func (s slot) mark() coatcheck.Mark {
	return coatcheck.Mark(binary.LittleEndian.Uint64(s[slotHead+8:]))
}

// tombstonePayload returns the payload of a tombstone that stands until the given time.
func tombstonePayload(until int64) (payload [8]byte) {
	binary.LittleEndian.PutUint64(payload[:], uint64(until))
	return payload
}

// appendMark appends the payload of a mark.
func appendMark(b []byte, until int64, m coatcheck.Mark, user []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(until))
	b = binary.LittleEndian.AppendUint64(b, uint64(m))
	return append(b, user...)
}

// slabs hands out slots from a shard's memory, which it takes in pieces of 4 to 256 KiB that hold no pointers. Each piece,
// a slab, is cut into slots of one size class. Its invariants:
//   - a slot's number is its slab's place in list times 2^slotBits plus its place in the slab; list[0] holds none, so no
//     slot is number 0;
//   - a slab's free slots are its chain from free, linked through the slots themselves, and all slots from fresh on, which
//     were never used;
//   - a class's chain from open holds exactly its slabs that have a free slot.
type slabs struct {
	list    []slab
	unused  []uint32 // places in list whose slab was released
	classes [len(sizes)]class
}

type slab struct {
	data       []byte // nil: released
	class      uint8
	used       uint16
	fresh      uint16
	idle       bool   // was empty at the last trim
	free       ref    // 0: none
	prev, next uint32 // in the class's chain
}

type class struct {
	open        uint32 // 0: none
	used, slots int    // in all of its slabs
}

const (
	slotBits = 13
	minSlab  = 4 << 10
	maxSlab  = 256 << 10
)

// sizes are the most bytes that the payload of each class has. They are an eighth or less apart, so that little of a slot
// is wasted: the first is for tombstones, and no record is shorter than 94 bytes.
var sizes = [...]int{
	16, 96, 112,
	128, 144, 160, 176, 192, 208, 224, 240,
	256, 288, 320, 352, 384, 416, 448, 480,
	512, 576, 640, 704, 768, 832, 896, 960,
	1024, 1152, 1280, 1408, 1536, 1664, 1792, 1920,
	2048, 2304, 2560, 2816, 3072, 3328, 3584, 3840,
	coatcheck.MaxRecord,
}

func classOf(size int) uint8 { return uint8(sort.SearchInts(sizes[:], size)) }

// checkSize returns an error for a size that no slot has.
func checkSize(size int) error {
	if size > coatcheck.MaxRecord {
		return fmt.Errorf("shardstore: a record of %d bytes: %w: a slot holds at most %d", size, coatcheck.ErrTooLarge, coatcheck.MaxRecord)
	}
	return nil
}

func (s *slabs) init() { s.list = make([]slab, 1) }

// at returns the bytes of a slot.
func (s *slabs) at(n ref) slot {
	sl := &s.list[n>>slotBits]
	size := slotHead + sizes[sl.class]
	off := int(n&(1<<slotBits-1)) * size
	return sl.data[off : off+size : off+size]
}

func (s *slabs) classAt(n ref) uint8 { return s.list[n>>slotBits].class }

func (sl *slab) slots() int { return len(sl.data) / (slotHead + sizes[sl.class]) }
func (sl *slab) full() bool { return sl.free == 0 && int(sl.fresh) == sl.slots() }

// take returns a free slot for a payload of that size. Its bytes are those of its last use.
func (s *slabs) take(size int) ref {
	c := classOf(size)
	id := s.classes[c].open
	if id == 0 {
		id = s.grow(c)
	}
	sl := &s.list[id]
	n := sl.free
	if n != 0 {
		sl.free = s.at(n).ref(offNext)
	} else {
		n = ref(id<<slotBits) + ref(sl.fresh)
		sl.fresh++
	}
	sl.used++
	sl.idle = false
	s.classes[c].used++
	if sl.full() {
		s.close(id)
	}
	return n
}

// give takes a slot back.
func (s *slabs) give(n ref) {
	id := uint32(n >> slotBits)
	sl := &s.list[id]
	wasFull := sl.full()
	at := s.at(n)
	at.clear()
	at.setRef(offNext, sl.free)
	sl.free = n
	sl.used--
	s.classes[sl.class].used--
	if wasFull {
		s.reopen(id)
	}
}

// nextSlab returns how many bytes the next slab of a class has: a quarter of what so many used slots have, so that a store of few
// sessions stays small and one of many has few slabs.
func (s *slabs) nextSlab(c uint8, used int) int {
	slotSize := slotHead + sizes[c]
	size := minSlab
	for size < maxSlab && (size*4 < used*slotSize || size%slotSize > size/8) {
		size *= 2
	}
	return size
}

// grow adds a slab to a class.
func (s *slabs) grow(c uint8) (id uint32) {
	if last := len(s.unused) - 1; last >= 0 {
		id, s.unused = s.unused[last], s.unused[:last]
	} else {
		id = uint32(len(s.list))
		s.list = append(s.list, slab{})
	}
	sl := &s.list[id]
	*sl = slab{data: make([]byte, s.nextSlab(c, s.classes[c].used)), class: c}
	s.classes[c].slots += sl.slots()
	s.reopen(id)
	return id
}

// release gives up an empty slab's memory.
func (s *slabs) release(id uint32) {
	s.close(id)
	sl := &s.list[id]
	s.classes[sl.class].slots -= sl.slots()
	*sl = slab{}
	s.unused = append(s.unused, id)
}

// reopen puts a slab into its class's chain of slabs with free slots, and close takes it out.
func (s *slabs) reopen(id uint32) {
	sl := &s.list[id]
	first := &s.classes[sl.class].open
	sl.prev, sl.next = 0, *first
	if *first != 0 {
		s.list[*first].prev = id
	}
	*first = id
}

func (s *slabs) close(id uint32) {
	sl := &s.list[id]
	if sl.prev != 0 {
		s.list[sl.prev].next = sl.next
	} else {
		s.classes[sl.class].open = sl.next
	}
	if sl.next != 0 {
		s.list[sl.next].prev = sl.prev
	}
}

// trim releases the slabs that were empty at the last call and still are, so that memory which a busy shard needs again in a
// moment is not released.
func (s *slabs) trim() {
	for c := range s.classes {
		if s.classes[c].slots == s.classes[c].used {
			continue
		}
		for id := s.classes[c].open; id != 0; {
			sl := &s.list[id]
			next := sl.next
			switch {
			case sl.used > 0:
			case sl.idle:
				s.release(id)
			default:
				sl.idle = true
			}
			id = next
		}
	}
}

// sparse returns the slab that compact should empty: in a class that uses less than two thirds of its slots, the one with the
// most free ones. 0 is none. What stands in it must fit beside the others, with an eighth of the slots left free, because the
// class would grow again in a moment otherwise; or the slab is larger than the one by which the class would grow if it used a
// quarter more, because a class that has just grown and loses a few slots would otherwise give the new slab back, and grow again.
func (s *slabs) sparse() uint32 {
	for c := range s.classes {
		cl := &s.classes[c]
		if cl.used == 0 || 3*cl.used > 2*cl.slots {
			continue
		}
		next := s.nextSlab(uint8(c), cl.used+cl.used/4)
		best, most := uint32(0), 0
		for id := cl.open; id != 0; id = s.list[id].next {
			sl := &s.list[id]
			room := sl.slots() - int(sl.used)
			fits := cl.slots-sl.slots()-cl.used >= cl.slots/8
			if (fits || len(sl.data) > next) && sl.used > 0 && room > most {
				best, most = id, room
			}
		}
		if best != 0 {
			return best
		}
	}
	return 0
}

// settle releases a slab that was closed to be emptied, or reopens it if a slot is still in use.
func (s *slabs) settle(id uint32) {
	s.reopen(id)
	if s.list[id].used == 0 {
		s.release(id)
	}
}

// each calls f for every slot of a slab that is not free.
func (s *slabs) each(id uint32, f func(ref, slot)) {
	sl := &s.list[id]
	for i := range ref(sl.fresh) {
		n := ref(id<<slotBits) + i
		if at := s.at(n); !at.is(free) {
			f(n, at)
		}
	}
}
