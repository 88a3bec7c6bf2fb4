package ownpath_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/ownpath"
)

const (
	no = iota
	is
	stays
)

var paths = map[string]int{
	"": no, "x": no, "//evil.example": no, `/\evil.example`: no, `\evil.example`: no, "https://evil.example/": no, "?x": no, "/a b": no,
	"/\t/evil.example": no, "/\r\nX: y": no, "/ü": no, "/a#b": no,
	"/a\x00": no, "/\x7f": no,
	"/%2fevil.example": is, "/%5cevil.example": is, "/%252fevil.example": is, "/a//b": is, `/a\b`: is, "/a?b=%0d%0a": is, "/%00": is, "/%25252525252f": is,
	"/": stays, "/a": stays, "/a?b=//c&d=%2F": stays, "/%zz": stays, "/%20": stays,
}

func TestPaths(t *testing.T) {
	for path, want := range paths {
		assert.Equal(t, want >= is, ownpath.Is(path), "%q", path)
		assert.Equal(t, want >= stays, ownpath.Stays(path), "%q", path)
	}
}

// FuzzPaths: to a URL parser that follows RFC 3986, and to one that takes a backslash for a slash as browsers do, a path of this
// host is one, and stays one when it is decoded as a whole.
func FuzzPaths(f *testing.F) {
	for path := range paths {
		f.Add(path)
	}
	here := &url.URL{Scheme: "https", Host: "own.example", Path: "/auth/"}
	stayHere := func(t *testing.T, path string) {
		for _, reading := range []string{path, strings.ReplaceAll(path, `\`, "/"), strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(path)} {
			if u, err := here.Parse(reading); err == nil {
				require.Equal(t, "https://own.example", u.Scheme+"://"+u.Host, "%q read as %q", path, reading)
			}
		}
	}
	f.Fuzz(func(t *testing.T, path string) {
		if ownpath.Is(path) {
			stayHere(t, path)
		}
		if !ownpath.Stays(path) {
			return
		}
		require.True(t, ownpath.Is(path))
		for range 6 {
			stayHere(t, path)
			once, err := url.PathUnescape(path)
			if err != nil {
				return
			}
			path = once
		}
	})
}
