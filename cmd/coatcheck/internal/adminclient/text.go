package adminclient

import (
	"strings"
	"unicode"
)

// Printable makes a text from outside, such as a user agent, safe for a terminal: no control characters, and a bounded
// length.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	const most = 100
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// OneLine puts a message that may quote errors from outside on one line, without control characters.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}
