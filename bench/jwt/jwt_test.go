// Package jwt measures the check of a session beside the check of a JWT with golang-jwt. It is a module of its own, so that
// golang-jwt is no dependency of coatcheck.
package jwt

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// inTurn is how many sessions, and as many JWTs, are presented in turn; resident is how many the store holds.
const (
	inTurn   = 64
	resident = 1_000_000
)

// BenchmarkCheck turns what a request carries into a user ID: a session's token by a look-up among a million, or a JWT by
// its signature, issue and expiry. Only the session can be revoked.
func BenchmarkCheck(b *testing.B) {
	b.Run("session", session)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	b.Run("HS256", signed(jwt.SigningMethodHS256, secret, secret))
	b.Run("ES256", signed(jwt.SigningMethodES256, ec, ec.Public()))
	b.Run("EdDSA", signed(jwt.SigningMethodEdDSA, ed, ed.Public()))
}

func session(b *testing.B) {
	n := resident
	if testing.Short() {
		n = 1000
	}
	ctx, now := context.Background(), time.Now()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(b, err)
	defer store.Close() //nolint:errcheck // nothing is on disk
	m, err := coatcheck.NewManager(store, coatcheck.Policy{})
	require.NoError(b, err)
	var s coatcheck.Request
	var tokens [inTurn][]byte
	for i := range n {
		require.NoError(b, m.Open(ctx, &s, &coatcheck.Presented{}, coatcheck.Client{}, now))
		require.NoError(b, s.Authenticate(fmt.Sprintf("user-%d", i)))
		require.NoError(b, s.Commit(ctx))
		if i < inTurn {
			token, _ := s.Token(now)
			tokens[i] = token.AppendSecretText(nil)
		}
	}
	var p coatcheck.Presented
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p = coatcheck.Presented{}
		p.Add(tokens[i%inTurn])
		if err := m.Open(ctx, &s, &p, coatcheck.Client{}, now); err != nil {
			b.Fatal(err)
		}
		if len(s.RawUserID()) == 0 {
			b.Fatal("anonymous")
		}
		if err := s.Finish(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// signed is the check that golang-jwt's documentation shows: registered claims, one allowed method, an expiry required.
func signed(method jwt.SigningMethod, private any, public crypto.PublicKey) func(*testing.B) {
	return func(b *testing.B) {
		var tokens [inTurn]string
		for i := range tokens {
			now := time.Now()
			var err error
			tokens[i], err = jwt.NewWithClaims(method, jwt.RegisteredClaims{
				Subject: fmt.Sprintf("user-%d", i), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(12 * time.Hour)),
			}).SignedString(private)
			require.NoError(b, err)
		}
		parser := jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithExpirationRequired())
		key := func(*jwt.Token) (any, error) { return public, nil }
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			var claims jwt.RegisteredClaims
			if _, err := parser.ParseWithClaims(tokens[i%inTurn], &claims, key); err != nil {
				b.Fatal(err)
			}
			if claims.Subject == "" {
				b.Fatal("nobody")
			}
		}
	}
}
