package server

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
)

// Cookie is what the session cookie looks like (RFC 6265bis). The zero value is the strictest that works:
// __Host-coatcheck, Secure, HttpOnly, SameSite=Lax, Path=/, no Domain.
type Cookie struct {
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

// maxCookieAge is the longest Max-Age that browsers honour (RFC 6265bis, section 5.5).
const maxCookieAge = 400 * 24 * time.Hour

// maxCookie is the longest name and value that browsers take (RFC 6265bis, section 5.6).
const maxCookie = 4096

var sameSiteNames = map[string]string{"lax": "Lax", "strict": "Strict", "none": "None"}

func (k Cookie) withDefaults() Cookie {
	if k.Name == "" {
		k.Name = "__Host-coatcheck"
	}
	if k.Path == "" {
		k.Path = "/"
	}
	if k.SameSite == "" {
		k.SameSite = "lax"
	}
	return k
}

// Validate returns all mistakes of the cookie, joined: what a browser would refuse to store (RFC 6265bis, sections 4.1.3
// and 5.7) is refused here.
func (k Cookie) Validate() error {
	k = k.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(isToken(k.Name), "cookie-name %.100q: not a token (RFC 9110, section 5.6.2)", k.Name)
	check(len(k.Name)+coatcheck.TokenLen <= maxCookie, "cookie-name: name and value of %d bytes, browsers take at most %d", len(k.Name)+coatcheck.TokenLen, maxCookie)
	check(isDomain(k.Domain), "cookie-domain %.100q: not a host name", k.Domain)
	check(isPath(k.Path), "cookie-path %.100q: must begin with / and have no control characters and no ;", k.Path)
	check(sameSiteNames[k.SameSite] != "", "cookie-same-site %.100q: must be lax, strict or none", k.SameSite)
	check(k.SameSite != "none" || !k.Insecure, "cookie-same-site none: browsers want cookie-secure with it")
	for _, p := range cookiePrefixes {
		if len(k.Name) >= len(p.name) && strings.EqualFold(k.Name[:len(p.name)], p.name) {
			check(k.Name[:len(p.name)] == p.name, "cookie-name %.100q: the prefix is spelled %s", k.Name, p.name)
			check(!k.Insecure, "cookie-name %.100q: %s wants cookie-secure", k.Name, p.name)
			check(!p.host || k.Domain == "", "cookie-name %.100q: %s allows no cookie-domain", k.Name, p.name)
			check(!p.host || k.Path == "/", "cookie-name %.100q: %s wants cookie-path /", k.Name, p.name)
			check(!p.http || !k.ScriptAccess, "cookie-name %.100q: %s wants cookie-http-only", k.Name, p.name)
			break
		}
	}
	return errors.Join(errs...)
}

// cookiePrefixes are the names that browsers tie to attributes; longer ones first.
var cookiePrefixes = []struct {
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

// cookieJar finds and writes the session cookie; it is made once, from a valid Cookie.
type cookieJar struct {
	pair   []byte // "name="
	attrs  string // what follows Max-Age
	expire string // the whole of a clear
}

func newCookieJar(k Cookie) *cookieJar {
	k = k.withDefaults()
	attrs := "; Path=" + k.Path
	if k.Domain != "" {
		attrs += "; Domain=" + k.Domain
	}
	if !k.Insecure {
		attrs += "; Secure"
	}
	if !k.ScriptAccess {
		attrs += "; HttpOnly"
	}
	attrs += "; SameSite=" + sameSiteNames[k.SameSite]
	return &cookieJar{
		pair:   []byte(k.Name + "="),
		attrs:  attrs,
		expire: k.Name + "=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT" + attrs,
	}
}

// find adds every value of the session cookie to p. It reads the Cookie lines as one list in which ; ends a pair whatever
// quotes there are, and matches the name byte by byte, with only the blanks after a ; taken off. It allocates nothing.
func (j *cookieJar) find(h *fasthttp.RequestHeader, p *coatcheck.Presented) {
	for _, line := range h.PeekAll(fasthttp.HeaderCookie) {
		for len(line) > 0 {
			pair := line
			if i := bytes.IndexByte(line, ';'); i >= 0 {
				pair, line = line[:i], line[i+1:]
			} else {
				line = nil
			}
			for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
				pair = pair[1:]
			}
			if bytes.HasPrefix(pair, j.pair) {
				p.Add(pair[len(j.pair):])
			}
		}
	}
}

// write puts into the response what the session asks for, and reports whether that was anything.
func (j *cookieJar) write(h *fasthttp.ResponseHeader, s *coatcheck.Session, now func() time.Time) bool {
	switch s.Cookie() {
	case coatcheck.Expire:
		h.Add(fasthttp.HeaderSetCookie, j.expire)
		return true
	case coatcheck.Set:
		token, left := s.Token(now())
		// At least 1, because 0 would be a clear; the session's own end does not depend on it.
		seconds := max(1, int64(min(left, maxCookieAge)/time.Second))
		b := make([]byte, 0, len(j.pair)+coatcheck.TokenLen+len(j.attrs)+24)
		b = append(b, j.pair...)
		b = token.AppendSecretText(b)
		b = append(b, "; Max-Age="...)
		b = strconv.AppendInt(b, seconds, 10)
		b = append(b, j.attrs...)
		h.AddBytesV(fasthttp.HeaderSetCookie, b)
		return true
	}
	return false
}
