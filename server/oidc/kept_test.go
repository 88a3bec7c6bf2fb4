package oidc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

// A provider's documents are kept as their headers say, but for a minute where they say not at all, and for a day at most.
func TestDocumentsAreKept(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	for name, tt := range map[string]struct {
		header map[string]string
		want   time.Duration
	}{
		"nothing said":                  {nil, 5 * time.Minute},
		"two seconds":                   {map[string]string{"Cache-Control": "public, max-age=2"}, 2 * time.Second},
		"an hour":                       {map[string]string{"Cache-Control": `max-age="3600"`}, time.Hour},
		"a year":                        {map[string]string{"Cache-Control": "max-age=31536000"}, 24 * time.Hour},
		"none":                          {map[string]string{"Cache-Control": "max-age=0"}, time.Minute},
		"a negative time":               {map[string]string{"Cache-Control": "max-age=-9223372036854775807"}, time.Minute},
		"no-store":                      {map[string]string{"Cache-Control": "max-age=3600, no-store"}, time.Minute},
		"no-cache":                      {map[string]string{"Cache-Control": "no-cache"}, time.Minute},
		"Age":                           {map[string]string{"Cache-Control": "max-age=3600", "Age": "3590"}, 10 * time.Second},
		"Age, over":                     {map[string]string{"Cache-Control": "max-age=3600", "Age": "9223372036854775807"}, time.Minute},
		"Expires":                       {map[string]string{"Date": at(-time.Hour), "Expires": at(-time.Hour + 10*time.Second)}, 10 * time.Second},
		"Expires, which does not count": {map[string]string{"Date": at(0), "Expires": at(time.Hour), "Cache-Control": "max-age=10"}, 10 * time.Second},
		"Expires in the past":           {map[string]string{"Date": at(0), "Expires": at(-time.Hour)}, time.Minute},
		"more than a number can say":    {map[string]string{"Cache-Control": "max-age=99999999999999999999"}, 24 * time.Hour},
		"most of it over":               {map[string]string{"Cache-Control": "max-age=604800", "Age": "604790"}, 10 * time.Second},
		"more than a day, later":        {map[string]string{"Date": at(0), "Expires": at(48 * time.Hour)}, 24 * time.Hour},
		"Expires that is no time":       {map[string]string{"Expires": "0", "Age": "1"}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.New(t)
			now := now
			p.Edit(func(b *oidctest.Behaviour) {
				body, err := json.Marshal(jose.JSONWebKeySet{Keys: b.Keys})
				require.NoError(t, err)
				b.Now = func() time.Time { return now }
				b.Handlers["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
					for name, value := range tt.header {
						w.Header().Set(name, value)
					}
					_, _ = w.Write(body)
				}
			})
			c := newClient(t, p, func(o *oidc.Options) { o.Now = func() time.Time { return now } })
			for _, step := range []struct {
				after time.Duration
				calls int
			}{{0, 1}, {tt.want - time.Millisecond, 1}, {time.Millisecond, 2}} {
				now = now.Add(step.after)
				_, err := login(t, c, oidc.Wanted{})
				require.NoError(t, err)
				assert.Equal(t, step.calls, p.Calls("/keys"), step.after)
			}
		})
	}
}

// What is out of date when it arrives, because its fetch took longer than it may be kept, serves those who waited for it. Each would fetch
// it again, one after the other.
func TestDocumentsThatArriveLateAreKept(t *testing.T) {
	for _, late := range []string{"/keys", "/.well-known/openid-configuration"} {
		t.Run(late, func(t *testing.T) {
			p := oidctest.New(t)
			now := time.Now()
			p.Edit(func(b *oidctest.Behaviour) {
				body, err := json.Marshal(jose.JSONWebKeySet{Keys: b.Keys})
				require.NoError(t, err)
				if late != "/keys" {
					body = fmt.Appendf(nil, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"jwks_uri":%q,"code_challenge_methods_supported":["S256"]}`,
						p.URL, p.URL+"/authorize", p.URL+"/token", p.URL+"/keys")
				}
				b.Now = func() time.Time { return now }
				b.Handlers[late] = func(w http.ResponseWriter, _ *http.Request) {
					now = now.Add(2 * time.Second)
					w.Header().Set("Cache-Control", "max-age=1")
					_, _ = w.Write(body)
				}
			})
			c := newClient(t, p, func(o *oidc.Options) { o.Now = func() time.Time { return now } })
			for range 3 {
				_, err := login(t, c, oidc.Wanted{})
				require.NoError(t, err)
			}
			assert.Equal(t, 1, p.Calls(late))
		})
	}
}
