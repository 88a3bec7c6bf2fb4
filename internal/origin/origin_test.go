package origin_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/origin"
)

// Browsers, and Node's URL, have these origins, too. They refuse some of the addresses that are an error here, and read others in a way
// that whoever wrote them may not have meant.
func TestOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://app.example/a?b":        "https://app.example",
		"https://APP.example":            "https://app.example",
		"HTTPS://app.example":            "https://app.example",
		"https://app.example.":           "https://app.example.",
		"https://app.example..":          "https://app.example..",
		"https://app.example:":           "https://app.example",
		"https://app.example:443":        "https://app.example",
		"https://app.example:0443":       "https://app.example",
		"https://app.example:08443":      "https://app.example:8443",
		"https://app.example:80":         "https://app.example:80",
		"http://app.example:80":          "http://app.example",
		"http://app.example:443":         "http://app.example:443",
		"https://app.example:65535":      "https://app.example:65535",
		"https://[0:0:0:0:0:0:0:1]:8443": "https://[::1]:8443",
		"https://[2001:DB8::0:1]":        "https://[2001:db8::1]",
		"https://[::ffff:192.0.2.1]":     "https://[::ffff:c000:201]",
		"https://127.0.0.1":              "https://127.0.0.1",
		"https://1.example":              "https://1.example",
		"https://0x7g":                   "https://0x7g",
		"https://app.example:99999":      "",
		"https://app.example:0":          "",
		"https://127.1":                  "",
		"https://127.0.0.01":             "",
		"https://127.0.0.1.":             "",
		"https://0x7f.1":                 "",
		"https://127.0.0.0x1":            "",
		"https://2130706433":             "",
		"https://app.256":                "",
		"https://[fe80::1%25eth0]":       "",
		"https://\u00fc.example":         "",
		"https://a<b":                    "",
		"https://a>b":                    "",
		"https:///path":                  "",
		"https://:8443":                  "",
	} {
		u, err := url.Parse(address)
		require.NoError(t, err, address)
		got, err := origin.Of(u)
		assert.Equal(t, want, got, address)
		assert.Equal(t, want == "", err != nil, "%s: %v", address, err)
	}
}
