package coatcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/coatcheck/coatcheck/internal/strictjson"
)

// Bounds of a session's claims.
const (
	// MaxClaims is the most claims that a session may hold.
	MaxClaims = 32
	// MaxClaimBytes is the largest size of all of them together, as ClaimSet.JSON writes them.
	MaxClaimBytes = 2048
)

var (
	// ErrClaims: a text is not claims, which are a JSON object of strings and lists of strings.
	ErrClaims = errors.New("not claims")
	// ErrClaimsTooLarge: the claims exceed MaxClaims or MaxClaimBytes, or do not fit the session's other values.
	ErrClaimsTooLarge = errors.New("claims are too large")
)

// claimsName is the name of the value that holds the claims. Handlers read it and cannot change it.
const claimsName = "claims"

// The claims that have a meaning of their own: the first two are strings, and groups is a list.
const (
	ClaimName   = "name"
	ClaimEmail  = "email"
	ClaimGroups = "groups"
)

// ClaimSet is what a login said about its user: strings and lists of strings, by their names. The zero ClaimSet has none. It
// never changes and is safe for concurrent use.
type ClaimSet struct {
	json []byte // canonical: compact, name, email and groups first, then the others in ascending order; nil: no claims
}

// Claims returns the claims of the session's user. They were set when the user logged in, and do not change before the next
// login. The result may be kept.
func Claims(s *Session) ClaimSet {
	r := s.read()
	defer s.unlock()
	raw, _, _, _ := findValue(r.values, claimsName)
	return keptClaims(raw)
}

// AuthenticateWith is Authenticate for a login that said something about its user. A login by Authenticate has no claims,
// whatever the carried session had. ErrClaimsTooLarge: they do not fit the session's other values. After an error the session is
// unchanged.
func (r *Request) AuthenticateWith(user string, c ClaimSet) error {
	err := r.authenticate(user, c)
	if c.json != nil && errors.Is(err, ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrClaimsTooLarge, err)
	}
	return err
}

// claimMember is one member of claims that are being parsed.
type claimMember struct {
	name  string
	value []byte
}

// ParseClaims reads claims. ErrClaims: the text is not one JSON object of strings and of lists of strings, has a name twice,
// holds "sub", which is the user ID's, or text that is not UTF-8 or has half of a surrogate pair; name and email must be strings, and groups a list of strings
// that are not empty. ErrClaimsTooLarge: more than MaxClaims, or more than MaxClaimBytes. Null, and an object without members,
// are no claims.
func ParseClaims(text []byte) (ClaimSet, error) {
	if string(bytes.TrimSpace(text)) == "null" || len(text) == 0 {
		return ClaimSet{}, nil
	}
	if err := strictjson.Check(text); err != nil {
		return ClaimSet{}, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	members, err := readClaims(json.NewDecoder(bytes.NewReader(text)))
	if err != nil || len(members) == 0 {
		return ClaimSet{}, err
	}
	if len(members) > MaxClaims {
		return ClaimSet{}, fmt.Errorf("%w: %d of at most %d", ErrClaimsTooLarge, len(members), MaxClaims)
	}
	slices.SortFunc(members, func(a, b claimMember) int {
		if d := claimRank(a.name) - claimRank(b.name); d != 0 {
			return d
		}
		return bytes.Compare([]byte(a.name), []byte(b.name))
	})
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := encode(claimsName, m.name) // a string always has an encoding
		b = append(append(append(b, name...), ':'), m.value...)
	}
	b = append(b, '}')
	if len(b) > MaxClaimBytes {
		return ClaimSet{}, fmt.Errorf("%w: %d bytes of at most %d", ErrClaimsTooLarge, len(b), MaxClaimBytes)
	}
	return ClaimSet{b}, nil
}

// claimRank is the place of a name before the others.
func claimRank(name string) int {
	if i := slices.Index(firstClaims, name); i >= 0 {
		return i
	}
	return len(firstClaims)
}

var firstClaims = []string{ClaimName, ClaimEmail, ClaimGroups}

// readClaims reads text that package strictjson let pass.
func readClaims(d *json.Decoder) (members []claimMember, err error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrClaims)
	}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		switch {
		case err != nil || !ok:
			return nil, fmt.Errorf("%w: not JSON", ErrClaims)
		case name == "" || len(name) > MaxName || name == "sub":
			return nil, fmt.Errorf("%w: %.40q: empty, too long or reserved", ErrClaims, name)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %.40q: not JSON", ErrClaims, name)
		}
		if err := checkClaim(name, value); err != nil {
			return nil, err
		}
		raw, err := encode(claimsName, value)
		if err != nil {
			return nil, fmt.Errorf("%w: %.40q: %w", ErrClaims, name, err)
		}
		members = append(members, claimMember{name, raw})
	}
	return members, nil
}

// checkClaim returns what is wrong with a claim's value.
func checkClaim(name string, value any) error {
	switch v := value.(type) {
	case string:
		if name == ClaimGroups {
			return fmt.Errorf("%w: groups must be a list", ErrClaims)
		}
		return nil
	case []any:
		if name == ClaimName || name == ClaimEmail {
			return fmt.Errorf("%w: %s must be a string", ErrClaims, name)
		}
		for _, one := range v {
			if text, ok := one.(string); !ok || text == "" && name == ClaimGroups {
				return fmt.Errorf("%w: %.40q: a list must hold strings, and a group must have a name", ErrClaims, name)
			}
		}
		return nil
	default:
		return fmt.Errorf("%w: %.40q: neither a string nor a list of strings", ErrClaims, name)
	}
}

// JSON returns the claims as a JSON object, nil for none. It must not be changed.
func (c ClaimSet) JSON() []byte { return c.json }

// Text returns a claim that is a string; for a list, or where there is no such claim, it is empty.
func (c ClaimSet) Text(name string) (text string) {
	if value := c.find(name); len(value) > 0 && value[0] == '"' {
		eachString(value, func(s []byte) bool { text = string(s); return true })
	}
	return text
}

// List returns a claim as a list: a string is a list of one. Where there is no such claim it is nil.
func (c ClaimSet) List(name string) (list []string) {
	c.Each(name, func(s []byte) bool { list = append(list, string(s)); return true })
	return list
}

// Each calls yield for each string of a claim, until yield returns false. The bytes are valid during the call. It allocates
// nothing, unless a string has escapes.
func (c ClaimSet) Each(name string, yield func(text []byte) bool) {
	if value := c.find(name); len(value) > 0 {
		eachString(value, yield)
	}
}

// Names iterates over the names of the claims: name, email and groups first, then the others in ascending order.
func (c ClaimSet) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := c.json; len(rest) > 1; {
			name, _, more := cutMember(rest[1:])
			if name == nil {
				return
			}
			if text, _ := cutString(name); !yield(string(text)) {
				return
			}
			rest = more
		}
	}
}

// find returns the JSON of a claim, nil where there is none.
func (c ClaimSet) find(name string) []byte {
	for rest := c.json; len(rest) > 1; { // each member stands behind a brace or a comma
		key, value, more := cutMember(rest[1:])
		if key == nil {
			return nil
		}
		if text, _ := cutString(key); string(text) == name {
			return value
		}
		rest = more
	}
	return nil
}

// The functions below read the JSON that ParseClaims writes. Of other bytes they read as much as has that form.

// cutMember cuts the first member off; rest begins with the comma or the brace behind it. For bytes that are no member name is
// nil.
func cutMember(b []byte) (name, value, rest []byte) {
	n := stringEnd(b)
	if n < 0 || n >= len(b) || b[n] != ':' {
		return nil, nil, nil
	}
	name, b = b[:n], b[n+1:]
	end := valueEnd(b)
	if end < 0 {
		return nil, nil, nil
	}
	return name, b[:end], b[end:]
}

// stringEnd returns where the JSON string at the beginning of b ends, -1 if there is none.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return -1
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd is stringEnd for a string or a list of strings.
func valueEnd(b []byte) int {
	if len(b) == 0 || b[0] != '[' {
		return stringEnd(b)
	}
	for i := 1; i < len(b) && b[i] != ']'; {
		if b[i] == ',' {
			i++
		}
		n := stringEnd(b[i:])
		if n < 0 {
			return -1
		}
		i += n
		if i < len(b) && b[i] == ']' {
			return i + 1
		}
	}
	if len(b) > 1 && b[1] == ']' {
		return 2
	}
	return -1
}

func eachString(value []byte, yield func([]byte) bool) {
	if value[0] == '[' {
		value = value[1:]
	}
	for {
		n := stringEnd(value)
		if n < 0 {
			return
		}
		if text, ok := cutString(value[:n]); !ok || !yield(text) {
			return
		}
		value = value[n:]
		if len(value) == 0 || value[0] != ',' {
			return
		}
		value = value[1:]
	}
}

// cutString returns the text of a JSON string.
func cutString(quoted []byte) ([]byte, bool) {
	text := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return text, true
	}
	return unescaped(quoted)
}

// unescaped is apart from cutString because its result escapes to the heap.
func unescaped(quoted []byte) ([]byte, bool) {
	var s string
	err := json.Unmarshal(quoted, &s)
	return []byte(s), err == nil
}
