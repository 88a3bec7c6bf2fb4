package coatcheck

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"time"
)

// Algorithm is how a device signs its proofs.
type Algorithm byte

// The algorithms of proofs (RFC 7518, section 3.1).
const (
	// ES256 is ECDSA with P-256 and SHA-256.
	ES256 Algorithm = 1
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256.
	RS256 Algorithm = 2
)

// KeySize returns the number of bytes of a PublicKey of this algorithm, 0 for an unknown algorithm.
func (a Algorithm) KeySize() int {
	switch a {
	case ES256:
		return 33
	case RS256:
		return 256
	default:
		return 0
	}
}

// PublicKey is the key of a device. For ES256 its bytes are the compressed point (SEC 1, section 2.3.3), for RS256 the modulus
// of 2048 bits, whose exponent is 65537.
type PublicKey struct {
	Algorithm Algorithm
	Bytes     []byte
}

// Equal reports whether two keys are the same.
func (k PublicKey) Equal(other PublicKey) bool {
	return k.Algorithm == other.Algorithm && bytes.Equal(k.Bytes, other.Bytes)
}

// Challenge is what a device must sign next. It is random, and it is no secret.
type Challenge [16]byte

func newChallenge() Challenge {
	var c Challenge
	mustRead(c[:])
	return c
}

// Equal compares two challenges in constant time.
func (c Challenge) Equal(other Challenge) bool {
	return subtle.ConstantTimeCompare(c[:], other[:]) == 1
}

// AppendText appends the 22 base64url characters of the challenge to dst.
func (c Challenge) AppendText(dst []byte) ([]byte, error) {
	return encoding.AppendEncode(dst, c[:]), nil
}

// ParseChallenge reads what Challenge.AppendText writes.
func ParseChallenge(text []byte) (Challenge, bool) {
	b, ok := parse16(text)
	return Challenge(b), ok
}

// A binding is the part of a record's extension that says to which device the session is bound:
//
//	 0   1  the algorithm, 0 for a session that a device may still be bound to; plus boundUsed
//	 1  16  the challenge that the device must sign next
//	    with an algorithm also:
//	17   8  time of the last proof, Unix milliseconds
//	25      the public key, whose size follows from the algorithm
//	        unless boundUsed: 16 bytes, the challenge that the device was bound with
type binding []byte

const (
	bindingKind = 1 // of its part of the extension

	// boundUsed says that the bound token was presented, or that the device has proved its key again: the browser has accepted
	// the binding.
	boundUsed = 0x80

	offChallenge = 1
	offProved    = 17
	offPublicKey = 25
)

func (b binding) valid() bool {
	if len(b) < offProved {
		return false
	}
	if b[0] == 0 {
		return len(b) == offProved
	}
	size := b.algorithm().KeySize()
	want := offPublicKey + size
	if !b.used() {
		want += len(Challenge{})
	}
	return size > 0 && len(b) == want
}

func (b binding) algorithm() Algorithm { return Algorithm(b[0] &^ boundUsed) }
func (b binding) used() bool           { return b[0]&boundUsed != 0 }
func (b binding) bound() bool          { return len(b) > 0 && b.algorithm() != 0 }
func (b binding) challenge() Challenge { return Challenge(b[offChallenge:offProved]) }
func (b binding) provedAt() int64      { return readTime(b, offProved) }

// key returns the public key of a binding that is bound. Its bytes are those of the record.
func (b binding) key() PublicKey {
	alg := b.algorithm()
	return PublicKey{alg, b[offPublicKey : offPublicKey+alg.KeySize()]}
}

// boundWith returns the challenge that the device was bound with, as long as the binding was not used.
func (b binding) boundWith() Challenge { return Challenge(b[len(b)-len(Challenge{}):]) }

// Bound reports whether the session is bound to a device.
func (r *Record) Bound() bool { return r.binding.bound() }

// unconfirmed reports whether the session is bound, but the browser has not shown yet that it accepted the binding.
func (r *Record) unconfirmed() bool { return r.binding.bound() && !r.binding.used() }

// ProvedAt returns when the device that the session is bound to last proved its key; the zero time for an unbound session.
func (r *Record) ProvedAt() time.Time {
	if !r.Bound() {
		return time.Time{}
	}
	return time.UnixMilli(r.binding.provedAt())
}

// appendOffer appends the extension of a session that a device may be bound to.
func appendOffer(dst []byte, c Challenge) []byte {
	dst = appendPartHead(dst, offProved)
	return append(append(dst, 0), c[:]...)
}

// bindingOf describes the binding that appendBinding writes. A zero boundWith means that the binding was used.
type bindingOf struct {
	key       PublicKey
	next      Challenge
	provedAt  int64
	boundWith *Challenge
}

// appendBinding appends the extension of r with its binding replaced. The other parts are kept.
func (r *Record) appendBinding(dst []byte, n bindingOf) []byte {
	before, after := r.besideBinding()
	dst = append(dst, before...)
	size, state := offPublicKey+len(n.key.Bytes), byte(n.key.Algorithm)
	if n.boundWith == nil {
		state |= boundUsed
	} else {
		size += len(n.boundWith)
	}
	dst = appendPartHead(dst, size)
	dst = append(append(dst, state), n.next[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(n.provedAt))
	dst = append(dst, n.key.Bytes...)
	if n.boundWith != nil {
		dst = append(dst, n.boundWith[:]...)
	}
	return append(dst, after...)
}

// appendConfirmed appends the extension of r, whose session is bound, with the note that the binding was used.
func (r *Record) appendConfirmed(dst []byte) []byte {
	b := r.binding
	return r.appendBinding(dst, bindingOf{key: b.key(), next: b.challenge(), provedAt: b.provedAt()})
}

// besideBinding returns the parts of the extension before and after the binding.
func (r *Record) besideBinding() (before, after []byte) {
	rest := r.extension
	for len(rest) > 0 && rest[0] < bindingKind {
		_, rest, _ = cut16(rest[1:])
	}
	before = r.extension[:len(r.extension)-len(rest)]
	if len(r.binding) > 0 {
		_, rest, _ = cut16(rest[1:])
	}
	return before, rest
}

func appendPartHead(dst []byte, size int) []byte {
	return binary.BigEndian.AppendUint16(append(dst, bindingKind), uint16(size))
}
