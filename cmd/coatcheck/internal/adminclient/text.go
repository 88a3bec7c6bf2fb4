package adminclient

import (
	"strings"
	"unicode"
)

// Printable keeps what others wrote, such as a user agent, from giving orders to a terminal, and from filling it.
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

// OneLine is a text of ours with errors of others in it, which may come from anywhere.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}
