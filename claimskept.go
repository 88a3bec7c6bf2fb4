package coatcheck

import (
	"bytes"
	"encoding/binary"

	"github.com/coatcheck/coatcheck/internal/percent"
)

// A session's value claimsName holds the claims as a reverse proxy is told them, so that the answer to its question, which is most
// of what a server is asked, copies bytes and does not encode them:
//
//	["NAME EMAIL GROUPS",OTHERS]
//
// NAME, EMAIL and GROUPS are empty where there is no such claim, and otherwise an equals sign and the percent-encoded text; groups
// have commas between them. OTHERS is the JSON object of all other claims; it is left out, with its comma, where there are none.
//
// Long texts that are not ASCII take less room in a JSON object of all claims, and are kept in one: so no claims take more room
// than their JSON. So are texts with a quote or a backslash, which JSON would escape a second time.

// EncodedClaims are a session's claims as the headers for a reverse proxy show them: percent-encoded as package percent does it.
type EncodedClaims struct {
	Name, Email []byte
	Groups      []byte   // with commas between them; a comma in a group is percent-encoded
	Others      ClaimSet // all claims but these three
}

// EncodedClaims returns the claims of the session's user. The result is valid until the session changes or the request ends. It
// allocates nothing, unless the three claims are long and not ASCII, or hold quotes or backslashes.
func (r *Request) EncodedClaims() EncodedClaims {
	raw, _ := r.Raw(claimsName)
	return readKept(raw)
}

// Encoded is the claims as Request.EncodedClaims returns those of a session.
func (c ClaimSet) Encoded() EncodedClaims {
	e := EncodedClaims{Others: c.others()}
	c.Each(ClaimName, func(text []byte) bool { e.Name = percent.Append(e.Name, text); return true })
	c.Each(ClaimEmail, func(text []byte) bool { e.Email = percent.Append(e.Email, text); return true })
	c.Each(ClaimGroups, func(group []byte) bool {
		if len(e.Groups) > 0 {
			e.Groups = append(e.Groups, ',')
		}
		e.Groups = percent.AppendItem(e.Groups, group)
		return true
	})
	return e
}

// others returns all claims but name, email and groups, which stand before them.
func (c ClaimSet) others() ClaimSet {
	rest := c.json
	for len(rest) > 1 {
		key, _, more := cutMember(rest[1:])
		if key == nil {
			break
		}
		if name, _ := cutString(key); claimRank(string(name)) == len(firstClaims) {
			break
		}
		rest = more
	}
	switch {
	case len(rest) <= 1:
		return ClaimSet{}
	case len(rest) == len(c.json):
		return c
	default:
		return ClaimSet{append([]byte{'{'}, rest[1:]...)}
	}
}

// kept returns the value that a session keeps of the claims, nil for none.
func (c ClaimSet) kept() []byte {
	if c.json == nil {
		return nil
	}
	e := c.Encoded()
	b := []byte(`["`)
	for i, field := range [][]byte{e.Name, e.Email, e.Groups} {
		if i > 0 {
			b = append(b, ' ')
		}
		if c.find(firstClaims[i]) != nil {
			b = append(append(b, '='), field...)
		}
		if bytes.ContainsAny(field, `"\`) {
			return c.json
		}
	}
	b = append(b, '"')
	if e.Others.json != nil {
		b = append(append(b, ','), e.Others.json...)
	}
	if b = append(b, ']'); len(b) > len(c.json) {
		return c.json
	}
	return b
}

// readKept reads what kept returned. Of other bytes it reads as much as has that form.
func readKept(raw []byte) EncodedClaims {
	text, others, ok := cutKept(raw)
	if !ok {
		if len(raw) > 0 && raw[0] == '{' {
			return ClaimSet{raw}.Encoded()
		}
		return EncodedClaims{}
	}
	name, text := cutField(text)
	email, text := cutField(text)
	groups, _ := cutField(text)
	return EncodedClaims{Name: name, Email: email, Groups: groups, Others: ClaimSet{others}}
}

// cutKept returns the fields of kept's first form, and the JSON object behind them.
func cutKept(raw []byte) (fields, others []byte, ok bool) {
	if len(raw) < 4 || raw[0] != '[' || raw[1] != '"' {
		return nil, nil, false
	}
	end := bytes.IndexByte(raw[2:], '"')
	if end < 0 {
		return nil, nil, false
	}
	fields, rest := raw[2:2+end], raw[3+end:]
	if len(rest) > 1 && rest[0] == ',' {
		others = rest[1 : len(rest)-1]
	}
	return fields, others, ascii(fields)
}

// ascii reports whether b holds nothing but 0x20 to 0x7E, so that what is no encoding never reaches a header. It reads eight bytes
// at a time.
func ascii(b []byte) bool {
	const ones = 0x0101010101010101
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		if (x|(x-0x20*ones)|(x+ones))&(0x80*ones) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}

// cutField cuts the first field off, and the sign before its text.
func cutField(fields []byte) (text, rest []byte) {
	text, rest, _ = bytes.Cut(fields, []byte{' '})
	return text[min(1, len(text)):], rest
}

// keptClaims returns the claims of a value that kept returned. Of other bytes it reads as much as has that form.
func keptClaims(raw []byte) ClaimSet {
	fields, others, ok := cutKept(raw)
	if !ok {
		if len(raw) == 0 || raw[0] != '{' {
			return ClaimSet{}
		}
		return ClaimSet{bytes.Clone(raw)}
	}
	b := []byte{'{'}
	for i, field := range bytes.SplitN(fields, []byte{' '}, len(firstClaims)) {
		if len(field) == 0 {
			continue
		}
		var value any = string(percent.Decode(field[1:]))
		if firstClaims[i] == ClaimGroups {
			value = decodedItems(field[1:])
		}
		text, _ := encode(claimsName, value) // a string always has an encoding
		b = append(append(append(b, '"'), firstClaims[i]...), `":`...)
		b = append(append(b, text...), ',')
	}
	if len(others) > 2 {
		return ClaimSet{append(b, others[1:]...)}
	}
	return ClaimSet{append(bytes.TrimSuffix(b, []byte{','}), '}')}
}

func decodedItems(list []byte) []string {
	items := []string{}
	for len(list) > 0 {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte{','})
		items = append(items, string(percent.Decode(item)))
	}
	return items
}
