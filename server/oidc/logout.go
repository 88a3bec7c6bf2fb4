package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"
)

// Logout is what a logout token says has ended: all sessions of a user, those of one session of the provider, or both named, that
// session of that user.
type Logout struct {
	User, Session string
	// ID is a digest of the token's jti: a token is taken once.
	ID [16]byte
}

// LogoutLife is for how long a Logout's ID must be remembered: a token that is older is refused.
const LogoutLife = 5 * time.Minute

// logoutEvent is the event of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// Logout checks a logout token (section 2.6), except that it has not been seen before, which is up to the caller. The error is a
// *Failure.
func (p *Provider) Logout(ctx context.Context, raw string) (Logout, error) {
	doc, err := p.discover(ctx)
	if err != nil {
		return Logout{}, err
	}
	_, s, err := p.verifyToken(ctx, doc, raw)
	if err != nil {
		if f, ok := asFailure(err); ok && f.Kind != BadToken {
			return Logout{}, f
		}
		return Logout{}, failf(BadLogout, "the logout token is not the provider's for this client, or is out of date")
	}
	_, hasNonce := s.all["nonce"] // null included
	event := bytes.TrimSpace(s.Events[logoutEvent])
	switch {
	case len(event) == 0 || event[0] != '{':
		return Logout{}, failf(BadLogout, "the token is no logout token")
	case hasNonce:
		return Logout{}, failf(BadLogout, "the logout token has a nonce")
	case s.Jti == "":
		return Logout{}, failf(BadLogout, "the logout token has no jti")
	case s.Sub == "" && s.Sid == "":
		return Logout{}, failf(BadLogout, "the logout token names neither a user nor a session")
	case !p.opt.Now().Before(unix(*s.Iat).Add(LogoutLife - clockSkew)):
		return Logout{}, failf(BadLogout, "the logout token is too old")
	}
	return Logout{User: s.Sub, Session: s.Sid, ID: p.digest("jti", s.Jti)}, nil
}

// SessionID is a digest of a session of the provider, by which an Index knows it.
func (p *Provider) SessionID(sid string) [16]byte { return p.digest("sid", sid) }

func (p *Provider) digest(kind, text string) [16]byte {
	sum := sha256.Sum256([]byte(kind + "\x00" + p.opt.Issuer + "\x00" + p.opt.ClientID + "\x00" + text))
	return [16]byte(sum[:16])
}
