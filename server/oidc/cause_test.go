package oidc_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// An error of net/http quotes a header line that it does not understand. A provider, or who answers in its place, must not write
// into our log by that.
func TestFailuresQuoteNothing(t *testing.T) {
	const canary = "canary-7f3a"
	garbled := func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = out.WriteString("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n") // the client may be gone
		_ = out.Flush()
		_ = conn.Close()
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/userinfo"} {
		t.Run(path, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) { b.Handlers[path] = garbled })
			_, err := login(t, newClient(t, p, nil), oidc.Wanted{})
			require.Error(t, err)
			assert.NotContains(t, err.Error(), canary)
		})
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/authorize"} {
		t.Run("doctor "+path, func(t *testing.T) {
			p := oidctest.New(t)
			p.Edit(func(b *oidctest.Behaviour) { b.Handlers[path] = garbled })
			bad := 0
			for _, f := range newClient(t, p, nil).Examine(t.Context()) {
				assert.NotContains(t, f.Text, canary)
				if f.Bad {
					bad++
				}
			}
			assert.NotZero(t, bad)
		})
	}
}
