package oidc

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"time"

	"golang.org/x/oauth2"
)

// userInfo returns the claims of userinfo, which must be of the ID token's person. The library has a function for it, which fetches the
// keys at each login whose userinfo is signed.
func (p *Provider) userInfo(ctx context.Context, doc *document, token *oauth2.Token, id *idToken) (map[string]any, error) {
	const what = "userinfo"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, doc.UserInfo, http.NoBody)
	if err != nil {
		return nil, failf(BadAnswer, what+": not a URL")
	}
	token.SetAuthHeader(req)
	header, body, err := send(p.client, what, req)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	isSigned := kind == "application/jwt"
	if isSigned {
		if body, err = p.keys.VerifySignature(ctx, string(body)); err != nil {
			if f, ok := asFailure(err); ok {
				return nil, f
			}
			return nil, failf(BadAnswer, what+": it is not signed by the provider")
		}
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, failure(what, http.StatusOK, err)
	}
	claims, err := readClaims(members)
	switch {
	case err != nil:
		return nil, failf(BadAnswer, what+": the claims cannot be read")
	case isSigned && !p.isForUs(doc, claims):
		return nil, failf(BadAnswer, what+": it is another provider's, for another client, or out of date")
	case claims["sub"] != any(id.sub):
		return nil, failf(BadUserInfo, what+" is of another person")
	}
	return claims, nil
}

// isForUs checks the claims of a signed userinfo that say by whom and for whom it is, and until when. Each may be missing (OpenID Connect
// Core 1.0, section 5.3.2).
func (p *Provider) isForUs(doc *document, claims map[string]any) bool {
	if iss, named := claims["iss"]; named && iss != any(doc.Issuer) {
		return false
	}
	if aud, named := claims["aud"]; named {
		if all, _, _ := texts(aud); !slices.Contains(all, p.opt.ClientID) {
			return false
		}
	}
	now := p.opt.Now()
	return isTime(claims, "exp", func(t time.Time) bool { return now.Before(t.Add(clockSkew)) }) &&
		isTime(claims, "nbf", func(t time.Time) bool { return !now.Before(t.Add(-clockSkew)) })
}

// isTime reports whether a claim is missing, or a time that is right.
func isTime(claims map[string]any, name string, right func(time.Time) bool) bool {
	claim, named := claims[name]
	if !named {
		return true
	}
	number, _ := claim.(json.Number) // of anything else none
	seconds, err := number.Float64()
	return err == nil && right(unix(seconds))
}
