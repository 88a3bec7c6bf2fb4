package dbsc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"math/big"

	"github.com/coatcheck/coatcheck"
)

// rsaExponent is the only public exponent that is accepted; "AQAB" is its spelling in a JWK.
const rsaExponent = 65537

// parseKey reads a public key (RFC 7517): EC on P-256, or RSA with 2048 bits.
func parseKey(raw json.RawMessage) (coatcheck.PublicKey, error) {
	var m members
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return coatcheck.PublicKey{}, wrong("jwk is no object")
	}
	switch kty := m.text("kty"); kty {
	case "EC":
		return ecKey(m)
	case "RSA":
		return rsaKey(m)
	default:
		return coatcheck.PublicKey{}, wrong("jwk: kty %.20q", kty)
	}
}

func ecKey(m members) (coatcheck.PublicKey, error) {
	if crv := m.text("crv"); crv != "P-256" {
		return coatcheck.PublicKey{}, wrong("jwk: crv %.20q", crv)
	}
	point := []byte{4} // uncompressed (SEC 1, section 2.3.3)
	for _, name := range [...]string{"x", "y"} {
		text := m.text(name)
		coordinate, err := decode([]byte(text))
		if err != nil || len(coordinate) != 32 {
			return coatcheck.PublicKey{}, wrong("jwk: %s is no coordinate", name)
		}
		point = append(point, coordinate...)
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
		return coatcheck.PublicKey{}, wrong("jwk: not a point on the curve")
	}
	x, y := new(big.Int).SetBytes(point[1:33]), new(big.Int).SetBytes(point[33:])
	return coatcheck.PublicKey{Algorithm: coatcheck.ES256, Bytes: elliptic.MarshalCompressed(elliptic.P256(), x, y)}, nil
}

// ecPublicKey is the inverse of ecKey.
func ecPublicKey(compressed []byte) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), compressed)
	if x == nil {
		return nil, wrong("a stored key is not a point on the curve")
	}
	point := make([]byte, 65)
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func rsaKey(m members) (coatcheck.PublicKey, error) {
	n := m.text("n")
	modulus, err := decode([]byte(n))
	if e := m.text("e"); err != nil || e != "AQAB" {
		return coatcheck.PublicKey{}, wrong("jwk: n or e")
	}
	if len(modulus) != 256 || modulus[0]&0x80 == 0 || modulus[255]&1 == 0 {
		return coatcheck.PublicKey{}, wrong("jwk: a modulus of %d bytes: it must have 2048 bits", len(modulus))
	}
	return coatcheck.PublicKey{Algorithm: coatcheck.RS256, Bytes: modulus}, nil
}
