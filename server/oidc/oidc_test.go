package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(p *oidctest.Provider) oidc.Options {
	return oidc.Options{
		Issuer: p.URL, ClientID: oidctest.ClientID, Secret: func() string { return oidctest.Secret }, ExternalURL: "http://localhost:4000", StateKeys: oidc.RandomStateKey(),
	}
}

func newClient(t *testing.T, p *oidctest.Provider, edit func(*oidc.Options)) *oidc.Provider {
	t.Helper()
	opt := options(p)
	if edit != nil {
		edit(&opt)
	}
	c, err := oidc.New(opt)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// browse goes to the provider and returns the query of its answer.
func browse(t *testing.T, location string) url.Values {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, location, http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	u, err := url.Parse(resp.Header.Get("Location"))
	require.NoError(t, err)
	return u.Query()
}

// login is a whole login.
func login(t *testing.T, c *oidc.Provider, w oidc.Wanted) (oidc.Identity, error) {
	t.Helper()
	location, cookies, err := c.Begin(t.Context(), w, nil)
	if err != nil {
		return oidc.Identity{}, err
	}
	a, err := c.Answer(browse(t, location), cookies)
	if err != nil {
		return oidc.Identity{}, err
	}
	return a.Identity(t.Context())
}

func kindOf(t *testing.T, err error) oidc.Kind {
	t.Helper()
	f := new(oidc.Failure)
	require.True(t, errors.As(err, &f), "%v", err)
	return f.Kind
}

func TestLogin(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	id, err := login(t, c, oidc.Wanted{Return: "/x"})
	require.NoError(t, err)
	assert.Equal(t, "sub-ann", id.User)
	assert.Equal(t, "session-1", id.Session)
	assert.Equal(t, `{"name":"Ann","email":"ann@example.com","groups":["staff","ops"]}`, string(id.Claims.JSON()))
	for name, key := range map[string]func(string) (jose.SigningKey, jose.JSONWebKey){"RSA": oidctest.NewKey, "EC": oidctest.NewECKey, "Ed25519": oidctest.NewEdKey} {
		signer, public := key(name)
		q := oidctest.New(t)
		q.Edit(func(b *oidctest.Behaviour) { b.Signer, b.Keys = signer, []jose.JSONWebKey{public} })
		_, err := login(t, newClient(t, q, nil), oidc.Wanted{})
		require.NoError(t, err, name)
	}
	public := newClient(t, p, func(o *oidc.Options) { o.Secret = nil })
	p.Edit(func(b *oidctest.Behaviour) { b.AnyCode = true })
	_, err = login(t, public, oidc.Wanted{})
	require.NoError(t, err, "a public client")
}

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
		"another key": {func(b *oidctest.Behaviour) { b.Signer = other }, oidc.BadToken},
		"another key of that name": {func(b *oidctest.Behaviour) {
			b.Signer = jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: other.Key.(jose.JSONWebKey).Key, KeyID: "first"}}
		}, oidc.BadToken},
		"a key for encryption": {func(b *oidctest.Behaviour) {
			otherPublic.Use = "enc"
			b.Signer, b.Keys = other, []jose.JSONWebKey{otherPublic}
		}, oidc.BadToken},
		"a payload that was changed": {func(b *oidctest.Behaviour) {
			signer := b.Signer
			b.Sign = func(c map[string]any) string {
				parts := strings.Split(oidctest.Signed(signer, c), ".")
				c["sub"] = "admin"
				parts[1] = strings.Split(oidctest.Unsigned(c), ".")[1]
				return strings.Join(parts, ".")
			}
		}, oidc.BadToken},
		"another audience":          {set("aud", "other"), oidc.BadToken},
		"two audiences without azp": {set("aud", []string{oidctest.ClientID, "other"}), oidc.BadToken},
		"another azp":               {set("azp", "other"), oidc.BadToken},
		"another issuer":            {set("iss", good.URL), oidc.BadToken},
		"a slash more":              {func(b *oidctest.Behaviour) { b.Token = func(c map[string]any) { c["iss"] = c["iss"].(string) + "/" } }, oidc.BadToken},
		"expired":                   {set("exp", ago(61*time.Second)), oidc.BadToken},
		"no exp":                    {set("exp", nil), oidc.BadToken},
		"no iat":                    {set("iat", nil), oidc.BadToken},
		"issued before the login":   {set("iat", ago(90*time.Second)), oidc.BadToken},
		"issued in the future":      {set("iat", ago(-90*time.Second)), oidc.BadToken},
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
		"userinfo refused":          {handler("/userinfo", text(401, `{"error":"invalid_token"}`)), oidc.BadUserInfo},
		"no ID token":               {handler("/token", text(200, `{"access_token":"x","token_type":"Bearer"}`)), oidc.BadAnswer},
		"no token":                  {handler("/token", text(200, `{}`)), oidc.BadAnswer},
		"token not JSON":            {handler("/token", text(200, `<html>`)), oidc.BadAnswer},
		"token refused":             {handler("/token", text(400, `{"error":"invalid_client"}`)), oidc.BadAnswer},
		"token 500":                 {handler("/token", text(500, "")), oidc.Unavailable},
		"token redirected":          {handler("/token", elsewhere(good)), oidc.BadAnswer},
		"userinfo redirected":       {handler("/userinfo", elsewhere(good)), oidc.BadUserInfo},
		"keys redirected":           {handler("/keys", elsewhere(good)), oidc.Unavailable},
		"discovery redirected":      {handler("/.well-known/openid-configuration", elsewhere(good)), oidc.Unavailable},
		"discovery huge":            {handler("/.well-known/openid-configuration", huge), oidc.Unavailable},
		"discovery not JSON":        {handler("/.well-known/openid-configuration", text(200, "<html>")), oidc.Unavailable},
		"discovery of another":      {func(b *oidctest.Behaviour) { b.Document = func(d map[string]any) { d["issuer"] = good.URL } }, oidc.BadAnswer},
		"endpoints in clear text": {func(b *oidctest.Behaviour) {
			b.Document = func(d map[string]any) { d["token_endpoint"] = "http://192.0.2.1/token" }
		}, oidc.BadAnswer},
		"keys huge":      {handler("/keys", huge), oidc.Unavailable},
		"token huge":     {handler("/token", huge), oidc.BadAnswer},
		"userinfo huge":  {handler("/userinfo", huge), oidc.BadUserInfo},
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
			timeout := 5 * time.Second
			if strings.HasSuffix(name, "slow") {
				timeout = 200 * time.Millisecond
			}
			_, err := login(t, newClient(t, p, func(o *oidc.Options) { o.Timeout = timeout }), oidc.Wanted{})
			require.Error(t, err)
			assert.Equal(t, tt.want, kindOf(t, err), "%v", err)
			assert.NotContains(t, err.Error(), "<script>", "what the provider said is not repeated")
		})
	}
}

// What differs by less than a minute is the clocks.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-59 * time.Second, 59 * time.Second} {
		p := oidctest.New(t)
		p.Edit(func(b *oidctest.Behaviour) {
			b.Now = func() time.Time { return time.Now().Add(skew) }
			b.Token = func(c map[string]any) { c["exp"] = c["iat"].(int64) + 30 }
		})
		_, err := login(t, newClient(t, p, nil), oidc.Wanted{Reauth: true})
		require.NoError(t, err, skew)
	}
}

// A code, a nonce and a state of another login are refused, even by a provider that takes any code.
func TestReplays(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	begin := func() (url.Values, []oidc.Cookie) {
		location, cookies, err := c.Begin(t.Context(), oidc.Wanted{}, nil)
		require.NoError(t, err)
		return browse(t, location), cookies
	}
	mine, cookies := begin()
	theirs, theirCookies := begin()
	identity := func(q url.Values, cookies []oidc.Cookie) error {
		a, err := c.Answer(q, cookies)
		if err != nil {
			return err
		}
		_, err = a.Identity(t.Context())
		return err
	}
	assert.Equal(t, oidc.BadState, kindOf(t, identity(theirs, cookies)), "the state of another browser")
	swapped := url.Values{"state": mine["state"], "code": theirs["code"], "iss": mine["iss"]}
	assert.Equal(t, oidc.BadCode, kindOf(t, identity(swapped, cookies)), "PKCE: the code of another login")
	p.Edit(func(b *oidctest.Behaviour) { b.AnyCode = true })
	assert.Equal(t, oidc.BadToken, kindOf(t, identity(swapped, cookies)), "the nonce, where a provider does not check the code")
	p.Edit(func(b *oidctest.Behaviour) { b.AnyCode = false })
	require.NoError(t, identity(theirs, theirCookies))
	assert.Equal(t, oidc.BadCode, kindOf(t, identity(theirs, theirCookies)), "a code again")
}

func TestReauth(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	for name, tt := range map[string]struct {
		authTime any
		good     bool
	}{"now": {time.Now().Unix(), true}, "long ago": {time.Now().Add(-time.Hour).Unix(), false}, "never": {nil, false}} {
		p.Edit(func(b *oidctest.Behaviour) {
			b.Token = func(claims map[string]any) {
				if claims["auth_time"] = tt.authTime; tt.authTime == nil {
					delete(claims, "auth_time")
				}
			}
		})
		_, err := login(t, c, oidc.Wanted{Reauth: true})
		assert.Equal(t, tt.good, err == nil, "%s: %v", name, err)
		_, err = login(t, c, oidc.Wanted{})
		require.NoError(t, err, "%s: not asked for", name)
	}
}

// Keys are fetched again for one that is not known, but no more than once a minute, and documents are kept as they say.
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
	signer, public := oidctest.NewKey("second")
	p.Edit(func(b *oidctest.Behaviour) { b.Signer, b.Keys = signer, append(b.Keys, public) })
	_, err := login(t, c, oidc.Wanted{})
	require.Error(t, err, "a minute has not passed")
	assert.Equal(t, 1, p.Calls("/keys"))
	now = now.Add(time.Minute)
	for range 3 {
		_, err = login(t, c, oidc.Wanted{})
		require.NoError(t, err)
	}
	assert.Equal(t, 2, p.Calls("/keys"))
	for range 5 {
		_, err = c.Logout(t.Context(), oidctest.Signed(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: signer.Key.(jose.JSONWebKey).Key, KeyID: "made up"}}, map[string]any{"iss": p.URL, "aud": oidctest.ClientID}))
		require.Error(t, err)
	}
	assert.Equal(t, 2, p.Calls("/keys"), "strangers cannot make it fetch")
	now = now.Add(time.Hour)
	_, err = login(t, c, oidc.Wanted{})
	require.NoError(t, err)
	assert.Equal(t, 3, p.Calls("/keys"))
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

func TestIdentity(t *testing.T) {
	for name, tt := range map[string]struct {
		edit     func(*oidc.Options)
		claims   map[string]any
		userInfo map[string]any
		want     string
		fails    oidc.Kind
	}{
		"groups by patterns":         {edit: func(o *oidc.Options) { o.Groups = []string{"team-*", "x*y*z", "ops"} }, claims: map[string]any{"groups": []string{"team-a", "teams", "x1y2z", "xyz1", "ops", "ops2", ""}}, want: `{"groups":["team-a","x1y2z","ops"]}`},
		"names mapped":               {edit: func(o *oidc.Options) { o.Claims = []string{"groups=roles", "email=mail", "name"} }, claims: map[string]any{"roles": []string{"a"}, "mail": "m", "groups": []string{"no"}, "name": "N"}, want: `{"name":"N","email":"m","groups":["a"]}`},
		"one group as a text":        {claims: map[string]any{"groups": "a"}, want: `{"groups":["a"]}`},
		"userinfo over the token":    {claims: map[string]any{"name": "old", "email": "e"}, userInfo: map[string]any{"name": "new", "groups": []string{"g"}}, want: `{"name":"new","email":"e","groups":["g"]}`},
		"other kinds":                {edit: func(o *oidc.Options) { o.Claims = []string{"age", "vip", "l"} }, claims: map[string]any{"age": 42, "vip": true, "l": []string{"x"}}, want: `{"age":"42","l":["x"],"vip":"true"}`},
		"nothing":                    {claims: map[string]any{"name": nil}, want: ""},
		"allowed by a group":         {edit: func(o *oidc.Options) { o.Allow, o.Groups = []string{"groups=admins", "groups=staff"}, []string{"x"} }, claims: map[string]any{"groups": []string{"staff"}}, want: `{"groups":[]}`},
		"allowed by none":            {edit: func(o *oidc.Options) { o.Allow = []string{"groups=admins"} }, claims: map[string]any{"groups": []string{"staff"}}, fails: oidc.NotAllowed},
		"allowed by the address":     {edit: func(o *oidc.Options) { o.Allow, o.Claims = []string{"email=*@example.com"}, []string{"name"} }, claims: map[string]any{"email": "a@Example.com", "email_verified": "true"}, want: ""},
		"another domain":             {edit: func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} }, claims: map[string]any{"email": "a@example.com.evil", "email_verified": true}, fails: oidc.NotAllowed},
		"not verified":               {edit: func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} }, claims: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed},
		"verified by another source": {edit: func(o *oidc.Options) { o.Allow = []string{"email=*@example.com"} }, claims: map[string]any{"email": "a@x", "email_verified": true}, userInfo: map[string]any{"email": "a@example.com"}, fails: oidc.NotAllowed},
		"allowed by sub":             {edit: func(o *oidc.Options) { o.Allow = []string{"sub=sub-*"} }, want: ""},
		"remote user":                {edit: func(o *oidc.Options) { o.RemoteUser = "preferred_username" }, claims: map[string]any{"preferred_username": "ann"}, want: `{"preferred_username":"ann"}`},
		"remote user missing":        {edit: func(o *oidc.Options) { o.RemoteUser = "preferred_username" }, fails: oidc.NotVerified},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) { b.Claims, b.UserInfo = tt.claims, tt.userInfo })
			id, err := login(t, newClient(t, p, tt.edit), oidc.Wanted{})
			if tt.fails != 0 {
				require.Error(t, err)
				assert.Equal(t, tt.fails, kindOf(t, err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, string(id.Claims.JSON()))
		})
	}
}

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
	event := "http://schemas.openid.net/event/backchannel-logout"
	now := time.Now()
	for name, edit := range map[string]map[string]any{
		"no events": {"events": nil}, "another event": {"events": map[string]any{"x": map[string]any{}}}, "an event that is no object": {"events": map[string]any{event: true}},
		"a nonce": {"nonce": "x"}, "an empty nonce": {"nonce": ""}, "no jti": {"jti": nil}, "neither sub nor sid": {"sub": nil}, "another audience": {"aud": "x"}, "another issuer": {"iss": "https://x"},
		"no iat": {"iat": nil}, "no exp": {"exp": nil}, "expired": {"exp": now.Add(-2 * time.Minute).Unix()}, "too old": {"iat": now.Add(-4 * time.Minute).Unix()},
		"of the future": {"iat": now.Add(2 * time.Minute).Unix()}, "two audiences": {"aud": []string{oidctest.ClientID, "x"}},
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

func TestStateKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	first, second := strings.Repeat("a", 32), strings.Repeat("b", 40)
	write := func(lines ...string) {
		require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	}
	write("# the first encrypts", first)
	keys, err := oidc.LoadStateKeys(file)
	require.NoError(t, err)
	p := oidctest.New(t)
	c := newClient(t, p, func(o *oidc.Options) { o.StateKeys = keys })
	location, cookies, err := c.Begin(t.Context(), oidc.Wanted{}, nil)
	require.NoError(t, err)
	query := browse(t, location)
	write(second, first)
	otherKeys, err := oidc.LoadStateKeys(file)
	require.NoError(t, err)
	node := newClient(t, p, func(o *oidc.Options) { o.StateKeys = otherKeys })
	a, err := node.Answer(query, cookies)
	require.NoError(t, err, "another node, and a key that is being replaced")
	_, err = a.Identity(t.Context())
	require.NoError(t, err)
	write(second)
	require.NoError(t, keys.Reload())
	_, err = c.Answer(query, cookies)
	assert.Equal(t, oidc.BadState, kindOf(t, err), "a key that was taken out")
	for _, wrong := range []string{"", "# none", "short", first + "\nshort", first + "\nreplace-with-openssl-rand-hex-32"} {
		write(wrong)
		err := keys.Reload()
		require.Error(t, err, wrong)
		assert.NotContains(t, err.Error(), first)
	}
	_, cookies, err = c.Begin(context.Background(), oidc.Wanted{Return: "/secret"}, nil)
	require.NoError(t, err, "a file with mistakes changes nothing")
	assert.NotContains(t, fmt.Sprint(cookies), "secret")
}

func TestMistakes(t *testing.T) {
	p := oidctest.New(t)
	for name, edit := range map[string]func(*oidc.Options){
		"oidc-issuer":       func(o *oidc.Options) { o.Issuer = "http://id.example.com" },
		"oidc-client-id":    func(o *oidc.Options) { o.ClientID = "" },
		"oidc-external-url": func(o *oidc.Options) { o.ExternalURL = "https://auth.example.com/x" },
		"oidc-scopes":       func(o *oidc.Options) { o.Scopes = []string{"email"} },
		"oidc-claims":       func(o *oidc.Options) { o.Claims = []string{"sub=x"} },
		"oidc-allow":        func(o *oidc.Options) { o.Allow = []string{"groups"} },
		"oidc-state-key":    func(o *oidc.Options) { o.StateKeys = nil },
	} {
		opt := options(p)
		edit(&opt)
		_, err := oidc.New(opt)
		require.ErrorContains(t, err, name)
	}
	assert.Equal(t, "__Host-coatcheck-oidc-", newClient(t, p, func(o *oidc.Options) { o.ExternalURL = "https://auth.example.com" }).CookiePrefix())
	assert.Contains(t, newClient(t, p, nil).EndSessionURL(t.Context()), p.URL+"/end?client_id=coatcheck")
}
