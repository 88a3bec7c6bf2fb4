package httpcontract

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/stretchr/testify/require"
)

// RawToken decodes a token without the package under test.
func (h *Harness) RawToken(token string) []byte {
	h.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(h, err)
	require.Len(h, raw, 32)
	return raw
}

// Canonical decodes and encodes a token.
func (h *Harness) Canonical(token string) string {
	h.Helper()
	return base64.RawURLEncoding.EncodeToString(h.RawToken(token))
}

// IDOf returns the session_id that the contract gives a token.
func (h *Harness) IDOf(token string) string {
	h.Helper()
	sum := sha256.Sum256(h.RawToken(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// HandleOf returns the handle that the contract gives a token's session.
func (h *Harness) HandleOf(token string) string {
	h.Helper()
	sum := sha256.Sum256(append([]byte("handle"), h.RawToken(token)[:16]...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// WrongSecret returns a token of the same session with another secret.
func (h *Harness) WrongSecret(token string) string {
	h.Helper()
	raw := h.RawToken(token)
	raw[31] ^= 1
	return base64.RawURLEncoding.EncodeToString(raw)
}

// MadeUp returns a well-formed token that was never issued.
func MadeUp() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// NonCanonical spells the same bytes of a token or a handle with trailing bits that are not zero.
func NonCanonical(id string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, id[len(id)-1])
	return id[:len(id)-1] + string(alphabet[last|1])
}
