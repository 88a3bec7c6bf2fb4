package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

func TestConfigValidation(t *testing.T) {
	for name, c := range map[string]struct {
		cfg   server.Config
		wrong []string
	}{
		"zero":                 {server.Config{}, nil},
		"origins":              {server.Config{TrustedOrigins: []string{"https://a.example", "http://localhost:5173", "https://[::1]:8443"}}, nil},
		"negative times":       {server.Config{ReadTimeout: -1, IdleTimeout: -1, MaxConnsPerIP: -1}, []string{"read-timeout", "idle-timeout", "max-conns-per-ip"}},
		"negative figures":     {server.Config{RememberTTL: -1, ReauthWithin: -1, MaxConns: -1}, []string{"remember-ttl", "reauth-within", "max-conns -1"}},
		"headers, too small":   {server.Config{MaxHeader: 1023}, []string{"max-header 1023"}},
		"headers, too large":   {server.Config{MaxHeader: 64<<10 + 1}, []string{"max-header 65537"}},
		"idle beyond absolute": {server.Config{Policy: coatcheck.Policy{TTL: 2 * time.Hour, MaxLifetime: time.Hour}}, []string{"max-lifetime"}},
		"policy and cookie": {server.Config{
			Policy: coatcheck.Policy{TTL: time.Minute, RotationGrace: time.Minute},
			Cookie: server.Cookie{Name: " "},
		}, []string{"rotation-grace", "cookie-name"}},
		"origin with a path": {server.Config{TrustedOrigins: []string{"https://a.example/"}}, []string{"trusted-origins"}},
		"origin null":        {server.Config{TrustedOrigins: []string{"null"}}, []string{"trusted-origins"}},
		"origin *":           {server.Config{TrustedOrigins: []string{"*"}}, []string{"trusted-origins"}},
		"origin with *":      {server.Config{TrustedOrigins: []string{"https://*.example"}}, []string{"trusted-origins"}},
		"origin, upper case": {server.Config{TrustedOrigins: []string{"https://A.example"}}, []string{`"https://A.example": browsers write this origin "https://a.example"`}},
		"origin, own port": {
			server.Config{TrustedOrigins: []string{"https://a.example:443", "http://a.example:80"}},
			[]string{`:443": browsers write this origin "https://a.example"`, `:80": browsers write this origin "http://a.example"`},
		},
		"origin, odd port":     {server.Config{TrustedOrigins: []string{"https://a.example:", "https://b.example:0443"}}, []string{`"https://a.example"`, `"https://b.example"`}},
		"origin, no port":      {server.Config{TrustedOrigins: []string{"https://a.example:99999"}}, []string{":99999\": a port is a number from 1 to 65535"}},
		"origin, long IPv6":    {server.Config{TrustedOrigins: []string{"https://[0:0:0:0:0:0:0:1]"}}, []string{`"https://[::1]"`}},
		"origin, short IPv4":   {server.Config{TrustedOrigins: []string{"https://127.1", "https://0x7f.1"}}, []string{`"https://127.1": browsers`, `"https://0x7f.1": browsers`}},
		"origin, userinfo":     {server.Config{TrustedOrigins: []string{"https://a@b.example"}}, []string{"trusted-origins"}},
		"origin, no scheme":    {server.Config{TrustedOrigins: []string{"a.example"}}, []string{"trusted-origins"}},
		"origin, other scheme": {server.Config{TrustedOrigins: []string{"ftp://a.example"}}, []string{"trusted-origins"}},
		"origin, long name":    {server.Config{TrustedOrigins: []string{"https://" + strings.Repeat("a", 255) + ":65535"}}, []string{"no host has so long a name"}},
		"origin, no URL":       {server.Config{TrustedOrigins: []string{"https://a.example:x"}}, []string{"is not an origin"}},
		"origin, empty":        {server.Config{TrustedOrigins: []string{""}}, []string{"trusted-origins"}},
		"login page":           {server.Config{VerifyLoginURL: "https://login.example/in?tenant=a"}, nil},
		"login page, local":    {server.Config{VerifyLoginURL: "http://127.0.0.1:3000/"}, nil},
		"login page, http":     {server.Config{VerifyLoginURL: "http://login.example/"}, []string{"verify-login-url: must be https"}},
		"login page, path":     {server.Config{VerifyLoginURL: "/login"}, []string{"verify-login-url"}},
		"login page, script":   {server.Config{VerifyLoginURL: "javascript:alert(1)"}, []string{"verify-login-url"}},
		"login page, user":     {server.Config{VerifyLoginURL: "https://u:p@login.example/"}, []string{"without a user"}},
		"login page, fragment": {server.Config{VerifyLoginURL: "https://login.example/#x"}, []string{"no fragment"}},
		"login page, rd":       {server.Config{VerifyLoginURL: "https://login.example/?rd=x"}, []string{"no parameter rd"}},
		"login page, a line":   {server.Config{VerifyLoginURL: "https://login.example/?x\r\ny"}, []string{"not a URL"}},
		"login page, a blank":  {server.Config{VerifyLoginURL: "https://login.example/? x"}, []string{"not a URL"}},
		"login page, capitals": {server.Config{VerifyLoginURL: "https://LOGIN.example:443/"}, nil},
		"login page, port":     {server.Config{VerifyLoginURL: "https://login.example:99999/"}, []string{"verify-login-url: a port is"}},
		"login page, 127.1":    {server.Config{VerifyLoginURL: "https://127.1/"}, []string{"verify-login-url: browsers take"}},
		"login page, long":     {server.Config{VerifyLoginURL: "https://login.example/" + strings.Repeat("x", 1024)}, []string{"1024"}},
		"origin, not ASCII":    {server.Config{TrustedOrigins: []string{"https://ü.example"}}, []string{"trusted-origins"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if len(c.wrong) == 0 {
				require.NoError(t, err)
			}
			for _, word := range c.wrong {
				assert.ErrorContains(t, err, word)
			}
		})
	}
	for _, origin := range []string{"https://u:hunter2@b.example", "https://b.example?hunter2", "u:hunter2@b.example"} {
		err := server.Config{TrustedOrigins: []string{origin}}.Validate()
		require.ErrorContains(t, err, "trusted-origins")
		assert.NotContains(t, err.Error(), "hunter2")
	}
	_, err := server.New(newStore(t), server.Config{})
	assert.ErrorContains(t, err, "login: a mode must be named")
	_, err = server.New(newStore(t), server.Config{Login: forgetful{}})
	assert.ErrorContains(t, err, "login: Guesses")
	_, err = server.New(nil, server.Config{Login: login.Open{}})
	assert.Error(t, err)
}

// forgetful is a mode that does not say which secret there is to guess.
type forgetful struct{ login.Open }

func (forgetful) Traits() login.Traits { return login.Traits{Form: login.NameForm} }
