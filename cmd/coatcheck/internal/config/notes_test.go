package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A setting that is no mistake, but may not do what an operator expects, gets a note.
func TestNotes(t *testing.T) {
	const atProvider = "--login=oidc --oidc-issuer=https://id.example --oidc-client-id=c --oidc-external-url=https://auth.example"
	for name, tt := range map[string]struct {
		args, env string
		want      string // contained in the one note; empty: there is none
	}{
		"all defaults":                    {args: ""},
		"a ttl above the default":         {args: "--ttl=24h", want: "--ttl 24h0m0s (command line) is above the default of --max-lifetime, 12h0m0s"},
		"a variable":                      {env: "COATCHECK_TTL=13h", want: "--ttl 13h0m0s (COATCHECK_TTL) is above"},
		"both are named":                  {args: "--ttl=24h --max-lifetime=24h"},
		"a ttl at the default":            {args: "--ttl=12h"},
		"a lifetime below the default":    {args: "--max-lifetime=10m", want: "--max-lifetime 10m0s (command line) is below the default of --ttl, 30m0s, which is then 10m0s"},
		"a password on the line":          {args: "--store=redis://:s3cret@127.0.0.1:1", want: "the secret in --store stands in the list of processes"},
		"a password in the environment":   {env: "COATCHECK_STORE=redis://:s3cret@127.0.0.1:1"},
		"no password":                     {args: "--store=redis://user@127.0.0.1:1"},
		"a webhook's secret":              {args: "--login=webhook --webhook-url=https://hook.example/?key=s3cret", want: "the secret in --webhook-url stands"},
		"a webhook without":               {args: "--login=webhook --webhook-url=https://hook.example/"},
		"strict, and login at a provider": {args: atProvider + " --cookie-same-site=strict", want: "--cookie-same-site strict with --login oidc: "},
		"lax, and login at a provider":    {args: atProvider},
		"strict, and another login mode":  {args: "--cookie-same-site=strict"},
		"a misspelled variable":           {env: "COATCHECK_LISEN=x", want: "COATCHECK_LISEN names no flag and is ignored; did you mean COATCHECK_LISTEN?"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(append([]string{"--dev"}, strings.Fields(tt.args)...), strings.Fields(tt.env))
			require.NoError(t, err)
			assert.NotContains(t, strings.Join(c.Notes, ""), "s3cret")
			if tt.want == "" {
				assert.Empty(t, c.Notes)
				return
			}
			require.Len(t, c.Notes, 1)
			assert.Contains(t, c.Notes[0], tt.want)
		})
	}
}

// The password goes where the URL of --store has its own, whatever it consists of.
func TestSetRedisPassword(t *testing.T) {
	for store, want := range map[string]string{
		"redis://127.0.0.1:1":                           "redis://:p%40ss%2Fword%3A%23@127.0.0.1:1",
		"redis://user@127.0.0.1:1/3?addr=127.0.0.1:2":   "redis://user:p%40ss%2Fword%3A%23@127.0.0.1:1/3?addr=127.0.0.1:2",
		"rediss://user:@127.0.0.1:1?master_set=primary": "",
		"redis://user:other@127.0.0.1:1":                "",
		"memory":                                        "",
	} {
		c, err := Load([]string{"--dev", "--store", store, "--redis-password-file=/nowhere"}, nil)
		if want == "" {
			assert.ErrorContains(t, err, "--redis-password-file", store)
			assert.NotContains(t, err.Error(), "other")
			continue
		}
		require.NoError(t, err, store)
		require.NoError(t, c.SetRedisPassword("p@ss/word:#"))
		assert.Equal(t, want, c.Redis.URL)
	}
}

// A message names the setting that was probably meant, and nothing else that was typed.
func TestDidYouMean(t *testing.T) {
	for arg, want := range map[string]string{
		"--lisen=1":         "--lisen: no such flag; did you mean --listen?",
		"--user-file":       "--user-file: no such flag; did you mean --users-file?",
		"--wholly-unlike=1": "--wholly-unlike: no such flag",
	} {
		_, err := Load([]string{"--dev", arg}, nil)
		assert.EqualError(t, err, want)
	}
	_, err := Load([]string{"--dev", "--config", write(t, "max_lifetime = 1\nconfg = 1\n")}, nil)
	require.Error(t, err)
	assert.Contains(t, err.Error(), `"max_lifetime": no such setting; did you mean max-lifetime?`)
	assert.Contains(t, err.Error(), `"confg": no such setting (`, "it must not stand in the file")
}
