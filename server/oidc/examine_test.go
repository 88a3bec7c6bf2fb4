package oidc_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestExamine(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*oidctest.Behaviour)
		opt  func(*oidc.Options)
		bad  string // what is found to be bad; empty: nothing
	}{
		"a good one": {},
		"down":       {edit: func(b *oidctest.Behaviour) { b.Handlers["/.well-known/openid-configuration"] = http.NotFound }, bad: "provider"},
		"no keys":    {edit: func(b *oidctest.Behaviour) { b.Keys = nil }, bad: "provider"},
		"a clock":    {opt: func(o *oidc.Options) { o.Now = func() time.Time { return time.Now().Add(2 * time.Minute) } }, bad: "provider-clock"},
		"a scope":    {opt: func(o *oidc.Options) { o.Scopes = []string{"openid", "groups"} }, bad: "provider-scopes"},
		"no PKCE": {edit: func(b *oidctest.Behaviour) {
			b.Document = func(d map[string]any) { d["code_challenge_methods_supported"] = []string{"plain"} }
		}, bad: "provider-pkce"},
		"another redirect URI": {edit: func(b *oidctest.Behaviour) {
			b.Handlers["/authorize"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }
		}, bad: "provider-client"},
		"a client that is refused": {edit: func(b *oidctest.Behaviour) {
			b.Handlers["/authorize"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/x?error=unauthorized_client", http.StatusFound)
			}
		}, bad: "provider-client"},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			if tt.edit != nil {
				p.Edit(tt.edit)
			}
			bad := ""
			for _, f := range newClient(t, p, tt.opt).Examine(t.Context()) {
				if f.Bad {
					bad += f.About
				}
				assert.NotEmpty(t, f.Text)
			}
			assert.Equal(t, tt.bad, bad)
		})
	}
}
