package dbsc_test

import (
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsc"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

type object = dbsctest.Object

var (
	name      = coatcheck.Key{0: 1, 15: 2}
	challenge = coatcheck.Challenge{0: 3, 15: 4}
	jti       = string(dbsc.AppendChallenge(nil, name, challenge))
)

// with returns a copy of an object with one member set, or removed if the value is nil.
func with(o object, member string, value any) object {
	o = maps.Clone(o)
	o[member] = value
	if value == nil {
		delete(o, member)
	}
	return o
}

func TestProofs(t *testing.T) {
	for _, d := range []*dbsctest.Device{dbsctest.NewDevice(), dbsctest.NewRS256Device()} {
		t.Run(d.Alg(), func(t *testing.T) {
			first, err := dbsc.Parse([]byte(d.Registration(jti)))
			require.NoError(t, err)
			assert.Equal(t, name, first.Name)
			assert.Equal(t, challenge, first.Challenge)
			assert.Equal(t, first.Algorithm, first.Key.Algorithm)
			assert.Len(t, first.Key.Bytes, first.Algorithm.KeySize())
			require.NoError(t, first.Check(first.Key))

			next, err := dbsc.Parse([]byte(d.Refresh(jti)))
			require.NoError(t, err)
			assert.Zero(t, next.Key.Algorithm, "a refresh brings no key")
			require.NoError(t, next.Check(first.Key))

			quoted, err := dbsc.ParseProof([]byte(`"` + d.Refresh(jti) + `"`))
			require.NoError(t, err)
			require.NoError(t, quoted.Check(first.Key))
		})
	}
}

func TestForgedProofs(t *testing.T) {
	ec, other, rs := dbsctest.NewDevice(), dbsctest.NewDevice(), dbsctest.NewRS256Device()
	key := func(d *dbsctest.Device) coatcheck.PublicKey {
		p, err := dbsc.Parse([]byte(d.Registration(jti)))
		require.NoError(t, err)
		return p.Key
	}
	check := func(text string, k coatcheck.PublicKey) error {
		p, err := dbsc.Parse([]byte(text))
		require.NoError(t, err)
		return p.Check(k)
	}
	good := ec.Refresh(jti)
	cut := strings.LastIndex(good, ".")
	assert.NoError(t, check(good, key(ec)))
	for what, text := range map[string]string{
		"another key":                      other.Refresh(jti),
		"another algorithm":                rs.Refresh(jti),
		"no signature":                     good[:cut+1],
		"a short signature":                good[:cut+1] + "AAAA",
		"zeros":                            good[:cut+1] + strings.Repeat("A", 86),
		"signature of another":             good[:cut] + other.Refresh(jti)[strings.LastIndex(other.Refresh(jti), "."):],
		"RS256 named, signed by an EC key": ec.Sign(object{"typ": "dbsc+jwt", "alg": "RS256"}, object{"jti": jti}),
	} {
		assert.ErrorIs(t, check(text, key(ec)), dbsc.ErrProof, what)
	}
	assert.ErrorIs(t, check(ec.Refresh(jti), key(rs)), dbsc.ErrProof)
	assert.ErrorIs(t, check(ec.Refresh(jti), coatcheck.PublicKey{Algorithm: coatcheck.ES256, Bytes: make([]byte, 33)}), dbsc.ErrProof, "a damaged key")
	for i := range good {
		if i == len(good)-1 {
			break // base64url refuses its last bits, or they are the signature's
		}
		changed := []byte(good)
		changed[i] ^= 1
		if p, err := dbsc.Parse(changed); err == nil {
			assert.Error(t, p.Check(key(ec)), "byte %d", i)
		}
	}
}

func TestMalformedProofs(t *testing.T) {
	d, rs := dbsctest.NewDevice(), dbsctest.NewRS256Device()
	header, claims := d.Header(), object{"jti": jti}
	sign := func(h, c any) string { return d.Sign(h, c) }
	jwk := func(member string, value any) string {
		return sign(with(header, "jwk", with(d.JWK(), member, value)), claims)
	}
	rsaJWK := func(member string, value any) string {
		return rs.Sign(with(rs.Header(), "jwk", with(rs.JWK(), member, value)), claims)
	}
	good := d.Registration(jti)
	even := rs.JWK()["n"].(string)
	for what, text := range map[string]string{
		"empty": "", "two parts": "a.b", "four parts": good + ".a", "not base64url": "!." + good, "padded": strings.Replace(good, ".", "=.", 1),
		"a line break": good[:10] + "\n" + good[10:],
		"no JSON":      sign("{", claims), "an array": sign("[]", claims), "null": sign("null", claims), "claims null": sign(header, "null"),
		"typ JWT": sign(with(header, "typ", "JWT"), claims), "no typ": sign(with(header, "typ", nil), claims),
		"typ in capitals": sign(with(with(header, "typ", nil), "TYP", "dbsc+jwt"), claims),
		"alg none":        sign(with(header, "alg", "none"), claims), "no alg": sign(with(header, "alg", nil), claims),
		"alg HS256": sign(with(header, "alg", "HS256"), claims), "alg ES384": sign(with(header, "alg", "ES384"), claims),
		"alg of another key": sign(with(header, "alg", "RS256"), claims), "alg as a number": sign(with(header, "alg", 1), claims),
		"crit":                sign(with(header, "crit", []string{"b64"}), claims),
		"jwk of another kind": jwk("kty", "oct"), "another curve": jwk("crv", "P-384"), "no x": jwk("x", nil),
		"a short x": jwk("x", "AAAA"), "off the curve": jwk("y", d.JWK()["x"]), "jwk null": sign(with(header, "jwk", "null"), claims),
		"jwk a string": sign(with(header, "jwk", "key"), claims),
		"exponent 3":   rsaJWK("e", "Aw"), "no modulus": rsaJWK("n", nil), "1024 bits": dbsctest.RSADevice(1024).Registration(jti),
		"2056 bits": rsaJWK("n", "AA"+even), "an even modulus": rsaJWK("n", even[:len(even)-1]+"A"),
		"no jti": sign(header, object{}), "jti without a name": sign(header, object{"jti": jti[23:]}), "jti a number": sign(header, object{"jti": 1}),
		"jti too long": sign(header, object{"jti": jti + "A"}), "a zero name": sign(header, object{"jti": strings.Repeat("A", 22) + jti[22:]}),
		"JTI": sign(header, object{"JTI": jti}), "aud a number": sign(header, object{"jti": jti, "aud": 1}), "aud empty": sign(header, object{"jti": jti, "aud": []string{}}),
		"too long": sign(header, object{"jti": jti, "x": strings.Repeat("x", dbsc.MaxProof)}),
	} {
		_, err := dbsc.Parse([]byte(text))
		assert.ErrorIs(t, err, dbsc.ErrProof, what)
		if err != nil {
			assert.Less(t, len(err.Error()), 200, what)
		}
	}
}

func TestProofIsForAnAddress(t *testing.T) {
	d := dbsctest.NewDevice()
	for aud, ok := range map[string]bool{"": true, `"https://a/x"`: true, `["https://b/x","https://a/x"]`: true, `"https://b/x"`: false, `["https://b/x"]`: false} {
		claims := `{"jti":"` + jti + `"}`
		if aud != "" {
			claims = `{"jti":"` + jti + `","aud":` + aud + `}`
		}
		p, err := dbsc.Parse([]byte(d.Sign(d.Header(), claims)))
		require.NoError(t, err, aud)
		assert.Equal(t, ok, p.For("https://a/x"), aud)
	}
}

func FuzzParse(f *testing.F) {
	d := dbsctest.NewDevice()
	f.Add(d.Registration(jti))
	f.Add(dbsctest.NewRS256Device().Registration(jti))
	f.Add(d.Refresh(jti))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := dbsc.Parse([]byte(text))
		if err != nil {
			return
		}
		if p.Key.Algorithm != 0 {
			assert.Len(t, p.Key.Bytes, p.Algorithm.KeySize())
			_ = p.Check(p.Key)
		}
		for _, part := range strings.Split(text, ".") {
			_, err := base64.RawURLEncoding.Strict().DecodeString(part)
			assert.NoError(t, err)
		}
	})
}
