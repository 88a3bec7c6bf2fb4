package dbsc

import (
	"bytes"
	"encoding/json"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cookie"
)

// The headers of the protocol.
const (
	// HeaderRegistration, in the answer to a login, offers to bind the session.
	HeaderRegistration = "Secure-Session-Registration"
	// HeaderChallenge, in an answer, is what the device must sign next.
	HeaderChallenge = "Secure-Session-Challenge"
	// HeaderProof, in a request, is the device's proof.
	HeaderProof = "Secure-Session-Response"
	// HeaderName, in a refresh, names the session.
	HeaderName = "Sec-Secure-Session-Id"
	// HeaderSkipped, in a request, says that the browser could not refresh.
	HeaderSkipped = "Secure-Session-Skipped"
)

// The paths of the two routes, below the path at which they are mounted.
const (
	RegisterPath = "/register"
	RefreshPath  = "/refresh"
)

// AppendChallenge appends the text of a challenge: the session's name, a dot, and the random part.
func AppendChallenge(dst []byte, name coatcheck.Key, c coatcheck.Challenge) []byte {
	dst, _ = name.AppendText(dst) // never fails
	dst, _ = c.AppendText(append(dst, '.'))
	return dst
}

// ParseChallenge reads what AppendChallenge writes.
func ParseChallenge(text []byte) (coatcheck.Key, coatcheck.Challenge, bool) {
	name, random, _ := bytes.Cut(text, []byte("."))
	key, ok := coatcheck.ParseKey(name)
	c, ok2 := coatcheck.ParseChallenge(random)
	return key, c, ok && ok2 && !key.IsZero()
}

// ParseName reads the value of HeaderName, which may stand in quotes.
func ParseName(value []byte) (coatcheck.Key, bool) {
	key, ok := coatcheck.ParseKey(cookie.Unquoted(value))
	return key, ok && !key.IsZero()
}

// ParseProof reads the value of HeaderProof, which may stand in quotes too.
func ParseProof(value []byte) (*Proof, error) {
	return Parse(cookie.Unquoted(value))
}

// AppendRegistration appends the value of HeaderRegistration for a session that was begun. path is that of RegisterPath.
func AppendRegistration(dst []byte, path string, name coatcheck.Key, c coatcheck.Challenge) []byte {
	dst = append(dst, `(ES256 RS256);path="`...)
	dst = append(dst, path...)
	dst = append(dst, `";challenge="`...)
	return append(AppendChallenge(dst, name, c), '"')
}

// AppendNext appends the value of HeaderChallenge.
func AppendNext(dst []byte, name coatcheck.Key, c coatcheck.Challenge) []byte {
	dst = AppendChallenge(append(dst, '"'), name, c)
	dst = append(dst, `";id="`...)
	dst, _ = name.AppendText(dst) // never fails
	return append(dst, '"')
}

// Instructions are what a browser is told about the cookie of a session that was bound: the answer to a registration.
type Instructions struct {
	Name       string
	RefreshURL string
	Cookie     string
	Attributes string // those of its Set-Cookie, but Max-Age and Expires
}

// JSON returns the body. Initiators of all sites may refresh: otherwise a link from another site would arrive anonymous.
func (i Instructions) JSON() []byte {
	type scope struct {
		IncludeSite bool `json:"include_site"`
	}
	type credential struct {
		Type       string `json:"type"`
		Name       string `json:"name"`
		Attributes string `json:"attributes"`
	}
	body, err := json.Marshal(struct {
		Identifier string       `json:"session_identifier"`
		RefreshURL string       `json:"refresh_url"`
		Scope      scope        `json:"scope"`
		Initiators []string     `json:"allowed_refresh_initiators"`
		Creds      []credential `json:"credentials"`
	}{i.Name, i.RefreshURL, scope{false}, []string{"*"}, []credential{{"cookie", i.Cookie, i.Attributes}}})
	if err != nil {
		panic(err) // strings and a boolean
	}
	return body
}
