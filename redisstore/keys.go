package redisstore

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/coatcheck/coatcheck"
)

// The kinds of keys; see the package comment.
const (
	kindRecord  = "}:s:"
	kindIndex   = "}:u:"
	kindMark    = "}:m:"
	kindReceipt = "}:r:"
)

// keyLen is how long a coatcheck.Key is as text.
const keyLen = 22

// key returns the Redis key of that kind and name.
func (s *Store) key(tag coatcheck.Tag, kind, name string) string {
	return string(append(s.keyPrefix(tag, kind, len(name)), name...))
}

// recordKey returns the Redis key of key's record. It must agree with cache.parse.
func (s *Store) recordKey(key coatcheck.Key) string {
	b, _ := key.AppendText(s.keyPrefix(key.Tag(), kindRecord, keyLen))
	return string(b)
}

func (s *Store) keyPrefix(tag coatcheck.Tag, kind string, more int) []byte {
	b := make([]byte, 0, len(s.prefix)+1+2*len(tag)+len(kind)+more)
	b = append(b, s.prefix...)
	b = append(b, '{')
	b = hex.AppendEncode(b, tag[:])
	return append(b, kind...)
}

// receiptKey returns a key that was never used before.
func (s *Store) receiptKey(tag coatcheck.Tag) string {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails since Go 1.24
	return s.key(tag, kindReceipt, base64.RawURLEncoding.EncodeToString(nonce[:]))
}

// userName is what stands for a user in keys.
func userName(user string) string {
	sum := sha256.Sum256([]byte(user))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// member is the index entry of a session.
func member(rec *coatcheck.Record) string {
	return fmt.Sprintf("%012x%s", rec.CreatedAt, rec.Key)
}
