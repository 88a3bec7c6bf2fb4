package percent_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck/internal/percent"
)

func TestEncoding(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"user-42":                  "user-42",
		"100%":                     "100%25",
		"a b":                      "a%20b",
		"\x00\x20\x21\x7E\x7F\xFF": "%00%20!~%7F%FF",
		"ü":                        "%C3%BC",
		`a,"\`:                     `a,"\`,
	} {
		assert.Equal(t, want, string(percent.Append(nil, []byte(text))))
	}
	assert.Equal(t, "a%2Cb%20", string(percent.AppendItem(nil, []byte("a,b "))))
	assert.Equal(t, "x-a%20", string(percent.Append([]byte("x-"), []byte("a "))))
}

// No two texts share an encoding, whoever wrote it.
func TestSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.SampledFrom([]byte("ab%2C4,\xFF")), 0, 6)
		a, b := bytes.Draw(t, "a"), bytes.Draw(t, "b")
		encoded := percent.AppendItem(nil, a)
		assert.Equal(t, string(a), string(percent.Decode(encoded)))
		assert.True(t, percent.Valid(encoded))
		assert.Equal(t, string(a) == string(b), percent.Same(encoded, percent.AppendItem(nil, b)))
		var every strings.Builder
		for _, c := range b {
			digits := "0123456789abcdef"
			every.WriteByte('%')
			every.WriteByte(digits[c>>4])
			every.WriteByte(digits[c&0xF])
		}
		assert.Equal(t, string(a) == string(b), percent.Same([]byte(every.String()), encoded))
	})
	for _, wrong := range []string{"%", "%4", "a%", "%zz", "%4g", "%%41"} {
		assert.False(t, percent.Valid([]byte(wrong)), wrong)
		assert.Equal(t, wrong == "%%41", strings.HasSuffix(string(percent.Decode([]byte(wrong))), "A"), wrong)
	}
}
