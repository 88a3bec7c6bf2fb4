package shardstore

import (
	"encoding/binary"

	"github.com/coatcheck/coatcheck"
)

// ref is the number of a slot within its shard; 0 is none. It stands where another store would have a pointer, so that
// the garbage collector finds nothing to follow however many sessions there are.
type ref uint32

// slot is the bytes of one slot. All that is known of a session stands in them:
//
//	 0  16  Key; of a mark, nothing
//	16   4  next and
//	20   4  previous slot in the same bucket of the wheel; of a free slot, the next free one
//	24   4  next and
//	28   4  previous session of the same user
//	32   2  bucket of the wheel
//	34   2  kind (upper two bits) and length of the payload
//	36      payload: the record of a session; when a tombstone goes; when a mark goes, the mark and its user
type slot []byte

const (
	offNext     = 16
	offPrev     = 20
	offNextUser = 24
	offPrevUser = 28
	offBucket   = 32
	offSize     = 34
	slotHead    = 36

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

func (s slot) key() coatcheck.Key { return coatcheck.Key(s[:offNext]) }

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

// ends returns when what stands in the slot is over, in Unix milliseconds.
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

// appendMark appends the payload of a mark.
func appendMark(b []byte, until int64, m coatcheck.Mark, user string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(until))
	b = binary.LittleEndian.AppendUint64(b, uint64(m))
	return append(b, user...)
}
