package oidc_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// Each check of a logout token (Back-Channel Logout 1.0, section 2.6).
func TestLogoutTokens(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	out, err := c.Logout(t.Context(), p.LogoutToken(map[string]any{"sub": "ann", "sid": "s"}))
	require.NoError(t, err)
	assert.Equal(t, "ann", out.User)
	assert.Equal(t, "s", out.Session)
	again, err := c.Logout(t.Context(), p.LogoutToken(map[string]any{"sid": "s"}))
	require.NoError(t, err)
	assert.NotEqual(t, out.ID, again.ID)
	_, err = c.Logout(t.Context(), p.LogoutToken(map[string]any{"sid": "s", "aud": []string{oidctest.ClientID, "x"}}))
	require.NoError(t, err, "azp is an ID token's")
	event := "http://schemas.openid.net/event/backchannel-logout"
	now := time.Now()
	for name, edit := range map[string]map[string]any{
		"no events": {"events": nil}, "another event": {"events": map[string]any{"x": map[string]any{}}}, "an event that is no object": {"events": map[string]any{event: true}},
		"a nonce": {"nonce": "x"}, "an empty nonce": {"nonce": ""}, "a nonce that is null": {"nonce": json.RawMessage("null")}, "no jti": {"jti": nil}, "neither sub nor sid": {"sub": nil},
		"another audience": {"aud": "x"}, "another issuer": {"iss": "https://x"},
		"no iat": {"iat": nil}, "no exp": {"exp": nil}, "expired": {"exp": now.Add(-2 * time.Minute).Unix()}, "too old": {"iat": now.Add(-4 * time.Minute).Unix()},
		"of the future": {"iat": now.Add(2 * time.Minute).Unix()}, "not valid yet": {"nbf": now.Add(2 * time.Minute).Unix()}, "two audiences, not us": {"aud": []string{"x", "y"}},
	} {
		claims := map[string]any{"sub": "ann"}
		for k, v := range edit {
			claims[k] = v
		}
		_, err := c.Logout(t.Context(), p.LogoutToken(claims))
		require.Error(t, err, name)
		assert.Equal(t, oidc.BadLogout, kindOf(t, err), name)
	}
	for _, token := range []string{"", "x", "a.b.c", strings.Repeat("x", 10_000), oidctest.Unsigned(map[string]any{"sub": "ann"})} {
		_, err := c.Logout(t.Context(), token)
		assert.Equal(t, oidc.BadLogout, kindOf(t, err))
	}
	for _, member := range []string{`"SUB":"bob"`, `"SID":"other"`} {
		p.Edit(func(b *oidctest.Behaviour) {
			signer := b.Signer
			b.Sign = func(c map[string]any) string { return oidctest.SignedText(signer, spliced(t, c, member)) }
		})
		_, err = c.Logout(t.Context(), p.LogoutToken(map[string]any{"sub": "ann", "sid": "s"}))
		require.Error(t, err, member)
		assert.Equal(t, oidc.BadLogout, kindOf(t, err), member)
	}
	var idToken string
	p.Edit(func(b *oidctest.Behaviour) {
		signer := b.Signer
		b.Sign = func(c map[string]any) string { idToken = oidctest.Signed(signer, c); return idToken }
	})
	_, err = login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	_, err = c.Logout(t.Context(), idToken)
	assert.Equal(t, oidc.BadLogout, kindOf(t, err), "an ID token is no logout token")
}
