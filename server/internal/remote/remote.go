// Package remote is about the headers in which verify tells a reverse proxy who a user is: what Remote-User shows, and how long the
// values may be.
package remote

import (
	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/percent"
)

const (
	// maxClaims bounds the values of Remote-Name, Remote-Email and Remote-Groups together, in bytes.
	maxClaims = 3 << 10
	// maxValues bounds the same with Remote-User: the answer then fits the 4 KiB that proxies have room for.
	maxValues = 4<<10 - others
	// others bounds everything else of the answer: 850 bytes where TLS ends here, the request has a body, and its Origin is a trusted one
	// of MaxOrigin bytes.
	others = 900
)

// MaxOrigin is the most bytes of an origin that may be trusted: https, a name of DNS with its last dot, and a port.
const MaxOrigin = len("https://") + 254 + len(":65535")

// Fit reports whether verify has room for these claims beside the user that Remote-User shows.
func Fit(user string, claims coatcheck.ClaimSet) bool {
	e := claims.Encoded()
	n := len(e.Name) + len(e.Email) + len(e.Groups)
	return n <= maxClaims && n+len(percent.Append(nil, []byte(user))) <= maxValues
}

// Claim returns a claim that is a string as Remote-User shows it; b may be its space.
func Claim(b []byte, claims coatcheck.EncodedClaims, name string) []byte {
	switch name {
	case coatcheck.ClaimName:
		return claims.Name
	case coatcheck.ClaimEmail:
		return claims.Email
	default:
		claims.Others.Each(name, func(text []byte) bool {
			b = percent.Append(b, text)
			return false
		})
		return b
	}
}
