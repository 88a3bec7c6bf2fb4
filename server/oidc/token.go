package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck/coatcheck"
)

// idToken is what is read of an ID token.
type idToken struct {
	sub, sid string
	authTime time.Time // zero: not said
	claims   map[string]any
}

// signed are the registered claims that are checked of a token. Their names are among checkedClaims.
type signed struct {
	Sub      string                     `json:"sub"`
	Sid      string                     `json:"sid"`
	Azp      *string                    `json:"azp"`
	Nonce    *string                    `json:"nonce"`
	Exp      *float64                   `json:"exp"`
	Iat      *float64                   `json:"iat"`
	Nbf      *float64                   `json:"nbf"`
	AuthTime *float64                   `json:"auth_time"`
	Jti      string                     `json:"jti"`
	Events   map[string]json.RawMessage `json:"events"`

	all map[string]json.RawMessage // of a claim that is there twice the last one (RFC 7519, section 4)
}

// checkedClaims are the claims that are relied on and that this package or the library reads into a struct.
var checkedClaims = []string{
	"iss", "aud", "at_hash", "sub", "sid", "azp", "nonce", "exp", "iat", "nbf", "auth_time", "jti", "events",
}

// misspelt returns the checked claim whose name a token has in another case, or ""; encoding/json takes one for the other.
func misspelt(claims map[string]json.RawMessage) string {
	for name := range claims {
		for _, checked := range checkedClaims {
			if name != checked && strings.EqualFold(name, checked) {
				return checked
			}
		}
	}
	return ""
}

// verifyToken checks a token's signature, issuer and audience.
func (p *Provider) verifyToken(ctx context.Context, doc *document, raw string) (*oidc.IDToken, *signed, error) {
	keys := &heard{keys: p.keys}
	verifier := oidc.NewVerifier(doc.Issuer, keys, &oidc.Config{
		ClientID: p.opt.ClientID, SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.EdDSA},
		SkipExpiryCheck: true, // ours allows for clocks that differ
		Now:             p.opt.Now,
	})
	token, err := verifier.Verify(p.context(ctx), raw)
	if keys.err != nil {
		return nil, nil, keys.err
	}
	if err != nil {
		return nil, nil, err
	}
	s := new(signed)
	if token.Claims(s) != nil || token.Claims(&s.all) != nil {
		return nil, nil, failf(BadToken, "its claims have the wrong types")
	}
	if name := misspelt(s.all); name != "" {
		return nil, nil, failf(BadToken, "it has a claim that is %s but for upper and lower case", name)
	}
	switch {
	case s.Exp == nil || s.Iat == nil:
		return nil, nil, failf(BadToken, "it has no exp or no iat")
	case !p.opt.Now().Before(unix(*s.Exp).Add(clockSkew)):
		return nil, nil, failf(BadToken, "it has expired")
	case unix(*s.Iat).After(p.opt.Now().Add(clockSkew)):
		return nil, nil, failf(BadToken, "it was issued in the future")
	case s.Nbf != nil && unix(*s.Nbf).After(p.opt.Now().Add(clockSkew)): // RFC 7519, section 4.1.5
		return nil, nil, failf(BadToken, "it is not valid yet")
	}
	return token, s, nil
}

// heard keeps the error of fetching keys, because the library returns only its text.
type heard struct {
	*keys
	err error
}

// VerifySignature is that of the keys.
func (h *heard) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := h.keys.VerifySignature(ctx, token)
	if _, failed := asFailure(err); failed {
		h.err = err
	}
	return payload, err
}

func unix(seconds float64) time.Time {
	return time.UnixMilli(int64(min(max(seconds, 0), 1<<40) * 1000))
}

// earlierIat is by how much an ID token may be older than the login that it is for. Core 1.0 leaves that to the client (no. 10 of the
// section below). Entra ID dates iat and nbf back by five minutes; that the token is of this login the nonce says, and that it is not out
// of date exp does.
const earlierIat = 10 * time.Minute // twice what Entra ID does

// checkIDToken checks an ID token as OpenID Connect Core 1.0, section 3.1.3.7 says.
func (p *Provider) checkIDToken(ctx context.Context, doc *document, raw, accessToken string, a *attempt) (*idToken, error) {
	token, s, err := p.verifyToken(ctx, doc, raw)
	if err != nil {
		return nil, p.tokenFailure(err)
	}
	switch {
	case len(token.Audience) > 1 && s.Azp == nil, s.Azp != nil && *s.Azp != p.opt.ClientID: // nos. 4 and 5; a logout token has no azp
		return nil, failf(BadToken, "the ID token is for another client")
	case s.Nonce == nil || subtle.ConstantTimeCompare([]byte(*s.Nonce), []byte(a.nonce())) != 1:
		return nil, failf(BadToken, "the ID token is of another login")
	case unix(*s.Iat).Before(a.began.Add(-earlierIat)):
		return nil, failf(BadToken, "the ID token is older than the login")
	case token.AccessTokenHash != "" && token.VerifyAccessToken(accessToken) != nil:
		return nil, failf(BadToken, "the ID token is of another access token")
	case a.reauth && (s.AuthTime == nil || !since(unix(*s.AuthTime), a.began)):
		return nil, failf(BadToken, "the provider did not authenticate the person anew")
	case !validSub(s.Sub):
		return nil, failf(BadToken, "its sub cannot be a user ID")
	}
	claims, err := readClaims(s.all)
	if err != nil {
		return nil, failf(BadToken, "its claims cannot be read")
	}
	id := &idToken{sub: s.Sub, sid: s.Sid, claims: claims}
	if s.AuthTime != nil {
		id.authTime = unix(*s.AuthTime)
	}
	return id, nil
}

// tokenFailure keeps a Failure, and hides the library's text, which quotes the token.
func (p *Provider) tokenFailure(err error) error {
	if f, ok := asFailure(err); ok {
		return f
	}
	return failf(BadToken, "the ID token is not signed by the provider for this client")
}

func validSub(sub string) bool {
	for _, r := range sub {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return sub != "" && len(sub) <= coatcheck.MaxUserID
}
