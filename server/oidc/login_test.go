package oidc_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

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

// Of more logins than a browser may have on their way the latest are kept, also where all of them began in one millisecond.
func TestLatestLoginsAreKept(t *testing.T) {
	now := time.Now()
	c := newClient(t, oidctest.New(t), func(o *oidc.Options) { o.Now = func() time.Time { return now } })
	var jar, began []oidc.Cookie // the jar has them in the order in which browsers send them, the oldest first
	for range 8 {
		_, set, err := c.Begin(t.Context(), oidc.Wanted{}, jar)
		require.NoError(t, err)
		began = append(began, set[0])
		for _, cleared := range set[1:] {
			assert.Empty(t, cleared.Value)
			jar = slices.DeleteFunc(jar, func(c oidc.Cookie) bool { return c.Name == cleared.Name })
		}
		jar = append(jar, set[0])
		assert.Equal(t, began[max(0, len(began)-4):], jar)
	}
}

// A code that no provider has given out is not sent to one: RFC 6749, A.11, allows 0x20 to 0x7E. Long ones exist: Entra's have more
// than 2,000 bytes.
func TestCodes(t *testing.T) {
	p := oidctest.New(t)
	c := newClient(t, p, nil)
	location, cookies, err := c.Begin(t.Context(), oidc.Wanted{}, nil)
	require.NoError(t, err)
	q := browse(t, location)
	for _, code := range []string{"", "\x00", "x\x1f", "x\x7f", "\x80", "é", "x\r\n", strings.Repeat("x", 8<<10+1)} {
		q.Set("code", code)
		_, err := c.Answer(q, cookies)
		assert.Equal(t, oidc.BadCallback, kindOf(t, err), "%.10q", code)
	}
	for _, code := range []string{" ", "~", "0.AX-_%+/=", strings.Repeat("x", 8<<10)} {
		q.Set("code", code)
		a, err := c.Answer(q, cookies)
		require.NoError(t, err, "%.10q", code)
		_, err = a.Identity(t.Context())
		assert.Equal(t, oidc.BadCode, kindOf(t, err), "%.10q", code)
	}
	q.Del("code")
	q.Set("error", "access_denied")
	_, err = c.Answer(q, cookies)
	assert.NoError(t, err, "an error has no code")
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
