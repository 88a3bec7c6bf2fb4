// Package strictjson refuses the JSON texts of which encoding/json makes something else than they say: it replaces bytes that are not
// UTF-8, and escapes that are half of a surrogate pair, by U+FFFD, so that texts which differ become the same.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errNotUTF8   = errors.New("not UTF-8")
	errNotJSON   = errors.New("not JSON")
	errSurrogate = errors.New("a \\u escape is half of a surrogate pair")
)

// Check returns what is wrong with a text that must be one JSON value. The error quotes nothing of it.
func Check(text []byte) error {
	switch {
	case !utf8.Valid(text):
		return errNotUTF8
	case !json.Valid(text):
		return errNotJSON
	case loneSurrogate(text):
		return errSurrogate
	}
	return nil
}

// loneSurrogate reports whether valid JSON has a \u escape that is half of a surrogate pair. Backslashes stand in strings only.
func loneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		half := codeUnit(text[i+1:])
		i += 4
		if !utf16.IsSurrogate(half) {
			continue
		}
		rest := text[i+1:]
		if !bytes.HasPrefix(rest, []byte(`\u`)) || utf16.DecodeRune(half, codeUnit(rest[2:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// codeUnit returns what the four hex digits of a \u escape mean.
func codeUnit(digits []byte) rune {
	code, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // valid JSON has no other digits
	return rune(code)
}
