package coatcheck

import (
	"math"
	"net/netip"
	"time"
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

	buf    []byte
	user   []byte
	ip     []byte
	agent  []byte
	values []byte
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

// UserAgent returns the user agent that began the session, as it was sent, cut to MaxUserAgent bytes.
func (r *Record) UserAgent() []byte { return r.agent }

// Lives reports whether the session is within both of its expiries.
func (r *Record) Lives(now time.Time) bool {
	ms := now.UnixMilli()
	return ms < r.IdleExpiry && ms < r.AbsoluteExpiry
}

// Expiry returns the earlier of the two expiries, in Unix milliseconds.
func (r *Record) Expiry() int64 { return min(r.IdleExpiry, r.AbsoluteExpiry) }
