package coatcheck

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// The encoding of a record, all integers big-endian:
//
//	 0   1  0xC0 plus the codec version, so that text is never taken for a record of a later release;
//	        0xC0 itself is a tombstone, which has no further bytes
//	 1   8  record version: what Swap compares
//	 9  16  ID
//	25  16  previous ID, zero for none
//	41   8  previous ID admitted until     (all times: Unix milliseconds)
//	49   8  last rotation
//	57   8  created
//	65   8  last seen
//	73   8  idle expiry
//	81   8  absolute expiry
//	89      2-byte length and user ID
//	        1-byte length and IP address (0, 4 or 16 bytes)
//	        2-byte length and user agent
//	        values to the end: 1-byte length and name, 2-byte length and JSON; names strictly ascending
const (
	codecMark    = 0xC0
	codecVersion = 1
	headerBytes  = 89

	offVersion   = 1
	offID        = 9
	offPrevID    = 25
	offPrevUntil = 41
	offRotated   = 49
	offCreated   = 57
	offSeen      = 65
	offIdle      = 73
	offAbsolute  = 81
)

// Bounds of a record. They add up to less than MaxRecord.
const (
	// MaxRecord is the most bytes that a record's encoding has.
	MaxRecord = 4096
	// MaxValues is the most bytes that a session's values take, names and three bytes for each included.
	MaxValues = 3072
	// MaxName is the longest name of a value, in bytes.
	MaxName = 255
	// MaxUserID is the longest user ID, in bytes.
	MaxUserID = 256
	// MaxUserAgent is how much of a user agent is kept, in bytes.
	MaxUserAgent = 256
)

// Encoded is a record's encoding as a store keeps it. Its methods read one thing without the rest, and allocate nothing;
// of bytes that are shorter than a record, a tombstone's included, each returns the zero value.
type Encoded []byte

// Tombstone returns what a store may keep in the place of a session that was ended. Record.Read answers it with ErrEnded.
func Tombstone() Encoded { return Encoded{codecMark} }

// IsTombstone reports whether b is a tombstone.
func (b Encoded) IsTombstone() bool { return len(b) == 1 && b[0] == codecMark }

// Version returns the record version, which Swap compares.
func (b Encoded) Version() uint64 {
	if len(b) < headerBytes {
		return 0
	}
	return binary.BigEndian.Uint64(b[offVersion:])
}

// Expiry returns the earlier of the two expiries, in Unix milliseconds.
func (b Encoded) Expiry() int64 {
	if len(b) < headerBytes {
		return 0
	}
	return min(readTime(b, offIdle), readTime(b, offAbsolute))
}

// IdleFirst reports whether the idle expiry comes before the absolute one; it does not where the two are equal.
func (b Encoded) IdleFirst() bool {
	return len(b) >= headerBytes && readTime(b, offIdle) < readTime(b, offAbsolute)
}

// Created returns when the session was created, in Unix milliseconds.
func (b Encoded) Created() int64 {
	if len(b) < headerBytes {
		return 0
	}
	return readTime(b, offCreated)
}

// User returns the user ID, which stands within b; empty where the session has no user.
func (b Encoded) User() []byte {
	if len(b) < headerBytes {
		return nil
	}
	user, _, _ := cut16(b[headerBytes:])
	return user
}

// Write makes r the record of these parts and encodes it. The slices are copied and may be those of another record, not
// those of r itself. Parts beyond their bounds are ErrTooLarge.
func (r *Record) Write(key Key, h Header, user, ip, agent, values []byte) error {
	switch {
	case len(user) > MaxUserID:
		return fmt.Errorf("user ID of %d bytes: %w (at most %d)", len(user), ErrTooLarge, MaxUserID)
	case len(ip) > 16: // its length has one byte
		return fmt.Errorf("IP address of %d bytes: %w", len(ip), ErrTooLarge)
	case len(agent) > MaxUserAgent:
		return fmt.Errorf("user agent of %d bytes: %w (at most %d)", len(agent), ErrTooLarge, MaxUserAgent)
	case len(values) > MaxValues:
		return fmt.Errorf("values of %d bytes: %w (at most %d)", len(values), ErrTooLarge, MaxValues)
	}
	b := r.buf[:0]
	b = append(b, codecMark+codecVersion)
	b = binary.BigEndian.AppendUint64(b, h.Version)
	b = append(b, h.ID[:]...)
	b = append(b, h.PrevID[:]...)
	for _, ms := range [...]int64{h.PrevUntil, h.RotatedAt, h.CreatedAt, h.LastSeen, h.IdleExpiry, h.AbsoluteExpiry} {
		b = binary.BigEndian.AppendUint64(b, uint64(ms))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(user)))
	b = append(b, user...)
	b = append(b, byte(len(ip)))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(agent)))
	b = append(b, agent...)
	b = append(b, values...)
	r.Key, r.buf = key, b
	return r.parse()
}

// Read makes r the record encoded in b, which it copies. Hostile bytes cost no more memory than their own length.
//
// ErrEnded: b is a tombstone. ErrNewer: b was written by a later release. ErrDamaged: b is not a record.
func (r *Record) Read(key Key, b []byte) error {
	r.Key = key
	r.buf = append(r.buf[:0], b...)
	return r.parse()
}

func (r *Record) parse() error {
	b := r.buf
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: no bytes", ErrDamaged)
	case b[0] > codecMark+codecVersion && b[0] <= codecMark+0xF:
		return fmt.Errorf("%w: codec version %d, this release reads up to %d", ErrNewer, b[0]-codecMark, codecVersion)
	case Encoded(b).IsTombstone():
		return ErrEnded
	case b[0] != codecMark+codecVersion || len(b) < headerBytes || len(b) > MaxRecord:
		return fmt.Errorf("%w: %d bytes that begin with %#x", ErrDamaged, len(b), b[0])
	}
	r.Header = Header{
		Version:        binary.BigEndian.Uint64(b[offVersion:]),
		ID:             ID(b[offID:]),
		PrevID:         ID(b[offPrevID:]),
		PrevUntil:      readTime(b, offPrevUntil),
		RotatedAt:      readTime(b, offRotated),
		CreatedAt:      readTime(b, offCreated),
		LastSeen:       readTime(b, offSeen),
		IdleExpiry:     readTime(b, offIdle),
		AbsoluteExpiry: readTime(b, offAbsolute),
	}
	rest := b[headerBytes:]
	var ok [3]bool
	r.user, rest, ok[0] = cut16(rest)
	r.ip, rest, ok[1] = cut8(rest)
	r.agent, rest, ok[2] = cut16(rest)
	r.values = rest
	switch {
	case !ok[0] || !ok[1] || !ok[2]:
		return fmt.Errorf("%w: it ends early", ErrDamaged)
	case r.Version == 0 || r.ID == (ID{}):
		return fmt.Errorf("%w: no version or no ID", ErrDamaged)
	case len(r.user) > MaxUserID || len(r.agent) > MaxUserAgent:
		return fmt.Errorf("%w: user ID of %d bytes, user agent of %d", ErrDamaged, len(r.user), len(r.agent))
	case len(r.ip) != 0 && len(r.ip) != 4 && len(r.ip) != 16:
		return fmt.Errorf("%w: IP address of %d bytes", ErrDamaged, len(r.ip))
	case !validValues(r.values):
		return fmt.Errorf("%w: values", ErrDamaged)
	}
	return nil
}

func readTime(b []byte, off int) int64 { return int64(binary.BigEndian.Uint64(b[off:])) }

func cut8(b []byte) (head, rest []byte, ok bool) {
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}

func cut16(b []byte) (head, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}

// A block of values is the tail of a record's encoding: pairs of name and JSON in ascending order of names. The functions
// below read and edit such a block; nothing else knows its form.

func validValues(block []byte) bool {
	if len(block) > MaxValues {
		return false
	}
	var last []byte
	for len(block) > 0 {
		name, _, rest, ok := cutValue(block)
		if !ok || len(name) == 0 || (last != nil && bytes.Compare(last, name) >= 0) {
			return false
		}
		last, block = name, rest
	}
	return true
}

func cutValue(block []byte) (name, value, rest []byte, ok bool) {
	if name, rest, ok = cut8(block); !ok {
		return nil, nil, nil, false
	}
	value, rest, ok = cut16(rest)
	return name, value, rest, ok
}

// findValue returns the JSON of a name, and where its pair starts and ends; for an absent name, where it belongs.
func findValue(block []byte, name string) (value []byte, start, end int, found bool) {
	for start < len(block) {
		n, v, rest, ok := cutValue(block[start:])
		if !ok {
			return nil, start, start, false
		}
		end = len(block) - len(rest)
		switch {
		case string(n) == name:
			return v, start, end, true
		case string(n) > name:
			return nil, start, start, false
		}
		start = end
	}
	return nil, start, start, false
}

// setValue returns block with name set to value, edited in place where the capacity allows. A nil value removes the name.
func setValue(block []byte, name string, value []byte) ([]byte, error) {
	_, start, end, _ := findValue(block, name)
	pair := 0
	if value != nil {
		pair = 3 + len(name) + len(value)
	}
	size := len(block) - (end - start) + pair
	switch {
	case name == "" || len(name) > MaxName || !utf8.ValidString(name):
		return block, fmt.Errorf("value name %.40q of %d bytes: %w", name, len(name), ErrName)
	case value != nil && size > MaxValues:
		return block, fmt.Errorf("value %.40q: %w: the session's values would take %d bytes of at most %d", name, ErrTooLarge, size, MaxValues)
	}
	tail := append([]byte(nil), block[end:]...)
	block = block[:start]
	if value != nil {
		block = append(block, byte(len(name)))
		block = append(block, name...)
		block = binary.BigEndian.AppendUint16(block, uint16(len(value)))
		block = append(block, value...)
	}
	return append(block, tail...), nil
}
