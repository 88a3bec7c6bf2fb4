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

// CKE-02: what a browser would refuse to store is refused at the start.
func TestCookieValidation(t *testing.T) {
	for name, c := range map[string]struct {
		cookie server.Cookie
		wrong  []string // a word of each mistake; none: it is fine
	}{
		"zero":                            {server.Cookie{}, nil},
		"plain name":                      {server.Cookie{Name: "sid"}, nil},
		"every token character":           {server.Cookie{Name: "!#$%&'*+-.^_`|~09azAZ"}, nil},
		"insecure plain name":             {server.Cookie{Name: "coatcheck", Insecure: true}, nil},
		"domain":                          {server.Cookie{Name: "sid", Domain: "example.com"}, nil},
		"path":                            {server.Cookie{Name: "sid", Path: "/app"}, nil},
		"strict":                          {server.Cookie{SameSite: "strict"}, nil},
		"none":                            {server.Cookie{SameSite: "none"}, nil},
		"__Secure-":                       {server.Cookie{Name: "__Secure-sid", Domain: "example.com", Path: "/a"}, nil},
		"__Http-":                         {server.Cookie{Name: "__Http-sid", Path: "/a"}, nil},
		"__Host-Http-":                    {server.Cookie{Name: "__Host-Http-sid"}, nil},
		"__Host- for scripts":             {server.Cookie{Name: "__Host-sid", ScriptAccess: true}, nil},
		"looks like a prefix":             {server.Cookie{Name: "__Hostsid", Insecure: true}, nil},
		"name of 4053 bytes":              {server.Cookie{Name: strings.Repeat("x", 4053)}, nil},
		"default with Domain":             {server.Cookie{Domain: "example.com"}, []string{"cookie-domain"}},
		"default with Path":               {server.Cookie{Path: "/auth"}, []string{"cookie-path"}},
		"default insecure":                {server.Cookie{Insecure: true}, []string{"cookie-secure"}},
		"__Host- with all three":          {server.Cookie{Name: "__Host-a", Domain: "a.example", Path: "/x", Insecure: true}, []string{"cookie-domain", "cookie-path", "cookie-secure"}},
		"__Secure- insecure":              {server.Cookie{Name: "__Secure-a", Insecure: true}, []string{"cookie-secure"}},
		"__Http- for scripts":             {server.Cookie{Name: "__Http-a", ScriptAccess: true}, []string{"cookie-http-only"}},
		"__Http- insecure":                {server.Cookie{Name: "__Http-a", Insecure: true}, []string{"cookie-secure"}},
		"__Host-Http- for scripts":        {server.Cookie{Name: "__Host-Http-a", ScriptAccess: true}, []string{"cookie-http-only"}},
		"__Host-Http- with Domain":        {server.Cookie{Name: "__Host-Http-a", Domain: "a.example"}, []string{"cookie-domain"}},
		"__host-":                         {server.Cookie{Name: "__host-a"}, []string{"spelled __Host-"}},
		"__HOST-":                         {server.Cookie{Name: "__HOST-a"}, []string{"spelled __Host-"}},
		"__secure-":                       {server.Cookie{Name: "__secure-a"}, []string{"spelled __Secure-"}},
		"__host-http-":                    {server.Cookie{Name: "__host-http-a"}, []string{"spelled __Host-Http-"}},
		"__HTTP-":                         {server.Cookie{Name: "__HTTP-a"}, []string{"spelled __Http-"}},
		"none, insecure":                  {server.Cookie{Name: "a", SameSite: "none", Insecure: true}, []string{"cookie-secure"}},
		"SameSite in another case":        {server.Cookie{SameSite: "Lax"}, []string{"cookie-same-site"}},
		"SameSite unknown":                {server.Cookie{SameSite: "lax; Domain=x"}, []string{"cookie-same-site"}},
		"name with blank":                 {server.Cookie{Name: "a b"}, []string{"not a token"}},
		"name with =":                     {server.Cookie{Name: "a=b"}, []string{"not a token"}},
		"name with ;":                     {server.Cookie{Name: "a;b"}, []string{"not a token"}},
		"name with a line":                {server.Cookie{Name: "a\r\nb"}, []string{"not a token"}},
		"name not ASCII":                  {server.Cookie{Name: "sitzüng"}, []string{"not a token"}},
		"name quoted":                     {server.Cookie{Name: `"a"`}, []string{"not a token"}},
		"name in brackets":                {server.Cookie{Name: "a[b]"}, []string{"not a token"}},
		"name and value over 4096 bytes":  {server.Cookie{Name: strings.Repeat("x", 4054)}, []string{"4096"}},
		"domain with ;":                   {server.Cookie{Name: "a", Domain: "x; Path=/"}, []string{"cookie-domain"}},
		"domain with a line":              {server.Cookie{Name: "a", Domain: "x\r\n"}, []string{"cookie-domain"}},
		"domain with a port":              {server.Cookie{Name: "a", Domain: "x:80"}, []string{"cookie-domain"}},
		"domain with two dots":            {server.Cookie{Name: "a", Domain: "a..b"}, []string{"cookie-domain"}},
		"relative path":                   {server.Cookie{Name: "a", Path: "x"}, []string{"cookie-path"}},
		"path with ;":                     {server.Cookie{Name: "a", Path: "/; Domain=x"}, []string{"cookie-path"}},
		"path with a line":                {server.Cookie{Name: "a", Path: "/\n"}, []string{"cookie-path"}},
		"everything wrong, told together": {server.Cookie{Name: "__host-\x00", Domain: ";", Path: ";", SameSite: "x"}, []string{"not a token", "cookie-domain", "cookie-path", "cookie-same-site", "spelled"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cookie.Validate()
			if len(c.wrong) == 0 {
				require.NoError(t, err)
				return
			}
			for _, word := range c.wrong {
				assert.ErrorContains(t, err, word)
			}
			_, err = server.New(newStore(t), server.Config{Login: login.Open{}, Cookie: c.cookie})
			assert.Error(t, err, "New refuses it, too")
		})
	}
}

func TestConfigValidation(t *testing.T) {
	for name, c := range map[string]struct {
		cfg   server.Config
		wrong []string
	}{
		"zero":                 {server.Config{}, nil},
		"origins":              {server.Config{TrustedOrigins: []string{"https://a.example", "http://localhost:5173", "https://[::1]:8443"}}, nil},
		"negative times":       {server.Config{ReadTimeout: -1, IdleTimeout: -1, MaxConnsPerIP: -1}, []string{"read-timeout", "idle-timeout", "max-conns-per-ip"}},
		"idle beyond absolute": {server.Config{Policy: coatcheck.Policy{TTL: 2 * time.Hour, MaxLifetime: time.Hour}}, []string{"max-lifetime"}},
		"policy and cookie":    {server.Config{Policy: coatcheck.Policy{TTL: time.Minute, RotationGrace: time.Minute}, Cookie: server.Cookie{Name: " "}}, []string{"rotation-grace", "cookie-name"}},
		"origin with a path":   {server.Config{TrustedOrigins: []string{"https://a.example/"}}, []string{"trusted-origins"}},
		"origin null":          {server.Config{TrustedOrigins: []string{"null"}}, []string{"trusted-origins"}},
		"origin *":             {server.Config{TrustedOrigins: []string{"*"}}, []string{"trusted-origins"}},
		"origin with *":        {server.Config{TrustedOrigins: []string{"https://*.example"}}, []string{"trusted-origins"}},
		"origin, upper case":   {server.Config{TrustedOrigins: []string{"https://A.example"}}, []string{"trusted-origins"}},
		"origin, own port":     {server.Config{TrustedOrigins: []string{"https://a.example:443", "http://a.example:80"}}, []string{":443", ":80"}},
		"origin, userinfo":     {server.Config{TrustedOrigins: []string{"https://a@b.example"}}, []string{"trusted-origins"}},
		"origin, no scheme":    {server.Config{TrustedOrigins: []string{"a.example"}}, []string{"trusted-origins"}},
		"origin, other scheme": {server.Config{TrustedOrigins: []string{"ftp://a.example"}}, []string{"trusted-origins"}},
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
	_, err := server.New(newStore(t), server.Config{})
	assert.ErrorContains(t, err, "login: a mode must be named")
	_, err = server.New(nil, server.Config{Login: login.Open{}})
	assert.Error(t, err)
}
