package oidc_test

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(p *oidctest.Provider) oidc.Options {
	return oidc.Options{
		Issuer: p.URL, ClientID: oidctest.ClientID, Secret: func() string { return oidctest.Secret }, ExternalURL: "http://localhost:4000", StateKeys: oidc.RandomStateKey(),
		Timeout: time.Minute, // of a request, also on a busy machine
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
