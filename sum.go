package coatcheck

import (
	"crypto/sha256"
)

// sum256 is sha256.Sum256 of a token. It runs with every request and takes 58 ns, where Sum256 takes 78: it lays out the one
// block that 32 bytes make (FIPS 180-4, section 5.1.1) itself, and reads the result out of the digest's marshaled state instead
// of having the digest copied, padded and finished. How Go marshals a digest is fixed, because other releases must read it,
// but not documented; so the program looks once, when it starts, whether this is so, and uses Sum256 where it is not.
// TestSum256 and FuzzSum256 hold the two together.
func sum256(b *[tokenBytes]byte) [sha256.Size]byte {
	if oneBlock {
		if sum, ok := sumOfBlock(b); ok {
			return sum
		}
	}
	return sha256.Sum256(b[:])
}

var oneBlock = func() bool {
	probe := [tokenBytes]byte{1, 2, 3, 0xff}
	sum, ok := sumOfBlock(&probe)
	return ok && sum == sha256.Sum256(probe[:])
}()

// stateOffset is where the eight words of the state stand: behind four bytes that name the kind of digest.
const stateOffset = 4

func sumOfBlock(b *[tokenBytes]byte) (sum [sha256.Size]byte, ok bool) {
	var block [sha256.BlockSize]byte
	copy(block[:], b[:])
	block[tokenBytes] = 0x80                    // the padding's one bit
	block[sha256.BlockSize-2] = tokenBytes >> 5 // the message's length in bits, 256, big-endian
	digest := sha256.New()
	marshaler, ok := digest.(interface {
		AppendBinary(b []byte) ([]byte, error)
	}) // encoding.BinaryAppender
	if !ok {
		return sum, false
	}
	if _, err := digest.Write(block[:]); err != nil {
		return sum, false
	}
	var space [128]byte
	state, err := marshaler.AppendBinary(space[:0])
	if err != nil || len(state) < stateOffset+len(sum) {
		return sum, false
	}
	copy(sum[:], state[stateOffset:])
	return sum, true
}
