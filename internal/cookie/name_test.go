package cookie_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
)

func TestNameCookie(t *testing.T) {
	c, err := cookie.New(cookie.Config{})
	require.NoError(t, err)
	key := coatcheck.Key{0: 1, 15: 2}
	name := key.String()
	assert.Equal(t, "__Host-coatcheck-name="+name+"; Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=None", c.NameLine(key, time.Hour))
	assert.Contains(t, c.NameLine(key, 0), "; Max-Age=1;", "0 would clear it")
	assert.Contains(t, c.NameLine(key, time.Hour-time.Nanosecond), "; Max-Age=3600;", "the answer leaves a moment after the session began")
	assert.Contains(t, c.NameLine(key, time.Hour+time.Nanosecond), "; Max-Age=3601;")
	assert.Contains(t, c.NameLine(key, 500*24*time.Hour), "; Max-Age=34560000;")
	assert.Equal(t, "__Host-coatcheck-name=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=None", c.ClearNameLine())
	assert.Equal(t, "Path=/; Secure; HttpOnly; SameSite=Lax", c.Attributes())

	other := coatcheck.Key{0: 3}.String()
	for line, found := range map[string]bool{
		"__Host-coatcheck-name=" + name:                                      true,
		"a=b; __Host-coatcheck-name=" + name + "; c=d":                       true,
		`__Host-coatcheck-name="` + name + `"`:                               true,
		"__Host-coatcheck-name=" + name + ";__Host-coatcheck-name=" + name:   true,
		"__Host-coatcheck-name=" + name + "; __Host-coatcheck-name=" + other: false,
		"__Host-coatcheck-name=" + name + "; __Host-coatcheck-name=":         false,
		"x__Host-coatcheck-name=" + name:                                     false,
		"__Host-coatcheck-nam=" + name:                                       false,
		"__Host-coatcheck=" + name:                                           false,
		"__Host-coatcheck-name=" + name + "A":                                false,
		"__Host-coatcheck-name=" + strings.Repeat("A", 22):                   false,
		"": false,
	} {
		got, ok := c.FindName([]string{line})
		assert.Equal(t, found, ok, line)
		assert.Equal(t, found, got == key, line)
	}
	_, ok := c.FindName([]string{"__Host-coatcheck-name=" + name, "__Host-coatcheck-name=" + other})
	assert.False(t, ok, "in two lines")
	var p coatcheck.Presented
	c.Find([]byte("__Host-coatcheck-name="+name), &p)
	assert.Equal(t, coatcheck.Presented{}, p, "it is no token")
}

func TestBindingNeedsASecureCookie(t *testing.T) {
	for wrong, c := range map[string]cookie.Config{
		"":              {},
		"cookie-secure": {Name: "sid", Insecure: true},
		"cookie-domain": {Name: "sid", Domain: "example.com"},
	} {
		err := c.ValidateBinding()
		if wrong == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, wrong)
		}
	}
}
