// Package remote writes the values of the headers in which verify tells a reverse proxy who a user is, and bounds them.
package remote

import "github.com/coatcheck/coatcheck"

const (
	// maxClaims bounds the values of Remote-Name, Remote-Email and Remote-Groups together, in bytes.
	maxClaims = 3 << 10
	// maxValues bounds the same with Remote-User: the answer then fits the 4 KiB that proxies have room for, beside its other
	// headers, which take up to 700 bytes.
	maxValues = maxClaims + 256
)

// Append percent-encodes every byte outside 0x21 to 0x7E, and the percent sign itself, so that no two texts share a value and
// none breaks a line.
func Append(b, s []byte) []byte {
	for _, c := range s {
		if plain(c) {
			b = append(b, c)
		} else {
			b = appendEncoded(b, c)
		}
	}
	return b
}

// AppendGroups is Append for all groups of the claims, with commas between them. A comma within a group is percent-encoded.
func AppendGroups(b []byte, claims coatcheck.ClaimSet) []byte {
	before := len(b)
	claims.Each(coatcheck.ClaimGroups, func(group []byte) bool {
		if len(b) > before {
			b = append(b, ',')
		}
		for _, c := range group {
			if plain(c) && c != ',' {
				b = append(b, c)
			} else {
				b = appendEncoded(b, c)
			}
		}
		return true
	})
	return b
}

// AppendText is Append for a claim that is a string.
func AppendText(b []byte, claims coatcheck.ClaimSet, name string) []byte {
	claims.Each(name, func(text []byte) bool {
		b = Append(b, text)
		return false
	})
	return b
}

// Fit reports whether verify has room for these claims beside the user that Remote-User shows.
func Fit(user string, claims coatcheck.ClaimSet) bool {
	b := AppendText(nil, claims, coatcheck.ClaimName)
	b = AppendText(b, claims, coatcheck.ClaimEmail)
	n := len(AppendGroups(nil, claims)) + len(b)
	return n <= maxClaims && n+len(Append(nil, []byte(user))) <= maxValues
}

func plain(c byte) bool { return c >= 0x21 && c <= 0x7E && c != '%' }

func appendEncoded(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(b, '%', hex[c>>4], hex[c&0xF])
}
