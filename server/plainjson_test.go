package server_test

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// readLoginPlainly is the login body's paragraph of the contract over a recursive reading of RFC 8259. It shares nothing
// with encoding/json, which the server uses.
func readLoginPlainly(body []byte) (status int, user string) {
	p := &plainJSON{text: string(body)}
	members, ok := p.document()
	if !ok || !utf8.Valid(body) {
		return 400, ""
	}
	for name := range members {
		if name != "user_id" && name != "password" {
			return 400, ""
		}
	}
	id, isString := members["user_id"].(string)
	if !isString || id == "" || len(id) > 256 {
		return 422, ""
	}
	for _, r := range id {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return 422, ""
		}
	}
	return 200, id
}

// plainJSON reads one JSON text from left to right.
type plainJSON struct {
	text  string
	depth int
}

func (p *plainJSON) blanks() { p.text = strings.TrimLeft(p.text, " \t\r\n") }

func (p *plainJSON) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.text, prefix)
	p.text = rest
	return ok
}

// document is one object and nothing else.
func (p *plainJSON) document() (map[string]any, bool) {
	p.blanks()
	if !strings.HasPrefix(p.text, "{") {
		return nil, false
	}
	members, ok := p.object()
	p.blanks()
	return members, ok && p.text == ""
}

// object is one with each name once.
func (p *plainJSON) object() (map[string]any, bool) {
	members := make(map[string]any)
	p.take("{")
	p.blanks()
	if p.take("}") {
		return members, true
	}
	for {
		p.blanks()
		name, ok := p.str()
		if !ok {
			return nil, false
		}
		if _, twice := members[name]; twice {
			return nil, false
		}
		p.blanks()
		if !p.take(":") {
			return nil, false
		}
		if members[name], ok = p.value(); !ok {
			return nil, false
		}
		p.blanks()
		if p.take("}") {
			return members, true
		}
		if !p.take(",") {
			return nil, false
		}
	}
}

func (p *plainJSON) array() bool {
	p.take("[")
	p.blanks()
	if p.take("]") {
		return true
	}
	for {
		if _, ok := p.value(); !ok {
			return false
		}
		p.blanks()
		if p.take("]") {
			return true
		}
		if !p.take(",") {
			return false
		}
	}
}

// value returns a string as a string, and anything else as nil.
func (p *plainJSON) value() (any, bool) {
	p.depth++
	defer func() { p.depth-- }()
	p.blanks()
	switch {
	case p.text == "" || p.depth > 10_000: // encoding/json's bound, which a body of 16 KiB can pass
		return nil, false
	case p.text[0] == '"':
		return p.str()
	case p.text[0] == '{':
		_, ok := p.object()
		return nil, ok
	case p.text[0] == '[':
		return nil, p.array()
	case p.take("true") || p.take("false") || p.take("null"):
		return nil, true
	default:
		return nil, p.number()
	}
}

func (p *plainJSON) digits() bool {
	rest := strings.TrimLeft(p.text, "0123456789")
	some := rest != p.text
	p.text = rest
	return some
}

func (p *plainJSON) number() bool {
	p.take("-")
	if !p.take("0") && !p.digits() {
		return false
	}
	if p.take(".") && !p.digits() {
		return false
	}
	if p.take("e") || p.take("E") {
		if !p.take("+") {
			p.take("-")
		}
		return p.digits()
	}
	return true
}

func (p *plainJSON) str() (string, bool) {
	if !p.take(`"`) {
		return "", false
	}
	var b strings.Builder
	for {
		switch {
		case p.text == "" || p.text[0] < 0x20:
			return "", false
		case p.take(`"`):
			return b.String(), true
		case p.take(`\u`):
			r, ok := p.hex4()
			if ok && r >= 0xD800 && r < 0xDC00 {
				var low rune
				if ok = p.take(`\u`); ok {
					low, ok = p.hex4()
				}
				ok = ok && low >= 0xDC00 && low < 0xE000
				r = 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
			} else if r >= 0xDC00 && r < 0xE000 {
				ok = false
			}
			if !ok {
				return "", false
			}
			b.WriteRune(r)
		case p.take(`\`):
			const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
			if p.text == "" || strings.IndexByte(from, p.text[0]) < 0 {
				return "", false
			}
			b.WriteByte(to[strings.IndexByte(from, p.text[0])])
			p.text = p.text[1:]
		default:
			b.WriteByte(p.text[0])
			p.text = p.text[1:]
		}
	}
}

func (p *plainJSON) hex4() (rune, bool) {
	if len(p.text) < 4 || strings.ContainsAny(p.text[:4], "+-_") {
		return 0, false
	}
	n, err := strconv.ParseUint(p.text[:4], 16, 16)
	p.text = p.text[4:]
	return rune(n), err == nil
}
