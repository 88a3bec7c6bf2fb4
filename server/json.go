package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/strictjson"
	"github.com/coatcheck/coatcheck/server/login"
)

// readLogin reads the body of a login request, or returns the problem with it; the checks have the order of the contract:
// media type, JSON, user ID, claims. Claims that are too large are no problem yet: only a client that may log in is told so. It
// does not use Fiber's body parser, which expands compressed bodies beyond any limit.
func (s *Server) readLogin(req *fasthttp.Request) (a *login.Attempt, remember bool, err error) {
	if !oneContentType(&req.Header) || !isMediaType(req.Header.ContentType(), contentTypeJSON) || len(req.Header.PeekAll(fasthttp.HeaderContentEncoding)) > 0 {
		return nil, false, problemMediaType
	}
	known := loginMembers
	if !s.traits.TakesClaims {
		known = known[:len(known)-1]
	}
	members, ok := readObject(req.Body(), known)
	if !ok {
		return nil, false, problemBadJSON
	}
	userID, password, rememberMe, claims := members[0], members[1], members[2], members[3]
	if raw := rememberMe; raw != nil {
		remember = string(raw) == "true"
		if !remember && string(raw) != "false" {
			return nil, false, problemBadJSON
		}
	}
	a = &login.Attempt{Body: req.Body()}
	if lines := req.Header.PeekAll(fasthttp.HeaderAuthorization); len(lines) == 1 {
		a.Authorization = lines[0]
	}
	if text, isText := jsonText(password); isText {
		a.Password = []byte(text)
	} else if s.traits.Guesses == login.GuessesPassword && password != nil && string(password) != "null" {
		// A webhook is sent the body as it came, and its back end could take an object for a condition of its database.
		return nil, false, problemBadJSON
	}
	if a.UserID, ok = jsonText(userID); !ok || !validUserID(a.UserID) {
		return nil, false, problemUserID
	}
	if claims != nil {
		if a.Claims, err = coatcheck.ParseClaims(claims); errors.Is(err, coatcheck.ErrClaims) || claims[0] != '{' {
			return nil, false, problemClaims
		}
		a.ClaimsTooLarge = err
	}
	return a, remember, nil
}

// oneContentType reports whether there is at most one Content-Type line. Of several, fasthttp shows the last. Reading the header
// anew, as AllInOrder does, takes a quarter of a microsecond, and is left to a header with two lines that may be some.
func oneContentType(h *fasthttp.RequestHeader) bool {
	if linesBeginning(h.RawHeaders(), fasthttp.HeaderContentType) <= 1 {
		return true
	}
	n := 0
	for key := range h.AllInOrder() {
		if string(key) == fasthttp.HeaderContentType {
			n++
		}
	}
	return n <= 1
}

// isMediaType reports whether a Content-Type is of this media type, whatever its parameters and its case (RFC 9110, section 8.3.1).
func isMediaType(contentType, mediaType []byte) bool {
	given, _, _ := bytes.Cut(contentType, []byte{';'})
	return bytes.EqualFold(bytes.Trim(given, " \t"), mediaType)
}

func validUserID(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return s != "" && len(s) <= coatcheck.MaxUserID
}

// readObject reads one JSON object that has no members but the known ones. It returns the members' values in the
// order of known, nil for one that is not there; they are parts of body. Package strictjson decides what is valid; encoding/json's
// Decoder, which would also find the members, made 16 allocations and took a quarter of a login's time in process.
func readObject(body []byte, known []string) (values [maxMembers][]byte, ok bool) {
	if strictjson.Check(body) != nil {
		return values, false
	}
	rest := afterSpace(body)
	if rest[0] != '{' {
		return values, false
	}
	for rest = afterSpace(rest[1:]); rest[0] != '}'; {
		end := valueEnd(rest)
		name, ok := jsonText(rest[:end])
		i := slices.Index(known, name)
		if !ok || i < 0 {
			return values, false
		}
		rest = afterSpace(rest[end:])
		rest = afterSpace(rest[len(":"):])
		end = valueEnd(rest)
		values[i], rest = rest[:end], afterSpace(rest[end:])
		if rest[0] == ',' {
			rest = afterSpace(rest[1:])
		}
	}
	return values, true
}

// loginMembers are the members of a login's body; the last one only if the mode takes claims.
var loginMembers = []string{"user_id", "password", "remember", "claims"}

// maxMembers is how many members readObject may know.
const maxMembers = 4

// jsonText returns what a JSON string means, and whether b, a valid JSON value or nil, is one.
func jsonText(b []byte) (text string, ok bool) {
	switch {
	case len(b) == 0 || b[0] != '"':
		return "", false
	case bytes.IndexByte(b, '\\') < 0:
		return string(b[1 : len(b)-1]), true
	}
	var unescaped string // text would be allocated each time, since Unmarshal gets its address
	err := json.Unmarshal(b, &unescaped)
	return unescaped, err == nil
}

// afterSpace returns b without the JSON white space that it begins with. bytes.TrimLeft would make a set of the characters each time,
// six times a login.
func afterSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// valueEnd returns where the JSON value ends that b, a part of valid JSON, begins with.
func valueEnd(b []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
			if depth == 0 && !inString {
				return i + 1
			}
		case inString:
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']' || c <= ' '): // of a number, true, false or null
			return i
		case c == '}' || c == ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// appendJSONString appends s as a JSON string; bytes that are not UTF-8 become U+FFFD. Bytes that need no escape are appended
// by runs, which saves 16 ns of BenchmarkMe, whose names have 15 letters.
func appendJSONString(b, s []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	plain := 0 // where the run began
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[plain:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
			i++
		default:
			r, n := utf8.DecodeRune(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
		}
		plain = i
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}
