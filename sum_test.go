package coatcheck

import (
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The short way and the plain one are the same, and on this release of Go the short one is taken.
func TestSum256(t *testing.T) {
	assert.True(t, oneBlock, "Go marshals a digest otherwise: sum256 is as slow as Sum256, see sum.go")
	for range 10_000 {
		b := NewToken(TagOf("u")).b
		short, ok := sumOfBlock(&b)
		assert.True(t, ok)
		assert.Equal(t, sha256.Sum256(b[:]), short)
		assert.Equal(t, sha256.Sum256(b[:]), sum256(&b))
	}
}

func FuzzSum256(f *testing.F) {
	f.Add(make([]byte, tokenBytes))
	f.Fuzz(func(t *testing.T, in []byte) {
		var b [tokenBytes]byte
		copy(b[:], in)
		if got := sum256(&b); got != sha256.Sum256(b[:]) {
			t.Fatalf("%x: %x", b, got)
		}
	})
}
