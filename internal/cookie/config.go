package cookie

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Config is what the session cookie looks like (RFC 6265bis). The zero value is the strictest that works:
// __Host-coatcheck, Secure, HttpOnly, SameSite=Lax, Path=/, no Domain.
type Config struct {
	// Name of the cookie. Empty: __Host-coatcheck.
	Name string
	// Domain makes the cookie go to subdomains too. Empty: to this host only.
	Domain string
	// Path below which the cookie is sent. Empty: /.
	Path string
	// Insecure leaves Secure out, so that the cookie also goes over plain http.
	Insecure bool
	// ScriptAccess leaves HttpOnly out, so that scripts in the page can read the cookie.
	ScriptAccess bool
	// SameSite is "lax", "strict" or "none". Empty: lax.
	SameSite string
}

// maxAge is the longest Max-Age that browsers honour (RFC 6265bis, section 5.5).
const maxAge = 400 * 24 * time.Hour

// maxPair is the longest name and value, together, that browsers accept (RFC 6265bis, section 5.6).
const maxPair = 4096

var sameSite = map[string]string{"lax": "Lax", "strict": "Strict", "none": "None"}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "__Host-coatcheck"
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.SameSite == "" {
		c.SameSite = "lax"
	}
	return c
}

// Validate returns all mistakes of the cookie, joined: what a browser would refuse to store (RFC 6265bis, sections 4.1.3
// and 5.7) is refused here.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(isToken(c.Name), "cookie-name %.100q: not a token (RFC 9110, section 5.6.2)", c.Name)
	check(len(c.Name)+coatcheck.TokenLen <= maxPair, "cookie-name: name and value of %d bytes, browsers take at most %d", len(c.Name)+coatcheck.TokenLen, maxPair)
	check(isDomain(c.Domain), "cookie-domain %.100q: not a host name", c.Domain)
	check(isPath(c.Path), "cookie-path %.100q: must begin with / and have no control characters and no ;", c.Path)
	check(sameSite[c.SameSite] != "", "cookie-same-site %.100q: must be lax, strict or none", c.SameSite)
	check(c.SameSite != "none" || !c.Insecure, "cookie-same-site none: browsers want cookie-secure with it")
	for _, p := range prefixes {
		if len(c.Name) >= len(p.name) && strings.EqualFold(c.Name[:len(p.name)], p.name) {
			check(c.Name[:len(p.name)] == p.name, "cookie-name %.100q: the prefix is spelled %s", c.Name, p.name)
			check(!c.Insecure, "cookie-name %.100q: %s wants cookie-secure", c.Name, p.name)
			check(!p.host || c.Domain == "", "cookie-name %.100q: %s allows no cookie-domain", c.Name, p.name)
			check(!p.host || c.Path == "/", "cookie-name %.100q: %s wants cookie-path /", c.Name, p.name)
			check(!p.http || !c.ScriptAccess, "cookie-name %.100q: %s wants cookie-http-only", c.Name, p.name)
			break
		}
	}
	return errors.Join(errs...)
}

// prefixes are the prefixes of names that browsers tie to attributes; longer ones first.
var prefixes = []struct {
	name       string
	host, http bool
}{
	{"__Host-Http-", true, true},
	{"__Host-", true, false},
	{"__Secure-", false, false},
	{"__Http-", false, true},
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isDomain(s string) bool {
	for _, c := range []byte(strings.TrimPrefix(s, ".")) {
		alnum := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alnum && c != '-' && c != '.' {
			return false
		}
	}
	return s != "." && !strings.Contains(s, "..")
}

func isPath(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c >= 0x7f || c == ';' {
			return false
		}
	}
	return strings.HasPrefix(s, "/")
}
