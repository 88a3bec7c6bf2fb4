// Package percent has the percent-encoding in which verify's headers, and the records of sessions, show texts: every byte outside
// 0x21 to 0x7E, and the percent sign itself, is a percent sign and two upper-case hex digits. No two texts share an encoding, and
// none holds a blank or breaks a line.
package percent

import "bytes"

// Append appends the encoding of s to b.
func Append(b, s []byte) []byte {
	for _, c := range s {
		b = appendByte(b, c, plain(c))
	}
	return b
}

// AppendItem is Append for an item of a list whose items have commas between them: it encodes a comma, too.
func AppendItem(b, s []byte) []byte {
	for _, c := range s {
		b = appendByte(b, c, plain(c) && c != ',')
	}
	return b
}

func plain(c byte) bool { return c >= 0x21 && c <= 0x7E && c != '%' }

func appendByte(b []byte, c byte, asItIs bool) []byte {
	const hex = "0123456789ABCDEF"
	if asItIs {
		return append(b, c)
	}
	return append(b, '%', hex[c>>4], hex[c&0xF])
}

// Valid reports whether each percent sign begins the encoding of a byte.
func Valid(s []byte) bool {
	for i, c := range s {
		if c == '%' && (len(s) < i+3 || !isHex(s[i+1]) || !isHex(s[i+2])) {
			return false
		}
	}
	return true
}

// Decode returns the text that s encodes. A percent sign that encodes nothing stays.
func Decode(s []byte) []byte {
	text := make([]byte, 0, len(s))
	for len(s) > 0 {
		var c byte
		c, s = cut(s)
		text = append(text, c)
	}
	return text
}

// Same reports whether a and b encode the same text. Either may be written in another way than Append writes it: with
// lower-case digits, or with bytes encoded that need not be.
func Same(a, b []byte) bool {
	if bytes.IndexByte(a, '%') < 0 && bytes.IndexByte(b, '%') < 0 {
		return string(a) == string(b)
	}
	for len(a) > 0 && len(b) > 0 {
		var c, d byte
		c, a = cut(a)
		if d, b = cut(b); c != d {
			return false
		}
	}
	return len(a) == len(b)
}

// cut cuts the first byte of the text off, which is not empty.
func cut(s []byte) (byte, []byte) {
	if s[0] == '%' && len(s) >= 3 && isHex(s[1]) && isHex(s[2]) {
		return unhex(s[1])<<4 | unhex(s[2]), s[3:]
	}
	return s[0], s[1:]
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
