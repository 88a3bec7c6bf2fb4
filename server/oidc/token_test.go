package oidc_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// Each check of an ID token, userinfo and the provider's answers, left out, would let one of these in.
func TestHostileProvider(t *testing.T) {
	other, otherPublic := oidctest.NewKey("other")
	set := func(name string, value any) func(*oidctest.Behaviour) {
		return func(b *oidctest.Behaviour) {
			b.Token = func(c map[string]any) {
				if c[name] = value; value == nil {
					delete(c, name)
				}
			}
		}
	}
	now := time.Now()
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	handler := func(path string, h http.HandlerFunc) func(*oidctest.Behaviour) {
		return func(b *oidctest.Behaviour) { b.Handlers = map[string]http.HandlerFunc{path: h} }
	}
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 1000 {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1<<10))); err != nil {
				return
			}
		}
		_, _ = w.Write([]byte("{}"))
	}
	slow := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the client has gone
		<-r.Context().Done()
	}
	elsewhere := func(p *oidctest.Provider) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, p.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	}
	signedBy := func(algorithm jose.SignatureAlgorithm) func(*oidctest.Behaviour) {
		return func(b *oidctest.Behaviour) {
			key := b.Keys[0]
			key.Algorithm = "" // it can be used with any
			b.Signer.Algorithm, b.Keys = algorithm, []jose.JSONWebKey{key}
		}
	}
	also := func(members string) func(*oidctest.Behaviour) {
		return func(b *oidctest.Behaviour) {
			signer := b.Signer
			b.Sign = func(c map[string]any) string { return oidctest.SignedText(signer, spliced(t, c, members)) }
		}
	}
	good := oidctest.New(t)
	for name, tt := range map[string]struct {
		edit func(*oidctest.Behaviour)
		want oidc.Kind
	}{
		"mix-up":       {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("iss", good.URL) } }, oidc.BadIssuer},
		"no iss":       {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Del("iss") } }, oidc.BadIssuer},
		"another code": {func(b *oidctest.Behaviour) { b.Redirect = func(q url.Values) { q.Set("code", "another") } }, oidc.BadCode},
		"none":         {func(b *oidctest.Behaviour) { b.Sign = oidctest.Unsigned }, oidc.BadToken},
		"HS256 with the public key": {func(b *oidctest.Behaviour) {
			public := b.Keys[0].Key
			b.Sign = func(c map[string]any) string { return oidctest.SignedByPublicKey(public, c) }
		}, oidc.BadToken},
		"HS256 with the secret": {func(b *oidctest.Behaviour) {
			b.Sign = func(c map[string]any) string {
				return oidctest.Signed(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(oidctest.Secret)}, c)
			}
		}, oidc.BadToken},
		"a symmetric key that the provider shows": {func(b *oidctest.Behaviour) {
			key := []byte(strings.Repeat("k", 32))
			b.Keys = []jose.JSONWebKey{{Key: key, KeyID: "k", Algorithm: "HS256"}}
			b.Sign = func(c map[string]any) string {
				return oidctest.Signed(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, c)
			}
		}, oidc.BadToken},
		"RS512":       {signedBy(jose.RS512), oidc.BadToken},
		"PS256":       {signedBy(jose.PS256), oidc.BadToken},
		"another key": {func(b *oidctest.Behaviour) { b.Signer = other }, oidc.BadToken},
		"another key of that name": {func(b *oidctest.Behaviour) {
			b.Signer = jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: other.Key.(jose.JSONWebKey).Key, KeyID: "first"}}
		}, oidc.BadToken},
		"a key for encryption": {func(b *oidctest.Behaviour) {
			otherPublic.Use = "enc"
			b.Signer, b.Keys = other, []jose.JSONWebKey{otherPublic}
		}, oidc.BadAnswer},
		"a payload that was changed": {func(b *oidctest.Behaviour) {
			signer := b.Signer
			b.Sign = func(c map[string]any) string {
				parts := strings.Split(oidctest.Signed(signer, c), ".")
				c["sub"] = "admin"
				parts[1] = strings.Split(oidctest.Unsigned(c), ".")[1]
				return strings.Join(parts, ".")
			}
		}, oidc.BadToken},
		"userinfo of another person, and this one in another case": {handler("/userinfo", text(200, `{"sub":"admin","SUB":"sub-ann"}`)), oidc.BadUserInfo},
		"SUB beside sub":            {also(`"SUB":"admin"`), oidc.BadToken},
		"sub with a long s":         {also(`"\u017fub":"admin"`), oidc.BadToken},
		"SID beside sid":            {also(`"sid":"own","SID":"other"`), oidc.BadToken},
		"old auth_time":             {also(`"auth_time":1`), oidc.BadToken},
		"old auth_time, AUTH_TIME":  {also(fmt.Sprintf(`"auth_time":1,"AUTH_TIME":%d`, ago(-5*time.Second))), oidc.BadToken},
		"another audience":          {set("aud", "other"), oidc.BadToken},
		"two audiences without azp": {set("aud", []string{oidctest.ClientID, "other"}), oidc.BadToken},
		"another azp":               {set("azp", "other"), oidc.BadToken},
		"another issuer":            {set("iss", good.URL), oidc.BadToken},
		"a slash more":              {func(b *oidctest.Behaviour) { b.Token = func(c map[string]any) { c["iss"] = c["iss"].(string) + "/" } }, oidc.BadToken},
		"expired":                   {set("exp", ago(61*time.Second)), oidc.BadToken},
		"no exp":                    {set("exp", nil), oidc.BadToken},
		"no iat":                    {set("iat", nil), oidc.BadToken},
		"issued before the login":   {set("iat", ago(oidc.CookieLife+90*time.Second)), oidc.BadToken},
		"issued in the future":      {set("iat", ago(-90*time.Second)), oidc.BadToken},
		"not valid yet":             {set("nbf", ago(-90*time.Second)), oidc.BadToken},
		"not valid for long":        {set("nbf", ago(-1000*time.Hour)), oidc.BadToken},
		"nbf that is no time":       {set("nbf", "soon"), oidc.BadToken},
		"no nonce":                  {set("nonce", nil), oidc.BadToken},
		"another nonce":             {set("nonce", "another"), oidc.BadToken},
		"no sub":                    {set("sub", nil), oidc.BadToken},
		"a sub that is too long":    {set("sub", strings.Repeat("x", 257)), oidc.BadToken},
		"a sub with a line break":   {set("sub", "a\nb"), oidc.BadToken},
		"at_hash of another token":  {set("at_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng"), oidc.BadToken},
		"claims of wrong types":     {set("nonce", 1), oidc.BadToken},
		"groups that are none":      {set("groups", map[string]any{"a": 1}), oidc.BadAnswer},
		"a group that is none":      {set("groups", []any{"a", 1}), oidc.BadAnswer},
		"userinfo of another sub":   {func(b *oidctest.Behaviour) { b.UserInfo = map[string]any{"sub": "admin"} }, oidc.BadUserInfo},
		"userinfo of nobody":        {handler("/userinfo", text(200, "{}")), oidc.BadUserInfo},
		"userinfo refused":          {handler("/userinfo", text(401, `{"error":"invalid_token"}`)), oidc.BadAnswer},
		"no ID token":               {handler("/token", text(200, `{"access_token":"x","token_type":"Bearer"}`)), oidc.BadAnswer},
		"no token":                  {handler("/token", text(200, `{}`)), oidc.BadAnswer},
		"token not JSON":            {handler("/token", text(200, `<html>`)), oidc.BadAnswer},
		"token refused":             {handler("/token", text(400, `{"error":"invalid_client"}`)), oidc.BadAnswer},
		"token 500":                 {handler("/token", text(500, "")), oidc.Unavailable},
		"token redirected":          {handler("/token", elsewhere(good)), oidc.BadAnswer},
		"userinfo redirected":       {handler("/userinfo", elsewhere(good)), oidc.BadAnswer},
		"keys redirected":           {handler("/keys", elsewhere(good)), oidc.BadAnswer},
		"discovery redirected":      {handler("/.well-known/openid-configuration", elsewhere(good)), oidc.BadAnswer},
		"discovery huge":            {handler("/.well-known/openid-configuration", huge), oidc.BadAnswer},
		"discovery not JSON":        {handler("/.well-known/openid-configuration", text(200, "<html>")), oidc.BadAnswer},
		"discovery of another":      {func(b *oidctest.Behaviour) { b.Document = func(d map[string]any) { d["issuer"] = good.URL } }, oidc.BadAnswer},
		"endpoints in clear text": {func(b *oidctest.Behaviour) {
			b.Document = func(d map[string]any) { d["token_endpoint"] = "http://192.0.2.1/token" }
		}, oidc.BadAnswer},
		"keys huge":      {handler("/keys", huge), oidc.BadAnswer},
		"token huge":     {handler("/token", huge), oidc.BadAnswer},
		"userinfo huge":  {handler("/userinfo", huge), oidc.BadAnswer},
		"discovery slow": {handler("/.well-known/openid-configuration", slow), oidc.Unavailable},
		"token slow":     {handler("/token", slow), oidc.Unavailable},
		"keys slow":      {handler("/keys", slow), oidc.Unavailable},
		"userinfo slow":  {handler("/userinfo", slow), oidc.Unavailable},
		"denied": {func(b *oidctest.Behaviour) {
			b.Redirect = func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }
		}, oidc.Denied},
		"an error that is none": {func(b *oidctest.Behaviour) {
			b.Redirect = func(q url.Values) { q.Del("code"); q.Set("error", "<script>") }
		}, oidc.BadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := oidctest.New(t)
			p.Edit(tt.edit)
			timeout := time.Minute
			if strings.HasSuffix(name, "slow") {
				timeout = 200 * time.Millisecond
			}
			_, err := login(t, newClient(t, p, func(o *oidc.Options) { o.Timeout = timeout }), oidc.Wanted{Reauth: strings.HasPrefix(name, "old auth_time")})
			require.Error(t, err)
			assert.Equal(t, tt.want, kindOf(t, err), "%v", err)
			assert.NotContains(t, err.Error(), "<script>", "what the provider said is not repeated")
		})
	}
}

// No claim that is checked can be had by a name in another case, not even with the same value.
func TestClaimsInAnotherCase(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	for _, name := range []string{"iss", "aud", "at_hash", "sub", "sid", "azp", "nonce", "exp", "iat", "nbf", "auth_time", "jti", "events"} {
		p.Edit(func(b *oidctest.Behaviour) {
			signer := b.Signer
			b.Sign = func(c map[string]any) string {
				c[strings.ToUpper(name)] = c[name]
				return oidctest.Signed(signer, c)
			}
		})
		_, err := login(t, c, oidc.Wanted{})
		require.Error(t, err, name)
		assert.Equal(t, oidc.BadToken, kindOf(t, err), name)
		_, err = c.Logout(t.Context(), p.LogoutToken(map[string]any{"sub": "ann"}))
		require.Error(t, err, name)
		assert.Equal(t, oidc.BadLogout, kindOf(t, err), name)
	}
}

// Entra ID dates its tokens back by five minutes.
func TestTokenThatIsDatedBack(t *testing.T) {
	p := oidctest.New(t)
	p.Edit(func(b *oidctest.Behaviour) {
		b.Token = func(c map[string]any) {
			c["iat"] = c["iat"].(int64) - 300
			c["nbf"] = c["iat"]
		}
	})
	_, err := login(t, newClient(t, p, nil), oidc.Wanted{Reauth: true})
	require.NoError(t, err)
}

// What differs by less than a minute is the clocks.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-59 * time.Second, 59 * time.Second} {
		p := oidctest.New(t)
		p.Edit(func(b *oidctest.Behaviour) {
			b.Now = func() time.Time { return time.Now().Add(skew) }
			b.Token = func(c map[string]any) { c["exp"], c["nbf"] = c["iat"].(int64)+30, c["iat"] }
		})
		_, err := login(t, newClient(t, p, nil), oidc.Wanted{Reauth: true})
		require.NoError(t, err, skew)
	}
}
