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
// and goes on with frames: 4-byte length of the payload, 4-byte CRC-32C of that length and the payload, payload. A frame
// is written whole or not at all, so what must not come apart stands in one. The payload is a row of entries, each a
// letter and what belongs to it:
//
//	P  key, 2-byte length, record          a session was created or changed
//	E  key, 8-byte time                    a session ended, and its tombstone goes then
//	M  8-byte time, 8-byte mark, 2-byte length, user   a mark was left, and goes then
//	D  8-byte offset                       what stands before it in this file was synced (and all older files)
//	F  8-byte count                        a snapshot is whole, with so many sessions
//
// Entries need no order: a Key is never used twice, so an end beats everything and else the higher version wins.
// A codec that moves the version, the expiries or the user of a record needs another version here. Version 2 of the codec
// moves none of them, so the release before it reads these files too.
const (
	journalMagic  = "ccheckJ1"
	snapshotMagic = "ccheckS1"

	fileHead  = 20
	frameHead = 8

	// maxFrame bounds what a damaged length makes a reader look at. The largest frame is the end of all sessions of a user.
	maxFrame = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileHeadOf(magic string, generation uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte(magic), generation)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// appendFrame appends a frame with that payload.
func appendFrame(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, frameSum(b[len(b)-4:], payload))
	return append(b, payload...)
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

func appendLeave(b []byte, until int64, m coatcheck.Mark, user []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, 'M'), uint64(until))
	b = binary.LittleEndian.AppendUint64(b, uint64(m))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(user)))
	return append(b, user...)
}

// numberEntry is a D or an F.
func numberEntry(letter byte, n uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{letter}, n)
}

// entry is one of a frame's. What it does not have is zero; its slices are the payload's.
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
	c := cutter{rest: b}
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

// cutter reads from the front of bytes. Once they are too short it goes on with zeros, so that one look at the end does.
type cutter struct {
	rest  []byte
	short bool
}

func (c *cutter) bytes(n int) []byte {
	if c.short || n > len(c.rest) {
		c.short, c.rest = true, nil
		return make([]byte, min(n, 1<<16))
	}
	head := c.rest[:n:n]
	c.rest = c.rest[n:]
	return head
}

func (c *cutter) number(size int) uint64 {
	var b [8]byte
	copy(b[:], c.bytes(size))
	return binary.LittleEndian.Uint64(b[:])
}
