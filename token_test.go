package coatcheck_test

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

func text(t coatcheck.Token) string { return string(t.AppendSecretText(nil)) }

// TOK-01: tokens have the right form, no duplicates and no biased bits.
func TestTokensAreRandom(t *testing.T) {
	const n = 100_000
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	seen := make(map[string]bool, n)
	keys := make(map[coatcheck.Key]bool, n)
	var ones [256]int
	for range n {
		tok := coatcheck.NewToken(coatcheck.TagOf(""))
		s := text(tok)
		require.Regexp(t, form, s)
		raw, err := base64.RawURLEncoding.DecodeString(s)
		require.NoError(t, err)
		require.Len(t, raw, 32)
		seen[s], keys[tok.Key()] = true, true
		for i := range ones {
			ones[i] += int(raw[i/8] >> (7 - i%8) & 1)
		}
	}
	assert.Len(t, seen, n, "tokens repeat")
	assert.Len(t, keys, n, "keys repeat")
	sigma := math.Sqrt(n) / 2
	for bit, count := range ones {
		assert.InDelta(t, n/2, count, 5*sigma, "bit %d is biased", bit)
	}
}

func TestTokenParts(t *testing.T) {
	tag := coatcheck.TagOf("user-42")
	tok := coatcheck.NewToken(tag)
	raw, err := base64.RawURLEncoding.DecodeString(text(tok))
	require.NoError(t, err)

	assert.Equal(t, raw[:16], keyBytes(tok.Key()), "the key is the first half")
	assert.Equal(t, tag, tok.Key().Tag())
	assert.Equal(t, raw[:4], tag[:], "the tag is the first four bytes of it")

	sum := sha256.Sum256(raw)
	assert.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:16]), tok.ID().String(), "ID: SHA-256 of the 32 raw bytes, 16 of it")

	sum = sha256.Sum256(append([]byte("handle"), raw[:16]...))
	assert.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:16]), tok.Key().Handle().String())
	assert.Len(t, tok.Key().Handle().String(), 22)
}

func TestRotatedTokenKeepsTheKeyOnly(t *testing.T) {
	tok := coatcheck.NewToken(coatcheck.TagOf("u"))
	next := tok.Rotated()
	assert.Equal(t, tok.Key(), next.Key())
	assert.NotEqual(t, tok.ID(), next.ID())
	assert.NotEqual(t, text(tok)[22:], text(next)[22:], "another secret")
}

func TestTagPlacesAUser(t *testing.T) {
	assert.Equal(t, coatcheck.TagOf("user-42"), coatcheck.TagOf("user-42"))
	assert.NotEqual(t, coatcheck.TagOf(""), coatcheck.TagOf(""), "random without a user")
	// The tag is fixed: a release that computes it differently loses every index.
	assert.Equal(t, "397e9d3a", coatcheck.TagOf("user-42").String())
}

func TestPrintedIDsAreReadBack(t *testing.T) {
	tok := coatcheck.NewToken(coatcheck.TagOf("u"))
	id, ok := coatcheck.ParseID([]byte(tok.ID().String()))
	assert.True(t, ok)
	assert.Equal(t, tok.ID(), id)
	k, ok := coatcheck.ParseKey([]byte(tok.Key().String()))
	assert.True(t, ok)
	assert.Equal(t, tok.Key(), k)
	for _, bad := range []string{
		"", "A", strings.Repeat("A", 21), strings.Repeat("A", 23), strings.Repeat("A", 21) + "B",
		strings.Repeat("A", 20) + "==", strings.Repeat("A", 18) + "\r\n\r\n", strings.Repeat("=", 22),
	} {
		_, ok := coatcheck.ParseID([]byte(bad))
		assert.False(t, ok, "%q", bad)
		_, ok = coatcheck.ParseKey([]byte(bad))
		assert.False(t, ok, "%q", bad)
	}
}

// TOK-04: a token has one spelling. No one-byte change of it is read as the same token.
func TestTokenSpellingIsCanonical(t *testing.T) {
	tok := coatcheck.NewToken(coatcheck.TagOf("u"))
	good := []byte(text(tok))
	for i := range good {
		for b := 1; b < 256; b++ {
			bad := bytes.Clone(good)
			bad[i] ^= byte(b)
			got, ok := coatcheck.ParseToken(bad)
			if !ok {
				continue
			}
			require.NotEqual(t, tok, got, "%q is read as %q", bad, good)
			require.Equal(t, string(bad), text(got), "read, but spelled otherwise")
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	tok := coatcheck.NewToken(coatcheck.TagOf("u"))
	good := text(tok)
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[42])
	trailing := good[:42] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last|1])
	for name, bad := range map[string]string{
		"empty":                 "",
		"a character less":      good[:42],
		"a character more":      good + "A",
		"padded":                good + "=",
		"padding in place":      good[:42] + "=",
		"quoted":                `"` + good + `"`,
		"quoted, right length":  `"` + good[:41] + `"`,
		"space before":          " " + good,
		"space inside":          good[:10] + " " + good[11:],
		"newline after":         good + "\n",
		"CR and LF inside":      good[:20] + "\r\n" + good[22:],
		"LF for the last":       good[:42] + "\n",
		"LF after whole bytes":  strings.Repeat("A", 42) + "\n",
		"CR before them":        "\r" + strings.Repeat("A", 42),
		"44 with a newline":     good[:20] + "\n" + good[20:],
		"standard alphabet":     good[:10] + "+/" + good[12:],
		"percent-encoded":       "%" + fmt.Sprintf("%02X", good[0]) + good[1:],
		"trailing bits":         trailing,
		"NUL":                   good[:42] + "\x00",
		"not ASCII":             good[:41] + "é",
		"twice":                 good + good,
		"43 newlines":           strings.Repeat("\n", 43),
		"a megabyte":            strings.Repeat("A", 1<<20),
		"the hex of 32 bytes":   strings.Repeat("ab", 32),
		"the standard encoding": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xFB}, 32)),
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := coatcheck.ParseToken([]byte(bad))
			assert.False(t, ok, "%.80q", bad)
		})
	}
}

func TestParseTokenDoesNotAllocate(t *testing.T) {
	good := []byte(text(coatcheck.NewToken(coatcheck.TagOf("u"))))
	for _, in := range [][]byte{good, good[:40], bytes.Repeat([]byte{'%'}, 43)} {
		assert.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = coatcheck.ParseToken(in) }))
	}
}

// No common way of printing a token, or what holds one, shows it.
func TestTokenIsNotPrinted(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	tok, ok := coatcheck.ParseToken([]byte(cookie))
	require.True(t, ok)
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	require.NoError(t, err)
	forms := secretForms(cookie, raw)

	holders := map[string]any{
		"token": tok, "pointer": &tok, "slice": []coatcheck.Token{tok}, "map": map[string]coatcheck.Token{"t": tok},
		"exported field": struct{ T coatcheck.Token }{tok}, "session": w.open(cookie), "presented": presented(cookie),
		"any": any(tok), "manager": w.m,
	}
	for name, v := range holders {
		t.Run(name, func(t *testing.T) {
			for _, verb := range "vsdxXqTtbcoOeEfFgGU" { // not p, which vet refuses for a value that is no pointer
				for _, flag := range []string{"", "+", "#", " ", "-50", "010"} {
					format := "%" + flag + string(verb)
					assertSecret(t, forms, fmt.Sprintf(format, v), format)
				}
			}
			assertSecret(t, forms, fmt.Sprint(v)+fmt.Sprintln(v), "print")
			b, _ := json.Marshal(v)
			assertSecret(t, forms, string(b), "json")
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
			assertSecret(t, forms, out.String(), "slog")
		})
	}
	_, isText := any(tok).(encoding.TextMarshaler)
	require.True(t, isText)
	_, err = json.Marshal(map[string]any{"t": tok})
	assert.Error(t, err, "a token in a body is a mistake that must be seen")
}

// secretForms are the spellings of the secret half that printing could show.
func secretForms(cookie string, raw []byte) []string {
	secret := raw[16:]
	var decimal, goHex []string
	for _, b := range secret {
		decimal = append(decimal, strconv.Itoa(int(b)))
		goHex = append(goHex, fmt.Sprintf("0x%x", b))
	}
	return []string{
		cookie, cookie[22:], string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret),
		strings.Join(decimal, " "), strings.Join(decimal, ","), strings.Join(goHex, ", "), fmt.Sprintf("%b", secret),
		fmt.Sprintf("%o", secret), fmt.Sprintf("%q", secret), fmt.Sprintf("%U", secret), base64.StdEncoding.EncodeToString(raw),
	}
}

func assertSecret(t *testing.T, forms []string, out, how string) {
	t.Helper()
	for _, f := range forms {
		if strings.Contains(out, strings.Trim(f, "[]")) {
			t.Errorf("%s shows the secret: %.200q", how, out)
			return
		}
	}
}

// TOK-02: crypto/rand is the only source of randomness.
func TestNoOtherRandomSource(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	forbidden := regexp.MustCompile(`(?i)math/rand|uuid|maphash|time\.Now\(\)\.UnixNano`)
	scanned := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		scanned++
		src, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.NotRegexp(t, forbidden, string(src), name)
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imp := range file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			assert.NotContains(t, []string{"net/http", "github.com/gofiber/fiber/v2", "github.com/redis/rueidis"}, path,
				"%s: the root package knows no HTTP and no Redis", name)
		}
	}
	assert.Greater(t, scanned, 5)
}

// FuzzParseToken holds ParseToken and encoding/base64 together: the same texts are tokens, of the same bytes.
func FuzzParseToken(f *testing.F) {
	good := text(coatcheck.NewToken(coatcheck.TagOf("u")))
	for _, seed := range []string{
		good, good + "=", good[:42], strings.Repeat("\n", 43), strings.Repeat("A", 43), strings.Repeat("A", 42) + "B",
		strings.Repeat("_", 42) + "8", strings.Repeat("-", 42) + "-", good[:42] + "\xff", "\x80" + good[1:],
	} {
		f.Add([]byte(seed))
	}
	strict := base64.RawURLEncoding.Strict()
	f.Fuzz(func(t *testing.T, in []byte) {
		plain := make([]byte, strict.DecodedLen(len(in)))
		n, err := strict.Decode(plain, in)
		want := len(in) == coatcheck.TokenLen && err == nil && n == 32 // Decode skips line breaks
		tok, ok := coatcheck.ParseToken(in)
		if ok != want {
			t.Fatalf("%q: a token: %t, want %t", in, ok, want)
		}
		if !ok {
			return
		}
		if got := text(tok); got != string(in) {
			t.Fatalf("%q is read, and spelled %q", in, got)
		}
	})
}

func keyBytes(k coatcheck.Key) []byte { return k[:] }
