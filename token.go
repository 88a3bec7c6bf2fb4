package coatcheck

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cespare/xxhash/v2"
)

const (
	// TokenLen is the length of a Token as the cookie carries it, in characters.
	TokenLen = 43

	// idLen is the length of a printed ID, Handle or Key, in characters.
	idLen = 22

	tokenBytes = 32
	keyBytes   = 16
	tagBytes   = 4
)

// encoding is unpadded base64url (RFC 4648, section 5) that refuses non-zero trailing bits, so that every token has
// exactly one spelling.
var encoding = base64.RawURLEncoding.Strict()

// Token is what the cookie carries: 32 bytes whose first half is the Key and whose second half is the secret. Possession of
// it gives access to the session, so no verb of package fmt (save %p, which vet refuses), slog or encoding/json prints it.
type Token struct{ b [tokenBytes]byte }

// NewToken returns a token for a new session: a fresh Key under tag, and a fresh secret, both from crypto/rand (ASVS 7.2.3).
func NewToken(tag Tag) Token {
	var t Token
	copy(t.b[:], tag[:])
	mustRead(t.b[tagBytes:])
	return t
}

// Rotated returns a token with the same Key and another secret.
func (t Token) Rotated() Token {
	mustRead(t.b[keyBytes:])
	return t
}

// mustRead fills b from crypto/rand, which since Go 1.24 ends the process rather than return an error: there is no
// second source to fall back to.
func mustRead(b []byte) {
	if _, err := rand.Read(b); err != nil {
		panic("coatcheck: crypto/rand failed: " + err.Error())
	}
}

// ParseToken reads a token in the one spelling that AppendText writes. Anything else, a shorter or longer text, padding,
// quotes, percent-encoding or stray trailing bits included, is not a token. It does not allocate.
//
// It runs with every request, so it is written out: 22 ns, where encoding/base64 takes 46. FuzzParseToken holds the two together.
func ParseToken(text []byte) (Token, bool) {
	var t Token
	if len(text) != TokenLen {
		return t, false
	}
	var seen byte // all sextets together: above 63 if any character is not of the alphabet
	in, out := (*[TokenLen]byte)(text), &t.b
	for i, j := 0, 0; i < TokenLen-3; i, j = i+4, j+3 {
		a, b, c, d := sextets[in[i]], sextets[in[i+1]], sextets[in[i+2]], sextets[in[i+3]]
		seen |= a | b | c | d
		out[j], out[j+1], out[j+2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
	}
	a, b, c := sextets[in[TokenLen-3]], sextets[in[TokenLen-2]], sextets[in[TokenLen-1]]
	seen |= a | b | c | c<<6 // the last two bits belong to no byte: zero
	out[tokenBytes-2], out[tokenBytes-1] = a<<2|b>>4, b<<4|c>>2
	if seen > 63 {
		return Token{}, false
	}
	return t, true
}

// sextets is what each character of base64url stands for, 255 for any other byte.
var sextets = func() (s [256]byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range s {
		s[i] = 255
	}
	for i := range len(alphabet) {
		s[alphabet[i]] = byte(i)
	}
	return s
}()

// AppendSecretText appends the 43 characters of the token to dst. It is meant for the Set-Cookie header and nothing else.
func (t Token) AppendSecretText(dst []byte) []byte { return encoding.AppendEncode(dst, t.b[:]) }

// Key returns the half of the token that names the record.
func (t Token) Key() Key { return Key(t.b[:keyBytes]) }

// ID returns the public name of this token: the first 16 bytes of its SHA-256.
func (t Token) ID() ID {
	sum := sha256.Sum256(t.b[:])
	return ID(sum[:keyBytes])
}

// Format keeps the token out of every fmt verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Token(secret)")) }

// LogValue keeps the token out of slog.
func (t Token) LogValue() slog.Value { return slog.StringValue("coatcheck.Token(secret)") }

// MarshalText refuses: a token is written by AppendSecretText only.
func (t Token) MarshalText() ([]byte, error) {
	return nil, errors.New("coatcheck: a Token is a secret and is not marshaled")
}

// Key names a session's record in the store for as long as the session lives; rotation does not change it and it is
// never used twice. It opens nothing without the secret. Its first four bytes are the Tag. The zero Key names no session.
type Key [keyBytes]byte

// Tag returns the part of the key that places it: the memory shard, the Redis hash tag.
func (k Key) Tag() Tag { return Tag(k[:tagBytes]) }

// IsZero reports whether the key names no session.
func (k Key) IsZero() bool { return k == Key{} }

// Handle returns the session's stable public name.
func (k Key) Handle() Handle {
	var b [len(handlePrefix) + keyBytes]byte
	copy(b[:], handlePrefix)
	copy(b[len(handlePrefix):], k[:])
	sum := sha256.Sum256(b[:])
	return Handle(sum[:keyBytes])
}

// AppendText appends the 22 base64url characters of the key to dst.
func (k Key) AppendText(dst []byte) ([]byte, error) { return encoding.AppendEncode(dst, k[:]), nil }

// String returns the 22 base64url characters of the key.
func (k Key) String() string { return encoding.EncodeToString(k[:]) }

// ParseKey reads what Key.String writes.
func ParseKey(text []byte) (Key, bool) {
	b, ok := parse16(text)
	return Key(b), ok
}

// Tag is the first four bytes of xxhash64 of the user ID, or random for a session without a user. It only decides the place:
// a user's sessions and their index stand in one shard and one Cluster slot. Collisions are easy to make, so every operation
// on a user compares the whole user ID.
type Tag [tagBytes]byte

// TagOf returns the tag of a user's sessions. For the empty user it is random.
func TagOf(user string) Tag {
	var t Tag
	if user == "" {
		mustRead(t[:])
		return t
	}
	sum := xxhash.Sum64String(user)
	return Tag{byte(sum >> 56), byte(sum >> 48), byte(sum >> 40), byte(sum >> 32)}
}

// String returns eight hex digits.
func (t Tag) String() string { return hex.EncodeToString(t[:]) }

// ID is the public session_id: the first 16 bytes of SHA-256 of the token. It is safe to show and to log, changes at every
// rotation, and authenticates no request. The zero ID is no ID.
type ID [keyBytes]byte

// AppendText appends the 22 base64url characters of the ID to dst.
func (id ID) AppendText(dst []byte) ([]byte, error) { return encoding.AppendEncode(dst, id[:]), nil }

// MarshalText returns the 22 base64url characters of the ID, so that encoding/json writes them.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// String returns the 22 base64url characters of the ID.
func (id ID) String() string { return encoding.EncodeToString(id[:]) }

// ParseID reads what ID.String writes.
func ParseID(text []byte) (ID, bool) {
	b, ok := parse16(text)
	return ID(b), ok
}

const handlePrefix = "handle"

// Handle is a public name of a session that, unlike its ID, stays the same for the session's life.
type Handle [keyBytes]byte

// MarshalText returns the 22 base64url characters of the handle, so that encoding/json writes them.
func (h Handle) MarshalText() ([]byte, error) { return encoding.AppendEncode(nil, h[:]), nil }

// String returns the 22 base64url characters of the handle.
func (h Handle) String() string { return encoding.EncodeToString(h[:]) }

func parse16(text []byte) (b [keyBytes]byte, ok bool) {
	if len(text) != idLen {
		return b, false
	}
	// DecodedLen(22) is 16, so hostile text cannot write past b.
	n, err := encoding.Decode(b[:], text)
	return b, err == nil && n == keyBytes
}
