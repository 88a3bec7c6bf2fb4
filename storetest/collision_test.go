package storetest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

// A pair that a careless store does not take for one would let it pass.
func TestLookalikesAreAlike(t *testing.T) {
	careless := map[string]func(user string) string{
		"":                                    func(user string) string { return coatcheck.TagOf(user).String() },
		", of users that differ in case only": strings.ToLower,
		", of users that differ behind a NUL only": func(user string) string { return strings.Split(user, "\x00")[0] },
		", of users that differ in trailing spaces only": func(user string) string {
			return strings.TrimRight(user, " ")
		},
		", of users that differ in the last of 256 bytes only": func(user string) string { return user[:255] },
	}
	seen := map[string]bool{}
	for _, like := range allLookalikes() {
		cut := careless[like.name]
		if !assert.NotNil(t, cut, like.name) {
			continue
		}
		for range 6 {
			a, b := like.pair(&harness{T: t})
			assert.NotEqual(t, a, b, like.name)
			assert.Equal(t, cut(a), cut(b), like.name)
			if like.mask == wholeTag {
				assert.Equal(t, coatcheck.TagOf(a), coatcheck.TagOf(b), like.name)
			}
			for _, user := range []string{a, b} {
				assert.LessOrEqual(t, len(user), coatcheck.MaxUserID)
				assert.False(t, seen[user], "%s: a user comes twice", like.name)
				seen[user] = true
			}
		}
	}
}
