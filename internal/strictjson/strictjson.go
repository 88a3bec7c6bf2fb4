// Package strictjson refuses the JSON texts of which encoding/json makes something else than they say: it replaces bytes that are not
// UTF-8, and escapes that are half of a surrogate pair, by U+FFFD, so that texts which differ become the same, and of two members of
// one name it forgets one, where another reader may forget the other.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errNotUTF8   = errors.New("not UTF-8")
	errNotJSON   = errors.New("not JSON")
	errSurrogate = errors.New("a \\u escape is half of a surrogate pair")
	errTwice     = errors.New("an object has a member twice")
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
	case repeatsName(text):
		return errTwice
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

// repeatsName reports whether an object in valid JSON has two members of one name. It sorts the names of each object, because who
// sends two thousand must not have them compared with each other; the names of a usual login cost no allocation.
func repeatsName(text []byte) bool {
	var roomForNames [16][]byte
	var roomForBegins [8]int
	names := roomForNames[:0]   // of the objects that have begun and not ended, those of an inner one behind those of the outer one
	begins := roomForBegins[:0] // where the names of each of these objects begin
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			begins = append(begins, len(names))
		case '}':
			last := len(begins) - 1
			own := names[begins[last]:]
			slices.SortFunc(own, bytes.Compare)
			if len(slices.CompactFunc(own, bytes.Equal)) < len(own) {
				return true
			}
			names, begins = names[:begins[last]], begins[:last]
		case '"':
			end := stringEnd(text, i)
			if isName(text[end:]) {
				names = append(names, meaning(text[i:end]))
			}
			i = end - 1
		}
	}
	return false
}

// stringEnd returns where the string ends that begins at i.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// isName reports whether the string before rest is a member's name.
func isName(rest []byte) bool {
	for _, c := range rest {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c == ':'
		}
	}
	return false
}

// meaning returns what a JSON string means.
func meaning(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it is valid
	return []byte(s)
}
