package coatcheck_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// encodedPlainly is the percent-encoding of verify's headers, written from the contract alone.
func encodedPlainly(text, more string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 0x21 && c <= 0x7E && c != '%' && !strings.ContainsRune(more, rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// A session gives back the claims of its login, whichever form it keeps them in, and their encoding too; they take no more room
// than their JSON.
func TestClaimsAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringOfN(rapid.RuneFrom([]rune("ab=, %2C")), 0, 9, -1),
			rapid.StringOfN(rapid.RuneFrom([]rune("a=, %2C\"\\[]{}:ü\u2028\n\x00\x7F<&🧥")), 0, 9, -1),
		)
		said := make(map[string]any)
		var name, email string
		var groups []string
		if rapid.Bool().Draw(t, "has a name") {
			name = text.Draw(t, "name")
			said["name"] = name
		}
		if rapid.Bool().Draw(t, "has an address") {
			email = text.Draw(t, "email")
			said["email"] = email
		}
		if rapid.Bool().Draw(t, "has groups") {
			groups = rapid.SliceOfN(text.Filter(func(s string) bool { return s != "" }), 0, 9).Draw(t, "groups")
			said["groups"] = groups
		}
		for range rapid.IntRange(0, 2).Draw(t, "others") {
			said["x"+text.Draw(t, "other name")] = text.Draw(t, "other")
		}
		body, err := json.Marshal(said)
		require.NoError(t, err)
		c, err := coatcheck.ParseClaims(body)
		require.NoError(t, err)

		w := newWorld(t)
		r := w.open()
		require.NoError(t, r.AuthenticateWith("ann", c))
		r = w.open(w.finish(r).token)
		assert.Equal(t, string(c.JSON()), string(coatcheck.Claims(r.Lend()).JSON()))
		e, raw := r.EncodedClaims(), must(r.Raw("claims"))
		assert.Equal(t, encodedPlainly(name, ""), string(e.Name))
		assert.Equal(t, encodedPlainly(email, ""), string(e.Email))
		encoded := make([]string, len(groups))
		for i, group := range groups {
			encoded[i] = encodedPlainly(group, ",")
		}
		assert.Equal(t, strings.Join(encoded, ","), string(e.Groups))
		for other := range c.Names() {
			if len(other) > 0 && other[0] == 'x' {
				assert.Equal(t, c.Text(other), e.Others.Text(other))
			} else {
				assert.NotContains(t, slices.Collect(e.Others.Names()), other)
			}
		}
		assert.LessOrEqual(t, len(raw), len(c.JSON()))
		assert.Equal(t, len(raw) > 0, json.Valid(raw), "%s", raw)
	})
}

func must(raw []byte, _ bool) []byte { return raw }

// What most sessions hold is kept in the form that is sent, with no more than blanks encoded.
func TestClaimsAreKeptAsTheyAreSent(t *testing.T) {
	w := newWorld(t)
	for said, want := range map[string]string{
		`{"name":"Ann A","email":"ann@example.com","groups":["staff","a,b"],"x":"y"}`: `["=Ann%20A =ann@example.com =staff,a%2Cb",{"x":"y"}]`,
		`{"name":"Jürgen","groups":[]}`:                                               `["=J%C3%BCrgen  ="]`,
		`{"x":["y"]}`:                                                                 `{"x":["y"]}`,
		`{"name":"a\"b"}`:                                                             `{"name":"a\"b"}`,
		`{"name":"` + strings.Repeat("ü", 20) + `"}`:                                  `{"name":"` + strings.Repeat("ü", 20) + `"}`,
	} {
		cookie := w.loginWith(t, "", "ann", parsedClaims(t, said), nil)
		assert.Equal(t, want, w.value(cookie, "claims"), said)
	}
}

// FuzzKeptClaims: no bytes that a store hands back as claims stop the server, or bring a byte into a header that is not printable
// ASCII.
func FuzzKeptClaims(f *testing.F) {
	for _, seed := range []string{
		``, `[`, `["`, `[""]`, `["   "]`, `["=a =b =c"]`, `["=a =b =c",`, `["=a =b =c",]`, `["=a =b =c",{}]`, `["=a =b =c",{"x":"y"}]`, `["=a =b =c",{"x":]`, `["=a\" =b"]`,
		"[\"=a\r\nSet-Cookie: x=y =b =c\"]", "[\"=\x80 =\x7F =\x00\"]", "[\"=abcdefgh\x1f\"]", `["=% =%4 =%zz,,%2"]`, `["= = ="]`, `["a b c d e"]`,
		`{"name":"a"}`, `{"name":"\r\n"}`, `{"name":`, `{"groups":["a",]}`, `{"groups":["\ud800"]}`, `{`, `{"`, `null`, `"claims"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, hostile []byte) {
		if len(hostile) > 3000 {
			return
		}
		w := newWorld(t)
		cookie := w.login("ann")
		rec, next, now := w.record(cookie), new(coatcheck.Record), w.clock.Now()
		h := rec.Header
		h.Version++
		require.NoError(t, next.Rewrite(rec, h, block(map[string]string{"claims": string(hostile)})))
		require.NoError(t, w.data.Swap(context.Background(), next, rec.Version, now, new(coatcheck.Record)))

		r := w.open(cookie)
		e := r.EncodedClaims()
		for _, value := range [][]byte{e.Name, e.Email, e.Groups} {
			for _, c := range value {
				require.True(t, c >= 0x21 && c <= 0x7E, "%q", value)
			}
		}
		c := coatcheck.Claims(r.Lend())
		c.List("groups")
		e.Others.List("x")
		for range c.Names() {
			continue
		}
	})
}
