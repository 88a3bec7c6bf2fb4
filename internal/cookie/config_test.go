package cookie_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/cookie"
)

// CKE-02: what a browser would refuse to store is refused at the start.
func TestCookieValidation(t *testing.T) {
	for name, c := range map[string]struct {
		cookie cookie.Config
		wrong  []string // a word of each mistake; none: it is fine
	}{
		"zero":                           {cookie.Config{}, nil},
		"plain name":                     {cookie.Config{Name: "sid"}, nil},
		"every token character":          {cookie.Config{Name: "!#$%&'*+-.^_`|~09azAZ"}, nil},
		"insecure plain name":            {cookie.Config{Name: "coatcheck", Insecure: true}, nil},
		"domain":                         {cookie.Config{Name: "sid", Domain: "example.com"}, nil},
		"path":                           {cookie.Config{Name: "sid", Path: "/app"}, nil},
		"strict":                         {cookie.Config{SameSite: "strict"}, nil},
		"none":                           {cookie.Config{SameSite: "none"}, nil},
		"__Secure-":                      {cookie.Config{Name: "__Secure-sid", Domain: "example.com", Path: "/a"}, nil},
		"__Http-":                        {cookie.Config{Name: "__Http-sid", Path: "/a"}, nil},
		"__Host-Http-":                   {cookie.Config{Name: "__Host-Http-sid"}, nil},
		"__Host- for scripts":            {cookie.Config{Name: "__Host-sid", ScriptAccess: true}, nil},
		"looks like a prefix":            {cookie.Config{Name: "__Hostsid", Insecure: true}, nil},
		"name of 4053 bytes":             {cookie.Config{Name: strings.Repeat("x", 4053)}, nil},
		"default with Domain":            {cookie.Config{Domain: "example.com"}, []string{"cookie-domain"}},
		"default with Path":              {cookie.Config{Path: "/auth"}, []string{"cookie-path"}},
		"default insecure":               {cookie.Config{Insecure: true}, []string{"cookie-secure"}},
		"__Host- with all three":         {cookie.Config{Name: "__Host-a", Domain: "a.example", Path: "/x", Insecure: true}, []string{"cookie-domain", "cookie-path", "cookie-secure"}},
		"__Secure- insecure":             {cookie.Config{Name: "__Secure-a", Insecure: true}, []string{"cookie-secure"}},
		"__Http- for scripts":            {cookie.Config{Name: "__Http-a", ScriptAccess: true}, []string{"cookie-http-only"}},
		"__Http- insecure":               {cookie.Config{Name: "__Http-a", Insecure: true}, []string{"cookie-secure"}},
		"__Host-Http- for scripts":       {cookie.Config{Name: "__Host-Http-a", ScriptAccess: true}, []string{"cookie-http-only"}},
		"__Host-Http- with Domain":       {cookie.Config{Name: "__Host-Http-a", Domain: "a.example"}, []string{"cookie-domain"}},
		"__host-":                        {cookie.Config{Name: "__host-a"}, []string{"spelled __Host-"}},
		"__HOST-":                        {cookie.Config{Name: "__HOST-a"}, []string{"spelled __Host-"}},
		"__secure-":                      {cookie.Config{Name: "__secure-a"}, []string{"spelled __Secure-"}},
		"__host-http-":                   {cookie.Config{Name: "__host-http-a"}, []string{"spelled __Host-Http-"}},
		"__HTTP-":                        {cookie.Config{Name: "__HTTP-a"}, []string{"spelled __Http-"}},
		"none, insecure":                 {cookie.Config{Name: "a", SameSite: "none", Insecure: true}, []string{"cookie-secure"}},
		"SameSite in another case":       {cookie.Config{SameSite: "Lax"}, []string{"cookie-same-site"}},
		"SameSite unknown":               {cookie.Config{SameSite: "lax; Domain=x"}, []string{"cookie-same-site"}},
		"name with blank":                {cookie.Config{Name: "a b"}, []string{"not a token"}},
		"name with =":                    {cookie.Config{Name: "a=b"}, []string{"not a token"}},
		"name with ;":                    {cookie.Config{Name: "a;b"}, []string{"not a token"}},
		"name with a line":               {cookie.Config{Name: "a\r\nb"}, []string{"not a token"}},
		"name not ASCII":                 {cookie.Config{Name: "sitzüng"}, []string{"not a token"}},
		"name quoted":                    {cookie.Config{Name: `"a"`}, []string{"not a token"}},
		"name in brackets":               {cookie.Config{Name: "a[b]"}, []string{"not a token"}},
		"name and value over 4096 bytes": {cookie.Config{Name: strings.Repeat("x", 4054)}, []string{"4096"}},
		"domain with ;":                  {cookie.Config{Name: "a", Domain: "x; Path=/"}, []string{"cookie-domain"}},
		"domain with a line":             {cookie.Config{Name: "a", Domain: "x\r\n"}, []string{"cookie-domain"}},
		"domain with a port":             {cookie.Config{Name: "a", Domain: "x:80"}, []string{"cookie-domain"}},
		"domain with two dots":           {cookie.Config{Name: "a", Domain: "a..b"}, []string{"cookie-domain"}},
		"relative path":                  {cookie.Config{Name: "a", Path: "x"}, []string{"cookie-path"}},
		"path with ;":                    {cookie.Config{Name: "a", Path: "/; Domain=x"}, []string{"cookie-path"}},
		"path with a line":               {cookie.Config{Name: "a", Path: "/\n"}, []string{"cookie-path"}},
		"everything wrong, told together": {cookie.Config{Name: "__host-\x00", Domain: ";", Path: ";", SameSite: "x"}, []string{
			"not a token",
			"cookie-domain", "cookie-path", "cookie-same-site", "spelled",
		}},
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
			_, err = cookie.New(c.cookie)
			assert.Error(t, err, "New refuses it, too")
		})
	}
}
