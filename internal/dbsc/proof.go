package dbsc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/coatcheck/coatcheck"
)

// MaxProof is the longest proof that is read, in bytes. One with an RSA key takes 900.
const MaxProof = 4 << 10

// ErrProof: the text is not a proof, or its signature is wrong.
var ErrProof = errors.New("not a proof")

// Proof is what a device sends to show that it has a key: a compact JWT (RFC 7519) that nobody has checked yet. Its parts are
// bounded by MaxProof.
type Proof struct {
	// Name and Challenge are what was signed.
	Name      coatcheck.Key
	Challenge coatcheck.Challenge
	// Algorithm is what the proof says that it is signed with.
	Algorithm coatcheck.Algorithm
	// Key is the key in the proof's header. Its Algorithm is 0 if there is none.
	Key coatcheck.PublicKey

	audience  []string
	signed    []byte
	signature []byte
}

var algorithms = map[string]coatcheck.Algorithm{"ES256": coatcheck.ES256, "RS256": coatcheck.RS256}

// Parse reads a proof and checks all but its signature, which costs much more. The error is ErrProof with the reason.
func Parse(text []byte) (*Proof, error) {
	if len(text) > MaxProof {
		return nil, wrong("it has %d bytes, of at most %d", len(text), MaxProof)
	}
	parts := bytes.Split(text, []byte("."))
	if len(parts) != 3 {
		return nil, wrong("it has %d parts, not 3", len(parts))
	}
	header, err := object(parts[0])
	if err != nil {
		return nil, wrong("header: %v", err)
	}
	claims, err := object(parts[1])
	if err != nil {
		return nil, wrong("claims: %v", err)
	}
	p := &Proof{signed: text[:len(parts[0])+1+len(parts[1])]}
	if p.signature, err = decode(parts[2]); err != nil {
		return nil, wrong("signature: %v", err)
	}
	if err := p.readHeader(header); err != nil {
		return nil, err
	}
	return p, p.readClaims(claims)
}

func (p *Proof) readHeader(header members) error {
	if _, ok := header["crit"]; ok { // RFC 7515, section 4.1.11: what is critical must be understood
		return wrong("its header has crit")
	}
	if typ := header.text("typ"); typ != "dbsc+jwt" {
		return wrong("typ %.20q", typ)
	}
	alg := header.text("alg")
	if p.Algorithm = algorithms[alg]; p.Algorithm == 0 {
		return wrong("alg %.20q", alg)
	}
	raw, ok := header["jwk"]
	if !ok {
		return nil
	}
	key, err := parseKey(raw)
	if err == nil && key.Algorithm != p.Algorithm {
		err = wrong("the key is not one of %s", alg)
	}
	p.Key = key
	return err
}

func (p *Proof) readClaims(claims members) error {
	jti := claims.text("jti")
	var ok bool
	if p.Name, p.Challenge, ok = ParseChallenge([]byte(jti)); !ok {
		return wrong("jti is no challenge")
	}
	raw, ok := claims["aud"]
	if !ok {
		return nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		p.audience = []string{one}
		return nil
	}
	if json.Unmarshal(raw, &p.audience) != nil || len(p.audience) == 0 {
		return wrong("aud is no audience")
	}
	return nil
}

// For reports whether the proof may be meant for this address: browsers name none.
func (p *Proof) For(url string) bool { return p.audience == nil || slices.Contains(p.audience, url) }

// Check returns nil if the proof was signed by the holder of key, with the key's algorithm. It takes some 0.1 ms.
func (p *Proof) Check(key coatcheck.PublicKey) error {
	if p.Algorithm != key.Algorithm {
		return wrong("it is of another algorithm than the key")
	}
	sum := sha256.Sum256(p.signed)
	valid := false
	switch key.Algorithm {
	case coatcheck.ES256:
		public, err := ecPublicKey(key.Bytes)
		if err == nil && len(p.signature) == 64 { // RFC 7518, section 3.4: the two numbers, 32 bytes each
			r, s := new(big.Int).SetBytes(p.signature[:32]), new(big.Int).SetBytes(p.signature[32:])
			valid = ecdsa.Verify(public, sum[:], r, s)
		}
	case coatcheck.RS256:
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(key.Bytes), E: rsaExponent}
		valid = rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], p.signature) == nil
	}
	if !valid {
		return wrong("its signature is wrong")
	}
	return nil
}

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProof, fmt.Sprintf(format, args...))
}

// members are those of a JSON object. A map, because a struct's names would match in any case.
type members map[string]json.RawMessage

func object(part []byte) (members, error) {
	raw, err := decode(part)
	if err != nil {
		return nil, err
	}
	var m members
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New("not a JSON object")
	}
	return m, nil
}

// text returns a member that is a string, and otherwise the empty string.
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// encoding has one spelling for each sequence of bytes.
var encoding = base64.RawURLEncoding.Strict()

// decode refuses line breaks too, which package base64 skips.
func decode(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return nil, errors.New("not base64url")
	}
	raw, err := encoding.AppendDecode(nil, text)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return raw, nil
}
