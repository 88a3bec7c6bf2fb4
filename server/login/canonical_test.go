package login_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck/server/login"
)

func TestCanonical(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"alice", "alice"},
		{"Alice", "alice"},
		{"ALICE ", "alice"},
		{"\u00a0alice\u3000", "alice"},
		{"Ａｌｉｃｅ", "alice"},
		{"ᴬlice", "alice"},
		{"ALICE@Example.COM", "alice@example.com"},
		{"José", "josé"},
		{"Jose\u0301", "josé"},
		{"STRASSE", "strasse"},
		{"Straße", "strasse"},
		{"ΣΊΣΥΦΟΣ", "σίσυφοσ"},
		{"Σίσυφος", "σίσυφοσ"},
		{"ᎠᏴ", "ᎠᏴ"},
		{"ꭰᏼ", "ᎠᏴ"},
		{"İstanbul", "istanbul"},
		{"ﬁnn", "finn"},
		{"K", "k"}, // the Kelvin sign
		{"ann lee", "ann lee"},
		{"urn:ann:1", "urn:ann:1"},
		{" ", ""},
		{"", ""},
	} {
		assert.Equal(t, tc.want, login.Canonical(tc.name), "%q", tc.name)
	}
	assert.NotEqual(t, login.Canonical("alice"), login.Canonical("аlice"), "a Cyrillic а is another letter")
	assert.NotEqual(t, login.Canonical("a b"), login.Canonical("ab"))
}

// All cases of a letter have the same canonical form, and the canonical form of a canonical name is that name itself, also with
// marks that move when they are normalised.
func TestCanonicalLetters(t *testing.T) {
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) || unicode.In(r, unicode.Han, unicode.Hangul) { // these two scripts have no cases, and most of all letters
			continue
		}
		c := login.Canonical(string(r))
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			require.Equal(t, c, login.Canonical(string(other)), "%U and %U", r, other)
		}
		require.Equal(t, c, login.Canonical(c), "%U", r)
		marked := login.Canonical(string(r) + "\u0345\u0323\u0301")
		require.Equal(t, marked, login.Canonical(marked), "%U", r)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"Alice", "ᾳ\u0345", "\u1fb3\u0301ͅ", "ǰ", "ŉ", "İi̇", "ﷺ", "\u1e9e", "Å", "\u0345\u0300", "\ufdfa ", "꜀a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := login.Canonical(s)
		assert.Equal(t, c, login.Canonical(c), "a canonical name is its own canonical form")
		assert.Equal(t, c, login.Canonical(" "+s+"\u2003"))
		if isASCII(s) {
			assert.Equal(t, c, login.Canonical(strings.ToUpper(s)))
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f })
}

// The fast path for ASCII gives the same result as the general one.
func TestCanonicalOfASCII(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.RuneFrom(nil, &unicode.RangeTable{R16: []unicode.Range16{{Lo: ' ', Hi: '~', Stride: 1}}})).Draw(t, "name")
		c := login.Canonical(s + "é") // not ASCII
		assert.Equal(t, strings.TrimLeft(strings.ToLower(s), " ")+"é", c)
		assert.Equal(t, strings.TrimSpace(strings.TrimSuffix(c, "é")), login.Canonical(s))
		assert.Equal(t, login.Canonical(s), login.Skeleton(login.Canonical(s)))
	})
}

func BenchmarkCanonical(b *testing.B) {
	for name, text := range map[string]string{"ASCII": strings.Repeat("A", 256), "longest": strings.Repeat("\ufdfa", 85), "marks": "a" + strings.Repeat("\u0345", 127)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = login.Skeleton(login.Canonical(text))
			}
		})
	}
}
