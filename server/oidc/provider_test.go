package oidc_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestMistakes(t *testing.T) {
	p := oidctest.New(t)
	for name, edit := range map[string]func(*oidc.Options){
		"oidc-issuer":       func(o *oidc.Options) { o.Issuer = "http://id.example.com" },
		"oidc-client-id":    func(o *oidc.Options) { o.ClientID = "" },
		"oidc-external-url": func(o *oidc.Options) { o.ExternalURL = "https://auth.example.com/x" },
		"oidc-scopes":       func(o *oidc.Options) { o.Scopes = []string{"email"} },
		"oidc-claims":       func(o *oidc.Options) { o.Claims = []string{"sub=x"} },
		"oidc-allow":        func(o *oidc.Options) { o.Allow = []string{"groups"} },
		"oidc-remote-user":  func(o *oidc.Options) { o.RemoteUser = "groups" },
		"oidc-state-key":    func(o *oidc.Options) { o.StateKeys = nil },
	} {
		opt := options(p)
		edit(&opt)
		_, err := oidc.New(opt)
		require.ErrorContains(t, err, name)
	}
	for _, external := range []string{"https://auth.example.com:99999", "https://127.1"} {
		_, err := oidc.New(func() oidc.Options { o := options(p); o.ExternalURL = external; return o }())
		require.ErrorContains(t, err, "oidc-external-url: ", external)
	}
	opt := options(p)
	opt.Claims, opt.Allow = []string{"a=b", "a=c", "sub", "b="}, []string{"foo", "groups=staff", "bar"}
	_, err := oidc.New(opt)
	require.EqualError(t, err, `oidc-claims: "a": is there already
oidc-claims: "sub": is always the user ID, the sub of the provider
oidc-claims: "b=": must be name=value
oidc-allow: "foo": must be name=value
oidc-allow: "bar": must be name=value`)
	assert.Equal(t, "__Host-coatcheck-oidc-", newClient(t, p, func(o *oidc.Options) { o.ExternalURL = "https://auth.example.com" }).CookiePrefix())
	assert.Contains(t, newClient(t, p, nil).EndSessionURL(t.Context()), p.URL+"/end?client_id=coatcheck")
}
