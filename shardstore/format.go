package shardstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/coatcheck/coatcheck"
)

// Journal and snapshot have one format, all integers little-endian. A file begins with
//
//	 0  8  journalMagic or snapshotMagic, whose last character is the version of the format
//	 8  8  generation
//	16  4  CRC-32C of the 16 bytes before
//
// and goes on with frames: 4-byte length of the payload, 4-byte CRC-32C of that length and the payload, payload. A frame is
// written whole or not at all, so changes that belong together stand in one. The payload is a sequence of entries, each a
// letter and its fields:
//
//	P  key, 2-byte length, record          a session was created or changed
//	E  key, 8-byte time                    a session ended, and its tombstone stands until that time
//	M  8-byte time, 8-byte mark, 2-byte length, user   a mark was left, and stands until that time
//	D  8-byte offset                       all that stands before the offset in this file, and all older files, were synced
//	F  8-byte count                        the snapshot is whole and holds that many sessions
//
// Entries need no order: a Key is never used twice, so an end wins over everything, and otherwise the higher version wins.
// A codec that moves the version, the expiries or the user of a record needs another version here. Version 2 of the codec
// moves none of them, so the release before it reads these files too.
const (
	journalMagic  = "ccheckJ1"
	snapshotMagic = "ccheckS1"

	fileHead  = 20
	frameHead = 8

	// maxFrame bounds how much a damaged length makes a reader look at. The largest frame ends all sessions of a user.
	maxFrame = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileHeadOf(magic string, generation uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte(magic), generation)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// appendFrame appends a frame with that payload.
func appendFrame(b, payload []byte) []byte {
	at := len(b)
	b = append(append(b, make([]byte, frameHead)...), payload...)
	sealFrame(b[at:])
	return b
}

// sealFrame fills in the head of a frame, which is everything that b holds.
func sealFrame(b []byte) {
	payload := b[frameHead:]
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[4:], frameSum(b[:4], payload))
}

func frameSum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

func appendPut(b []byte, key coatcheck.Key, record []byte) []byte {
	b = append(append(b, 'P'), key[:]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(record)))
	return append(b, record...)
}

func appendEnd(b []byte, key coatcheck.Key, until int64) []byte {
	b = append(append(b, 'E'), key[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(until))
}

func appendMarkEntry(b []byte, until int64, m coatcheck.Mark, user []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, 'M'), uint64(until))
	b = binary.LittleEndian.AppendUint64(b, uint64(m))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(user)))
	return append(b, user...)
}

// numberEntry returns a D or an F.
func numberEntry(letter byte, n uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{letter}, n)
}

// entry is one entry of a frame. Fields that its kind does not have are zero; its slices point into the payload.
type entry struct {
	letter byte
	key    coatcheck.Key
	record []byte
	until  int64
	mark   coatcheck.Mark
	user   []byte
	number uint64
}

var errEntry = errors.New("not an entry")

// cutEntry reads the first entry of a payload. It checks what a shard relies upon, not what Record.Read checks.
func cutEntry(b []byte) (e entry, rest []byte, err error) {
	c := decoder{rest: b}
	e.letter = c.bytes(1)[0]
	switch e.letter {
	case 'P':
		copy(e.key[:], c.bytes(len(e.key)))
		e.record = c.bytes(int(c.number(2)))
		if !c.short {
			err = checkStored(e.key, e.record)
		}
	case 'E':
		copy(e.key[:], c.bytes(len(e.key)))
		e.until = int64(c.number(8))
	case 'M':
		e.until = int64(c.number(8))
		e.mark = coatcheck.Mark(c.number(8))
		e.user = c.bytes(int(c.number(2)))
		if len(e.user) == 0 || len(e.user) > coatcheck.MaxUserID {
			err = fmt.Errorf("%w: a mark of a user of %d bytes", errEntry, len(e.user))
		}
	case 'D', 'F':
		e.number = c.number(8)
	default:
		err = fmt.Errorf("%w: it begins with %#x", errEntry, e.letter)
	}
	if c.short {
		err = fmt.Errorf("%w: it ends early", errEntry)
	}
	return e, c.rest, err
}

// checkStored refuses a record that a shard could not index.
func checkStored(key coatcheck.Key, b []byte) error {
	switch user := coatcheck.Encoded(b).User(); {
	case len(b) > coatcheck.MaxRecord || coatcheck.Encoded(b).Version() == 0:
		return fmt.Errorf("%w: a record of %d bytes", errEntry, len(b))
	case len(user) > coatcheck.MaxUserID:
		return fmt.Errorf("%w: a user of %d bytes", errEntry, len(user))
	case len(user) > 0 && key.Tag() != coatcheck.TagOf(string(user)):
		return fmt.Errorf("%w: a key whose tag is not its user's", errEntry)
	default:
		return nil
	}
}

// decoder reads from the front of bytes. Once the bytes run out it returns zeros, so that one check at the end is enough.
type decoder struct {
	rest  []byte
	short bool
}

func (c *decoder) bytes(n int) []byte {
	if c.short || n > len(c.rest) {
		c.short, c.rest = true, nil
		return make([]byte, min(n, 1<<16))
	}
	head := c.rest[:n:n]
	c.rest = c.rest[n:]
	return head
}

func (c *decoder) number(size int) uint64 {
	var b [8]byte
	copy(b[:], c.bytes(size))
	return binary.LittleEndian.Uint64(b[:])
}
