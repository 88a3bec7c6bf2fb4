package doctor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestProvider(t *testing.T) {
	p := oidctest.New(t)
	c, err := config.Load([]string{"--admin-listen=127.0.0.1:1", "--login=oidc", "--oidc-issuer=" + p.URL, "--oidc-client-id=c", "--oidc-external-url=http://localhost:3000"}, nil)
	require.NoError(t, err)
	for ahead, want := range map[time.Duration]string{0: doctor.Fine, 2 * time.Minute: doctor.Problem} {
		provider, err := oidc.New(oidc.Options{
			Issuer: p.URL, ClientID: "c", ExternalURL: "http://localhost:3000", StateKeys: oidc.RandomStateKey(), Now: func() time.Time { return time.Now().Add(ahead) },
		})
		require.NoError(t, err)
		address, err := doctor.PublicURL("https://other.example")
		require.NoError(t, err)
		found := make(map[string]string)
		for _, v := range doctor.Examine(t.Context(), c, provider, nil, address) {
			found[v.Check] = v.Result
		}
		assert.Equal(t, want, found["provider-clock"])
		assert.Equal(t, doctor.Fine, found["provider"])
		assert.Equal(t, doctor.Fine, found["provider-client"])
		assert.Equal(t, doctor.Warning, found["provider-redirect"], "--url is another address")
	}
}

// Nobody is warned of another origin where the same one is written in another way.
func TestProviderAtTheSameOrigin(t *testing.T) {
	p := oidctest.New(t)
	c, err := config.Load([]string{"--admin-listen=127.0.0.1:1", "--login=oidc", "--oidc-issuer=" + p.URL, "--oidc-client-id=c", "--oidc-external-url=https://app.example"}, nil)
	require.NoError(t, err)
	for external, want := range map[string]int{
		"https://app.example": 0, "https://APP.example": 0, "https://app.example:443": 0, "https://app.example:8443": 1, "https://other.example": 1,
	} {
		t.Run(external, func(t *testing.T) {
			provider, err := oidc.New(oidc.Options{Issuer: p.URL, ClientID: "c", ExternalURL: external, StateKeys: oidc.RandomStateKey(), Now: time.Now})
			require.NoError(t, err)
			address, err := doctor.PublicURL("https://App.example")
			require.NoError(t, err)
			warnings := 0
			for _, v := range doctor.Examine(t.Context(), c, provider, nil, address) {
				if v.Check == "provider-redirect" {
					warnings++
				}
			}
			assert.Equal(t, want, warnings)
		})
	}
}
