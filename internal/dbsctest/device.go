// Package dbsctest is a device for tests of device-bound sessions: it has a key, and signs proofs, right and wrong ones.
package dbsctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"sync"
)

// Device has a key, by which it signs. It is safe for concurrent use.
type Device struct {
	ec  *ecdsa.PrivateKey
	rsa *rsa.PrivateKey
}

// NewDevice returns a device with a new key for ES256.
func NewDevice() *Device {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return &Device{ec: key}
}

// rsaDevice makes one key for all tests, because that takes long.
var rsaDevice = sync.OnceValue(func() *Device { return RSADevice(2048) })

// NewRS256Device returns the device with a key for RS256.
func NewRS256Device() *Device { return rsaDevice() }

// RSADevice returns a device with a new RSA key of this size.
func RSADevice(bits int) *Device {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return &Device{rsa: key}
}

// Object is a JSON object.
type Object = map[string]any

// Alg returns the algorithm of the device, as a proof names it.
func (d *Device) Alg() string {
	if d.ec != nil {
		return "ES256"
	}
	return "RS256"
}

// JWK returns the device's public key.
func (d *Device) JWK() Object {
	if d.ec == nil {
		return Object{"kty": "RSA", "n": text(d.rsa.N.Bytes()), "e": "AQAB"}
	}
	point, err := d.ec.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return Object{"kty": "EC", "crv": "P-256", "x": text(point[1:33]), "y": text(point[33:])}
}

// Header returns the header of a proof for a registration.
func (d *Device) Header() Object { return Object{"typ": "dbsc+jwt", "alg": d.Alg(), "jwk": d.JWK()} }

// Registration returns a proof for a registration.
func (d *Device) Registration(challenge string) string {
	return d.Sign(d.Header(), Object{"jti": challenge})
}

// Refresh returns a proof for a refresh.
func (d *Device) Refresh(challenge string) string {
	return d.Sign(Object{"typ": "dbsc+jwt", "alg": d.Alg()}, Object{"jti": challenge})
}

// Sign returns a proof with this header and these claims.
func (d *Device) Sign(header, claims any) string {
	signed := text(encode(header)) + "." + text(encode(claims))
	sum := sha256.Sum256([]byte(signed))
	return signed + "." + text(d.signature(sum[:]))
}

func (d *Device) signature(sum []byte) []byte {
	if d.ec == nil {
		signature, err := rsa.SignPKCS1v15(nil, d.rsa, crypto.SHA256, sum)
		if err != nil {
			panic(err)
		}
		return signature
	}
	r, s, err := ecdsa.Sign(rand.Reader, d.ec, sum)
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

// encode returns the JSON of v; a string is taken for JSON.
func encode(v any) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
