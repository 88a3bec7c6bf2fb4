package coatcheck

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// PrevOpen is a Header.PrevUntil without end: the successor's token has not been presented yet.
const PrevOpen int64 = math.MaxInt64

// Header is the fixed part of a Record. Times are Unix milliseconds.
type Header struct {
	// Version starts at 1 and grows by one with each Swap.
	Version uint64
	// ID is the public name of the token that is current, PrevID of the one before it (zero: there was none).
	ID, PrevID ID
	// PrevUntil is when PrevID ceases to be admitted; PrevOpen until the current token was first presented.
	PrevUntil int64
	// RotatedAt is the time of the last rotation, or the creation.
	RotatedAt int64
	CreatedAt int64
	LastSeen  int64
	// The session ends at the earlier of the two.
	IdleExpiry, AbsoluteExpiry int64
}

// Record is what a store keeps of a session: a Header, the user, the client and the values. It owns the buffer that all
// of them stand in, so that reading one record after another into it does not allocate. The zero Record is ready for use.
// Slices that it returns are valid until the next Read or Write.
type Record struct {
	// Key is not part of the encoding: a store knows where it keeps a record.
	Key Key
	Header

	buf []byte
	body
}

// body is what a record has beside its Header. The slices are those of one buffer.
type body struct {
	user      []byte
	ip        []byte
	agent     []byte
	extension []byte // whole
	binding   binding
	values    []byte // without the reserved one
	reserved  []byte // the pair of reservedName, name and length included
}

// Bytes returns the record's encoding, which is what a store keeps.
func (r *Record) Bytes() []byte { return r.buf }

// User returns the user ID, empty for a session without a user.
func (r *Record) User() []byte { return r.user }

// UserID is User as a string of its own.
func (r *Record) UserID() string { return string(r.user) }

// IP returns the address of the client that began the session, the zero Addr if it is not known.
func (r *Record) IP() netip.Addr {
	addr, _ := netip.AddrFromSlice(r.ip)
	return addr
}

// LastIP returns the address of the client that SetLastIP noted last, or the address of IP if there is none.
func (r *Record) LastIP() netip.Addr {
	if len(r.reserved) == 0 {
		return r.IP()
	}
	addr, _ := netip.AddrFromSlice(r.reserved[reservedHead:])
	return addr
}

// SetLastIP notes, in a record that was written or read, where the session was last seen. The note takes up to 20 bytes of
// what the values leave of MaxValues; if they leave less, or if addr is the address of IP, the record holds no note. An addr
// that is not valid changes nothing.
func (r *Record) SetLastIP(addr netip.Addr) {
	addr = addr.Unmap().WithZone("")
	if len(r.buf) == 0 || !addr.IsValid() || addr == r.LastIP() {
		return
	}
	b := r.buf[:len(r.buf)-len(r.reserved)]
	size := addr.BitLen() / 8
	if addr != r.IP() && len(r.values)+reservedHead+size <= MaxValues {
		b = append(b, byte(len(reservedName)))
		b = append(b, reservedName...)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b, _ = addr.AppendBinary(b) // it returns no error
	}
	r.buf = b
	_ = r.parse() // it was a record before, and its bounds were kept
}

// UserAgent returns the user agent that began the session, as it was sent, cut to MaxUserAgent bytes.
func (r *Record) UserAgent() []byte { return r.agent }

// Expiry returns the earlier of the two expiries, in Unix milliseconds.
func (r *Record) Expiry() int64 { return min(r.IdleExpiry, r.AbsoluteExpiry) }

// Value returns the JSON of a session value. It is valid until the next Read or Write.
func (r *Record) Value(name string) ([]byte, bool) {
	value, _, _, ok := findValue(r.values, name)
	return value, ok
}
