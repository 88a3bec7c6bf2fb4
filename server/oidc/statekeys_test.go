package oidc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/oidc"
	"github.com/coatcheck/coatcheck/server/oidc/oidctest"
)

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
