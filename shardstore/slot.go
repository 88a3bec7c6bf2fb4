package shardstore

import (
	"encoding/binary"

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
//	        not known; in every other slot 0
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
