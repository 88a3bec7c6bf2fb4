package oidc_test

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// signedUserInfo makes the provider answer userinfo as a token that sign makes, which gets the provider's own key.
func signedUserInfo(p *oidctest.Provider, sign func(jose.SigningKey, map[string]any) string, claims map[string]any) {
	p.Edit(func(b *oidctest.Behaviour) {
		all := map[string]any{"sub": b.User, "name": "Ann of userinfo"}
		maps.Copy(all, claims)
		signer := b.Signer
		b.Handlers["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/jwt; charset=utf-8")
			_, _ = w.Write([]byte(sign(signer, all)))
		}
	})
}

// A signed userinfo is checked (OpenID Connect Core 1.0, section 5.3.2).
func TestSignedUserInfo(t *testing.T) {
	other, _ := oidctest.NewKey("first")
	byOther := func(_ jose.SigningKey, c map[string]any) string { return oidctest.Signed(other, c) }
	byRS512 := func(own jose.SigningKey, c map[string]any) string {
		key := own.Key.(jose.JSONWebKey)
		key.Algorithm = ""
		return oidctest.Signed(jose.SigningKey{Algorithm: jose.RS512, Key: key}, c)
	}
	for name, tt := range map[string]struct {
		sign   func(jose.SigningKey, map[string]any) string // nil: as the provider does
		claims map[string]any
		fails  oidc.Kind
	}{
		"without iss and aud":  {},
		"for this client":      {claims: map[string]any{"aud": oidctest.ClientID, "exp": time.Now().Add(time.Minute).Unix()}},
		"for this one, too":    {claims: map[string]any{"aud": []string{"other", oidctest.ClientID}}},
		"another key":          {sign: byOther, fails: oidc.BadAnswer},
		"RS512":                {sign: byRS512, fails: oidc.BadAnswer},
		"none":                 {sign: func(_ jose.SigningKey, c map[string]any) string { return oidctest.Unsigned(c) }, fails: oidc.BadAnswer},
		"no token":             {sign: func(jose.SigningKey, map[string]any) string { return "{}" }, fails: oidc.BadAnswer},
		"another issuer":       {claims: map[string]any{"iss": "https://other.example"}, fails: oidc.BadAnswer},
		"an issuer of null":    {claims: map[string]any{"iss": nil}, fails: oidc.BadAnswer},
		"another client":       {claims: map[string]any{"aud": "other"}, fails: oidc.BadAnswer},
		"no client":            {claims: map[string]any{"aud": []string{}}, fails: oidc.BadAnswer},
		"an audience of null":  {claims: map[string]any{"aud": nil}, fails: oidc.BadAnswer},
		"expired":              {claims: map[string]any{"exp": 5}, fails: oidc.BadAnswer},
		"not yet":              {claims: map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}, fails: oidc.BadAnswer},
		"by a clock ahead":     {claims: map[string]any{"nbf": time.Now().Add(30 * time.Second).Unix(), "exp": time.Now().Add(-30 * time.Second).Unix()}},
		"an exp that is none":  {claims: map[string]any{"exp": "later"}, fails: oidc.BadAnswer},
		"of another person":    {claims: map[string]any{"sub": "bob"}, fails: oidc.BadUserInfo},
		"sub in another case":  {claims: map[string]any{"sub": "bob", "SUB": "sub-ann"}, fails: oidc.BadUserInfo},
		"with a number for it": {claims: map[string]any{"sub": 5}, fails: oidc.BadUserInfo},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			if tt.sign == nil {
				tt.sign = oidctest.Signed
			}
			signedUserInfo(p, tt.sign, tt.claims)
			id, err := login(t, newClient(t, p, nil), oidc.Wanted{})
			if tt.fails != 0 {
				require.Error(t, err)
				assert.Equal(t, tt.fails, kindOf(t, err), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "Ann of userinfo", id.Claims.Text("name"))
		})
	}
}

// The keys that are kept are those of a signed userinfo, too: it does not matter that the provider cannot show them now.
func TestSignedUserInfoByKeptKeys(t *testing.T) {
	p := oidctest.New(t)
	signedUserInfo(p, oidctest.Signed, map[string]any{"iss": p.URL})
	c := newClient(t, p, nil)
	for range 3 {
		_, err := login(t, c, oidc.Wanted{})
		require.NoError(t, err)
		p.Edit(func(b *oidctest.Behaviour) {
			b.Handlers["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
		})
	}
	assert.Equal(t, 1, p.Calls("/keys"))
}
