package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// Keys are fetched again at once for one that is not known, but no more than once a minute for such, and documents are kept as they say.
func TestKeysAreFetched(t *testing.T) {
	p := oidctest.New(t)
	now := time.Now()
	p.Edit(func(b *oidctest.Behaviour) { b.Now = func() time.Time { return now } })
	c := newClient(t, p, func(o *oidc.Options) { o.Now = func() time.Time { return now } })
	for range 3 {
		_, err := login(t, c, oidc.Wanted{})
		require.NoError(t, err)
	}
	assert.Equal(t, 1, p.Calls("/keys"))
	assert.Equal(t, 1, p.Calls("/.well-known/openid-configuration"))
	rotate := func(id string) {
		signer, public := oidctest.NewEdKey(id)
		p.Edit(func(b *oidctest.Behaviour) { b.Signer, b.Keys = signer, append(b.Keys, public) })
	}
	rotate("second")
	for range 3 {
		_, err := login(t, c, oidc.Wanted{})
		require.NoError(t, err, "although they were fetched a moment ago, when they were first needed")
	}
	assert.Equal(t, 2, p.Calls("/keys"))
	rotate("third")
	_, err := login(t, c, oidc.Wanted{})
	assert.Equal(t, oidc.BadToken, kindOf(t, err), "a minute has not passed")
	assert.Equal(t, 2, p.Calls("/keys"))
	now = now.Add(time.Minute)
	for range 3 {
		_, err = login(t, c, oidc.Wanted{})
		require.NoError(t, err)
	}
	assert.Equal(t, 3, p.Calls("/keys"))
	madeUp, _ := oidctest.NewEdKey("made up")
	for range 5 {
		_, err = c.Logout(t.Context(), oidctest.Signed(madeUp, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
		require.Error(t, err)
	}
	assert.Equal(t, 3, p.Calls("/keys"), "strangers cannot make it fetch")
	now = now.Add(time.Hour)
	_, err = login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	assert.Equal(t, 4, p.Calls("/keys"))
	assert.Equal(t, 2, p.Calls("/.well-known/openid-configuration"))

	p.Edit(func(b *oidctest.Behaviour) {
		b.Handlers = map[string]http.HandlerFunc{"/.well-known/openid-configuration": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }}
	})
	now = now.Add(2 * time.Hour)
	for range 5 {
		_, err = login(t, c, oidc.Wanted{})
		assert.Equal(t, oidc.Unavailable, kindOf(t, err), "down")
	}
	assert.Equal(t, 3, p.Calls("/.well-known/openid-configuration"), "a provider that is away is asked once a second")
	p.Edit(func(b *oidctest.Behaviour) { b.Handlers = nil })
	now = now.Add(time.Second)
	_, err = login(t, c, oidc.Wanted{})
	require.NoError(t, err, "and back")
}

// A provider may give a new key the name of the old one. Strangers who sign by that name make it fetch no more often than by others.
func TestNewKeyOfTheSameName(t *testing.T) {
	p, c, now := loggedInOnce(t)
	signer, public := oidctest.NewKey("first")
	p.Edit(func(b *oidctest.Behaviour) { b.Signer, b.Keys = signer, []jose.JSONWebKey{public} })
	_, err := login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	assert.Equal(t, 2, p.Calls("/keys"))
	stranger, _ := oidctest.NewKey("first")
	strangers := func() {
		for range 5 {
			_, err := c.Logout(t.Context(), oidctest.Signed(stranger, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
			assert.Equal(t, oidc.BadLogout, kindOf(t, err))
		}
	}
	strangers()
	assert.Equal(t, 2, p.Calls("/keys"))
	*now = now.Add(time.Minute)
	strangers()
	assert.Equal(t, 3, p.Calls("/keys"))
}

// Also while the keys cannot be fetched, strangers make it try once a minute, and known keys are good. A token by a key that is not known
// may be the provider's then.
func TestKeysThatCannotBeFetched(t *testing.T) {
	p, c, now := loggedInOnce(t)
	p.Edit(func(b *oidctest.Behaviour) {
		b.Handlers["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	})
	stranger, _ := oidctest.NewEdKey("stranger")
	for range 60 {
		_, err := c.Logout(t.Context(), oidctest.Signed(stranger, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
		assert.Equal(t, oidc.Unavailable, kindOf(t, err))
		*now = now.Add(time.Second)
	}
	assert.Equal(t, 1+60/10, p.Calls("/keys"))
	_, err := login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	_, err = c.Logout(t.Context(), oidctest.Signed(stranger, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
	require.Error(t, err)
	assert.Equal(t, 1+70/10, p.Calls("/keys"))
}

// A token whose key is not among those that were fetched for it has them fetched once.
func TestKeysAreFetchedOnceForAToken(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	stranger, _ := oidctest.NewEdKey("stranger")
	_, err := c.Logout(t.Context(), oidctest.Signed(stranger, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
	assert.Equal(t, oidc.BadLogout, kindOf(t, err))
	assert.Equal(t, 1, p.Calls("/keys"))
}

// An answer without a key that can be used is no answer: it is asked for again a second later, and not a minute, and the keys that are
// known stay.
func TestAnswerWithoutKeys(t *testing.T) {
	for name, body := range map[string]string{
		"null": `null`, "an object without keys": `{"a":1}`, "null for keys": `{"keys":null}`, "no key": `{"keys":[]}`,
		"none that can be used": `{"keys":[{"kty":"oct","k":"a2V5","kid":"first"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			now := time.Now()
			clock := func() time.Time { return now }
			without := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(body))
			}
			p.Edit(func(b *oidctest.Behaviour) { b.Now, b.Handlers["/keys"] = clock, without })
			c := newClient(t, p, func(o *oidc.Options) { o.Now = clock })
			for range 3 {
				_, err := login(t, c, oidc.Wanted{})
				assert.Equal(t, oidc.BadAnswer, kindOf(t, err))
			}
			assert.Equal(t, 1, p.Calls("/keys"), "it is asked once a second")
			p.Edit(func(b *oidctest.Behaviour) { b.Handlers["/keys"] = nil })
			now = now.Add(time.Second)
			_, err := login(t, c, oidc.Wanted{})
			require.NoError(t, err, "it is well again")

			p.Edit(func(b *oidctest.Behaviour) { b.Handlers["/keys"] = without })
			now = now.Add(2 * time.Minute)
			stranger, _ := oidctest.NewKey("stranger")
			_, err = c.Logout(t.Context(), oidctest.Signed(stranger, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
			require.Error(t, err)
			assert.Equal(t, 3, p.Calls("/keys"), "asked because of a key that is not known")
			_, err = login(t, c, oidc.Wanted{})
			require.NoError(t, err, "the keys that are known stay")
		})
	}
}

// Of a provider's keys the first 32 count, and none that is too short.
func TestKeysThatAreNotTaken(t *testing.T) {
	many := make([]jose.JSONWebKey, 40)
	for i := range many {
		_, many[i] = oidctest.NewEdKey(strconv.Itoa(i))
	}
	last, lastPublic := oidctest.NewEdKey("last")
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is what is tested
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		keys   []jose.JSONWebKey
		signer jose.SigningKey
		good   bool
	}{
		"the 32nd": {append(slices.Clone(many[:31]), lastPublic), last, true},
		"the 33rd": {append(slices.Clone(many[:32]), lastPublic), last, false},
		"1024 bits": {
			[]jose.JSONWebKey{{Key: weak.Public(), KeyID: "weak"}}, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: weak, KeyID: "weak"}}, false,
		},
	} {
		p := oidctest.New(t)
		p.Edit(func(b *oidctest.Behaviour) { b.Keys, b.Signer = tt.keys, tt.signer })
		_, err := login(t, newClient(t, p, nil), oidc.Wanted{})
		assert.Equal(t, tt.good, err == nil, "%s: %v", name, err)
	}
}

// One key that cannot be read takes none of the others away (RFC 7517, section 5): a provider may add one of a new kind.
func TestKeysThatCannotBeRead(t *testing.T) {
	for name, key := range map[string]string{
		"an unknown kind":     `{"kty":"XX","kid":"x"}`,
		"no kind":             `{"kid":"x"}`,
		"null":                `null`,
		"a text":              `"x"`,
		"a curve of EC":       `{"kty":"EC","crv":"secp256k1","kid":"x","x":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI","y":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"}`,
		"no point of P-256":   `{"kty":"EC","crv":"P-256","kid":"x","x":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI","y":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"}`,
		"X25519":              `{"kty":"OKP","crv":"X25519","use":"enc","kid":"x","x":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"}`,
		"post-quantum":        `{"kty":"AKP","alg":"ML-DSA-65","kid":"x","pub":"MTIz"}`,
		"RSA without n":       `{"kty":"RSA","kid":"x","e":"AQAB"}`,
		"a broken thumbprint": `{"kty":"OKP","crv":"Ed25519","kid":"x","x":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI","x5t":"!"}`,
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) {
				good, err := json.Marshal(b.Keys[0])
				require.NoError(t, err)
				b.Handlers["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(`{"keys":[` + key + `,` + string(good) + `]}`))
				}
			})
			c := newClient(t, p, nil)
			_, err := login(t, c, oidc.Wanted{})
			require.NoError(t, err)
			for _, f := range c.Examine(t.Context()) {
				assert.False(t, f.Bad, f.Text)
			}
		})
	}
}

// loggedInOnce returns a provider and a client, which has its document and keys by a login, and the clock of both.
func loggedInOnce(t *testing.T) (*oidctest.Provider, *oidc.Provider, *time.Time) {
	t.Helper()
	p := oidctest.New(t)
	now := time.Now()
	p.Edit(func(b *oidctest.Behaviour) { b.Now = func() time.Time { return now } })
	c := newClient(t, p, func(o *oidc.Options) { o.Now = func() time.Time { return now } })
	_, err := login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	return p, c, &now
}
