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
//	        in version 2 only: 2-byte length and extension
//	        values to the end: 1-byte length and name, 2-byte length and JSON; names strictly ascending
//
// Version 2 is version 1 with an extension: parts of a 1-byte kind, a 2-byte length and that many bytes, their kinds strictly
// ascending. This release knows the part in binding.go, and a release keeps the parts that it does not know. It writes version 2 only where the extension is not empty, so
// that the release before this one, which reads version 1 only, can be run beside it and again in its place.
//
// Among the values, reservedName belongs to the codec and is hidden from the application. It holds the IP address (4 or 16
// bytes) where the session was last seen, if that differs from the address where it began. It is not in the extension,
// because the release before this one must read, keep and rotate such a record like any other.
const (
	codecMark       = 0xC0
	plainVersion    = 1
	extendedVersion = 2
	headerBytes     = 89

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

// reservedName is not UTF-8, so setValue refuses it, and it sorts after every name that is.
const (
	reservedName = "\xFF"
	reservedHead = 4 // of its pair: the bytes before the address
)

// Bounds of a record. Together with maxExtension they add up to MaxRecord.
const (
	// MaxRecord is the largest size of a record's encoding, in bytes.
	MaxRecord = 4096
	// MaxValues is the largest size of a session's values, in bytes, including names and three bytes for each value.
	MaxValues = 3072
	// MaxName is the longest name of a value, in bytes.
	MaxName = 255
	// MaxUserID is the longest user ID, in bytes.
	MaxUserID = 256
	// MaxUserAgent is how much of a user agent is kept, in bytes.
	MaxUserAgent = 256

	maxExtension = 400
)

// Encoded is a record's encoding as a store keeps it. Its methods read one field without decoding the rest, and allocate
// nothing; each returns the zero value for bytes that are shorter than a record, a tombstone included.
type Encoded []byte

// Tombstone returns what a store may keep in place of a session that was ended. Record.Read returns ErrEnded for it.
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

// User returns the user ID as a part of b; empty if the session has no user.
func (b Encoded) User() []byte {
	if len(b) < headerBytes {
		return nil
	}
	user, _, _ := cut16(b[headerBytes:])
	return user
}

// Write makes r the record of these parts and encodes it. The slices are copied; they may belong to another record, but not
// to r itself. Parts beyond their bounds are ErrTooLarge.
func (r *Record) Write(key Key, h Header, user, ip, agent, values []byte) error {
	return r.encode(key, h, body{user: user, ip: ip, agent: agent, values: values})
}

// Rewrite makes r the successor of old, which must be another Record: with the given Header and values, which may be old's,
// and with everything else unchanged, the extension byte for byte. Values beyond their bound are ErrTooLarge.
func (r *Record) Rewrite(old *Record, h Header, values []byte) error {
	return r.rewrite(old, h, values, old.extension)
}

// rewrite is Rewrite with another extension.
func (r *Record) rewrite(old *Record, h Header, values, extension []byte) error {
	kept := old.body
	kept.values, kept.extension = values, extension
	return r.encode(old.Key, h, kept)
}

func (r *Record) encode(key Key, h Header, p body) error {
	switch {
	case len(p.user) > MaxUserID:
		return fmt.Errorf("user ID of %d bytes: %w (at most %d)", len(p.user), ErrTooLarge, MaxUserID)
	case len(p.ip) > 16: // its length has one byte
		return fmt.Errorf("IP address of %d bytes: %w", len(p.ip), ErrTooLarge)
	case len(p.agent) > MaxUserAgent:
		return fmt.Errorf("user agent of %d bytes: %w (at most %d)", len(p.agent), ErrTooLarge, MaxUserAgent)
	case len(p.values) > MaxValues:
		return fmt.Errorf("values of %d bytes: %w (at most %d)", len(p.values), ErrTooLarge, MaxValues)
	}
	b := r.buf[:0]
	b = append(b, codecMark+plainVersion)
	b = binary.BigEndian.AppendUint64(b, h.Version)
	b = append(b, h.ID[:]...)
	b = append(b, h.PrevID[:]...)
	for _, ms := range [...]int64{h.PrevUntil, h.RotatedAt, h.CreatedAt, h.LastSeen, h.IdleExpiry, h.AbsoluteExpiry} {
		b = binary.BigEndian.AppendUint64(b, uint64(ms))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.user)))
	b = append(b, p.user...)
	b = append(b, byte(len(p.ip)))
	b = append(b, p.ip...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.agent)))
	b = append(b, p.agent...)
	if len(p.extension) > 0 {
		b[0] = codecMark + extendedVersion
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.extension)))
		b = append(b, p.extension...)
	}
	b = append(b, p.values...)
	if len(p.values)+len(p.reserved) <= MaxValues { // an application's values take precedence over the codec's own
		b = append(b, p.reserved...)
	}
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
	case b[0] > codecMark+extendedVersion && b[0] <= codecMark+0xF:
		return fmt.Errorf("%w: codec version %d, this release reads up to %d", ErrNewer, b[0]-codecMark, extendedVersion)
	case Encoded(b).IsTombstone():
		return ErrEnded
	case b[0] < codecMark+plainVersion || b[0] > codecMark+extendedVersion || len(b) < headerBytes || len(b) > MaxRecord:
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
	ok := [...]bool{3: true}
	r.user, rest, ok[0] = cut16(rest)
	r.ip, rest, ok[1] = cut8(rest)
	r.agent, rest, ok[2] = cut16(rest)
	r.extension, r.binding = nil, nil
	validParts := true
	if b[0] == codecMark+extendedVersion {
		if r.extension, rest, ok[3] = cut16(rest); ok[3] {
			r.binding, validParts = splitExtension(r.extension)
		}
	}
	var valid bool
	r.values, r.reserved, valid = splitValues(rest)
	switch {
	case !ok[0] || !ok[1] || !ok[2] || !ok[3]:
		return fmt.Errorf("%w: it ends early", ErrDamaged)
	case r.Version == 0 || r.ID == (ID{}):
		return fmt.Errorf("%w: no version or no ID", ErrDamaged)
	case len(r.user) > MaxUserID || len(r.agent) > MaxUserAgent:
		return fmt.Errorf("%w: user ID of %d bytes, user agent of %d", ErrDamaged, len(r.user), len(r.agent))
	case len(r.ip) != 0 && len(r.ip) != 4 && len(r.ip) != 16:
		return fmt.Errorf("%w: IP address of %d bytes", ErrDamaged, len(r.ip))
	case !validParts:
		return fmt.Errorf("%w: extension of %d bytes", ErrDamaged, len(r.extension))
	case !valid:
		return fmt.Errorf("%w: values", ErrDamaged)
	}
	return nil
}

// splitExtension returns the part of the extension that this release knows, nil if it is absent.
func splitExtension(b []byte) (known binding, ok bool) {
	if len(b) > maxExtension {
		return nil, false
	}
	for last := -1; len(b) > 0; {
		kind := int(b[0])
		content, rest, ok := cut16(b[1:])
		if !ok || kind <= last {
			return nil, false
		}
		if kind == bindingKind {
			known = content
			if !known.valid() {
				return nil, false
			}
		}
		last, b = kind, rest
	}
	return known, true
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

// A block of values stands near the end of a record's encoding: pairs of name and JSON in ascending order of names. Only the
// functions below know its form.

// splitValues separates an application's values, as a block, from the pair of reservedName behind them.
func splitValues(all []byte) (block, reserved []byte, ok bool) {
	if len(all) > MaxValues {
		return nil, nil, false
	}
	var last []byte
	for rest := all; len(rest) > 0; {
		name, value, more, ok := cutValue(rest)
		switch {
		case !ok || len(name) == 0 || (last != nil && bytes.Compare(last, name) >= 0):
			return nil, nil, false
		case string(name) == reservedName:
			n := len(all) - len(rest)
			return all[:n:n], rest, len(more) == 0 && (len(value) == 4 || len(value) == 16)
		}
		last, rest = name, more
	}
	return all, nil, true
}

func cutValue(block []byte) (name, value, rest []byte, ok bool) {
	if name, rest, ok = cut8(block); !ok {
		return nil, nil, nil, false
	}
	value, rest, ok = cut16(rest)
	return name, value, rest, ok
}

// findValue returns the JSON of a name, and where its pair starts and ends; for an absent name, where it would be inserted.
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

// setValue returns block with name set to value, edited in place where the capacity allows. A nil value removes the name. The
// block may take so many bytes, unless a value is removed.
func setValue(block []byte, name string, value []byte, limit int) ([]byte, error) {
	_, start, end, _ := findValue(block, name)
	pair := 0
	if value != nil {
		pair = 3 + len(name) + len(value)
	}
	size := len(block) - (end - start) + pair
	switch {
	case name == "" || len(name) > MaxName || !utf8.ValidString(name):
		return block, fmt.Errorf("value name %.40q of %d bytes: %w", name, len(name), ErrName)
	case value != nil && (size > limit || len(value) > MaxValues):
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
