package login

import (
	"slices"
	"strings"
)

// placeholders are what documentation writes in place of a secret, in lower case and without signs. Eight letters and more do
// not stand in a random key by chance.
var placeholders = []string{
	"keyofyourown", "changeme", "changethis", "replaceme", "replacethis", "replacewith", "placeholder", "yourkey", "yoursecret", "yourpassword", "yourloginkey",
	"youradminkey", "examplekey", "samplekey", "opensslrand", "inserthere", "inserta", "putyour", "tobereplaced",
}

// IsPlaceholder reports whether a secret is what a sample has in its place, so that whoever has read the sample knows it.
func IsPlaceholder(secret []byte) bool {
	letters := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return -1
		}
	}, string(secret))
	if slices.Contains([]string{"password", "redispassword", "secret", "key"}, letters) {
		return true
	}
	return slices.ContainsFunc(placeholders, func(p string) bool { return strings.Contains(letters, p) })
}
