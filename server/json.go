package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// readLogin reads the body of a login request, or returns the problem with it; the checks have the order of the contract:
// media type, JSON, user ID, claims. Claims that are too large are no problem yet: only a client that may log in is told so. It
// does not use Fiber's body parser, which expands compressed bodies beyond any limit.
func (s *Server) readLogin(req *fasthttp.Request) (a *login.Attempt, remember bool, err error) {
	if !oneContentType(&req.Header) || !isJSON(req.Header.ContentType()) || len(req.Header.PeekAll(fasthttp.HeaderContentEncoding)) > 0 {
		return nil, false, problemMediaType
	}
	known := []string{"user_id", "password", "remember", "claims"}
	if !s.traits.TakesClaims {
		known = known[:len(known)-1]
	}
	members, ok := readObject(req.Body(), known...)
	if !ok {
		return nil, false, problemBadJSON
	}
	if raw, ok := members["remember"]; ok {
		remember = string(raw) == "true"
		if !remember && string(raw) != "false" {
			return nil, false, problemBadJSON
		}
	}
	a = &login.Attempt{Body: req.Body()}
	if lines := req.Header.PeekAll(fasthttp.HeaderAuthorization); len(lines) == 1 {
		a.Authorization = lines[0]
	}
	// A password that is not a string counts as none: a mode that needs a password refuses the login as for a wrong one.
	if raw := members["password"]; len(raw) > 0 && raw[0] == '"' {
		var password string
		if json.Unmarshal(raw, &password) != nil {
			return nil, false, problemBadJSON
		}
		a.Password = []byte(password)
	}
	raw := members["user_id"]
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &a.UserID) != nil || !validUserID(a.UserID) {
		return nil, false, problemUserID
	}
	if raw := members["claims"]; raw != nil {
		if a.Claims, err = coatcheck.ParseClaims(raw); errors.Is(err, coatcheck.ErrClaims) || raw[0] != '{' {
			return nil, false, problemClaims
		}
		a.ClaimsTooLarge = err
	}
	return a, remember, nil
}

// oneContentType reports whether there is at most one Content-Type line. Of several, fasthttp shows the last.
func oneContentType(h *fasthttp.RequestHeader) bool {
	n := 0
	for name := range h.AllInOrder() {
		if string(name) == fasthttp.HeaderContentType {
			n++
		}
	}
	return n <= 1
}

// isJSON reports whether the media type is application/json, whatever its parameters.
func isJSON(contentType []byte) bool {
	mediaType, _, _ := bytes.Cut(contentType, []byte{';'})
	return bytes.EqualFold(bytes.Trim(mediaType, " \t"), contentTypeJSON)
}

func validUserID(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return s != "" && len(s) <= coatcheck.MaxUserID
}

// readObject reads one JSON object that has no members but the known ones (RFC 8259, read strictly: no duplicate member, no
// bytes after the object, valid UTF-8, no lone surrogate escapes, which encoding/json would silently replace).
func readObject(body []byte, known ...string) (map[string]json.RawMessage, bool) {
	if !utf8.Valid(body) || !json.Valid(body) || loneSurrogate(body) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	members := make(map[string]json.RawMessage, len(known))
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if _, twice := members[name]; err != nil || !isName || twice || !contains(known, name) {
			return nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, false
		}
		members[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return members, err == io.EOF
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// loneSurrogate reports whether valid JSON has a \u escape that is half of a surrogate pair.
func loneSurrogate(b []byte) bool {
	high := -1 // where the escape after a high surrogate must begin
	for i := 0; i < len(b); i++ {
		if high >= 0 && i == high && b[i] != '\\' {
			return true
		}
		if b[i] != '\\' {
			continue
		}
		if b[i+1] != 'u' {
			if i == high {
				return true
			}
			i++
			continue
		}
		code, err := strconv.ParseUint(string(b[i+2:i+6]), 16, 16)
		low := code >= 0xDC00 && code <= 0xDFFF
		if err != nil || low != (i == high) {
			return true
		}
		i += 5
		high = -1
		if code >= 0xD800 && code <= 0xDBFF {
			high = i + 1
		}
	}
	return false
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
