// Package ownpath decides which addresses are paths on the host that a browser is already at, so that a redirect to one leads to no
// other host.
package ownpath

import (
	"net/url"
	"strings"
)

// Is reports whether a path with its query is one on this host in the eyes of every browser: it begins with one slash, behind
// which neither a second one nor a backslash names a host, and is all visible ASCII without a fragment.
func Is(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.HasPrefix(path, `/\`) &&
		!strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' })
}

// Stays reports whether a path with its query remains one on this host however often a careless page decodes it: it has no
// encoded control bytes, and nowhere in the path a "//" or a backslash after which the rest would name a host.
func Stays(path string) bool {
	if !Is(path) {
		return false
	}
	path, query, _ := strings.Cut(path, "?")
	for range 5 {
		if strings.Contains(path, "//") || strings.Contains(path, `\`) || hasControl(path) || hasControl(query) {
			return false
		}
		p, q := decoded(path), decoded(query)
		if p == path && q == query {
			return true
		}
		path, query = p, q
	}
	return false
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// decoded undoes percent-encoding once. Invalid encodings stay as they are.
func decoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b = append(b, c...)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
