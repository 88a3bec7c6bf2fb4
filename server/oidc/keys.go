package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// algorithms are those by which a token may be signed: with a private key that only the provider has. None, and those with the
// client's secret, are not among them.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

const (
	// refetchEvery is the least time between two fetches of the keys because none of them has signed a token: strangers can send such
	// tokens. The new key may have the name of an old one.
	refetchEvery = time.Minute
	// refetchAfterFailure is the same where the last fetch failed, because the key may be a new one of the provider's.
	refetchAfterFailure = 10 * time.Second
	// usualKeys is for how long keys are kept whose answer does not say it.
	usualKeys = 5 * time.Minute
	// maxKeys bounds the keys that one token may be tried with.
	maxKeys = 32
)

// keys are the provider's public keys. They are fetched when they are first needed, when they are too old, and when none of them has
// signed a token. It implements oidc.KeySet. Safe for concurrent use.
type keys struct {
	// fetch's error is a *Failure.
	fetch func(ctx context.Context, into *keySet) (time.Duration, error)
	now   func() time.Time

	mu     sync.Mutex // held during a fetch: one at a time
	all    []jose.JSONWebKey
	until  time.Time // when they are too old
	asked  time.Time // when they were last fetched, or tried to, because none had signed a token
	failed failedFetch
}

var _ oidc.KeySet = (*keys)(nil)

// failedFetch lets a provider that is away be asked once a second, and not once for each login. The second begins when the fetch has
// failed, which may take longer than that: the logins that waited for it then fail with it, and do not ask one after the other.
type failedFetch struct {
	err error
	at  time.Time
}

const retryEvery = time.Second

func (f failedFetch) recent(now time.Time) bool {
	since := now.Sub(f.at)
	return f.err != nil && since >= 0 && since < retryEvery
}

var errSignature = errors.New("the signature is not by one of the provider's keys")

// VerifySignature returns the payload of a token that one of the keys has signed.
func (k *keys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, errors.New("not a signed token of an allowed algorithm")
	}
	id := jws.Signatures[0].Header.KeyID
	all, fetched, err := k.get(ctx, func([]jose.JSONWebKey) bool { return true })
	if err != nil {
		return nil, err
	}
	if payload, ok := verify(jws, id, all); ok {
		return payload, nil
	}
	if fetched {
		return nil, errSignature
	}
	tried := &all[0] // there is at least one; each fetch makes new ones
	if all, _, err = k.get(ctx, func(all []jose.JSONWebKey) bool { return &all[0] != tried }); err != nil {
		return nil, err
	}
	if payload, ok := verify(jws, id, all); ok {
		return payload, nil
	}
	return nil, errSignature
}

func verify(jws *jose.JSONWebSignature, id string, all []jose.JSONWebKey) ([]byte, bool) {
	for i := range all {
		if id != "" && all[i].KeyID != id || !fits(jws.Signatures[0].Header.Algorithm, all[i].Algorithm) {
			continue
		}
		if payload, err := jws.Verify(all[i].Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

func fits(ofToken, ofKey string) bool { return ofKey == "" || ofKey == ofToken }

// get returns the keys, and whether it fetched them: because they are too old, or because they are not enough.
func (k *keys) get(ctx context.Context, enough func([]jose.JSONWebKey) bool) (all []jose.JSONWebKey, fetched bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.all != nil && now.Before(k.until) {
		if enough(k.all) {
			return k.all, false, nil
		}
		since, again := now.Sub(k.asked), refetchEvery
		if k.failed.err != nil {
			again = refetchAfterFailure
		}
		if since >= 0 && since < again {
			if k.failed.err != nil { // the key may be one that could not be fetched
				return nil, false, k.failed.err
			}
			return k.all, false, nil
		}
		k.asked = now
	}
	if k.failed.recent(now) {
		return nil, false, k.failed.err
	}
	var set keySet
	asked := k.asked.Equal(now) // because none had signed a token
	forHow, err := k.fetch(ctx, &set)
	if asked {
		k.asked = k.now() // a fetch that hangs holds all up
	}
	if err != nil {
		k.failed = failedFetch{err, k.now()}
		return nil, false, k.failed.err
	}
	found := set.usable()
	if len(found) == 0 { // it is no answer that one would keep for a minute or more, nor one to forget others for
		k.failed = failedFetch{failf(BadAnswer, "the provider's keys: none can be used"), k.now()}
		return nil, false, k.failed.err
	}
	k.all, k.until, k.failed = found, k.now().Add(forHow), failedFetch{} // whoever waited for it must not find it too old
	return k.all, true, nil
}

// keySet is a provider's keys as it sends them. Each is read alone, because one that cannot be read is ignored (RFC 7517, section 5): a
// provider may add one of a kind that is not known here, and goes on signing with another.
type keySet struct {
	Keys []json.RawMessage `json:"keys"`
}

// usable returns the keys that may have signed a token: public ones of the allowed kinds, for signatures.
func (s keySet) usable() []jose.JSONWebKey {
	found := []jose.JSONWebKey{}
	for _, text := range s.Keys {
		var key jose.JSONWebKey
		if len(found) == maxKeys {
			break
		}
		if json.Unmarshal(text, &key) == nil && isUsable(key) {
			found = append(found, key)
		}
	}
	return found
}

func isUsable(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch pub := key.Key.(type) {
	case *rsa.PublicKey:
		return pub.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return pub.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return true
	default:
		return false
	}
}
