package oidc

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck"
)

// Wanted is what a login is begun for.
type Wanted struct {
	// Return is where the person goes then: an address that the caller has checked.
	Return string
	// Reauth asks the provider to authenticate the person anew.
	Reauth bool
	// Hint is the user who is expected, if an earlier attempt has shown it.
	Hint string
}

// Begin returns where to send a browser to log in, and the cookies to set; carried are those of the request whose names begin with
// CookiePrefix. The error is a *Failure.
func (p *Provider) Begin(ctx context.Context, w Wanted, carried []Cookie) (location string, set []Cookie, err error) {
	doc, err := p.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	a := &attempt{reauth: w.Reauth, hint: w.Hint, rd: w.Return}
	set = p.begin(a, carried, p.opt.Now())
	opts := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.verifier()), oauth2.SetAuthURLParam("nonce", a.nonce())}
	if a.reauth {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return p.config(doc).AuthCodeURL(a.state(), opts...), set, nil
}

// Identity is what the provider said of a person who logged in.
type Identity struct {
	// User is the user ID: the provider's sub.
	User   string
	Claims coatcheck.ClaimSet
	// Session is the provider's session (sid); empty where it names none.
	Session string
	// AuthTime is when the provider authenticated the person (auth_time), which with single sign-on may be long ago; zero where it does
	// not say.
	AuthTime time.Time
}

// Answer is the provider's answer to a login, as a browser brings it.
type Answer struct {
	p      *Provider
	query  url.Values
	a      *attempt
	cookie Cookie
	tried  bool
}

// maxCode is the longest code that is taken. Entra's have more than 2,000 bytes.
const maxCode = 8 << 10

// Answer finds the login that an answer belongs to. The error is a *Failure; the answer is then of no login of this browser.
func (p *Provider) Answer(query url.Values, carried []Cookie) (*Answer, error) {
	for _, name := range []string{"state", "code", "error", "iss"} {
		if len(query[name]) > 1 {
			return nil, failf(BadCallback, "%s is there twice", name)
		}
	}
	if !query.Has("state") || query.Has("code") == query.Has("error") {
		return nil, failf(BadCallback, "there must be a state, and a code or an error")
	}
	if query.Has("code") && !validCode(query.Get("code")) {
		return nil, failf(BadCallback, "no provider gives out such a code")
	}
	a, cookie, ok := p.find(query.Get("state"), carried, p.opt.Now())
	if !ok {
		return nil, failf(BadState, "no login of this browser has that state")
	}
	return &Answer{p: p, query: query, a: a, cookie: cookie}, nil
}

// validCode reports whether a code is one in the sense of RFC 6749, A.11. Nothing else is sent to the provider.
func validCode(code string) bool {
	return code != "" && len(code) <= maxCode && !strings.ContainsFunc(code, func(r rune) bool { return r < ' ' || r > '~' })
}

// Wanted is what the login was begun for.
func (r *Answer) Wanted() Wanted { return Wanted{Return: r.a.rd, Reauth: r.a.reauth, Hint: r.a.hint} }

// Clear clears the login's cookie: an answer is taken once. A browser that keeps the cookie can send the answer again.
func (r *Answer) Clear() Cookie { return Cookie{Name: r.cookie.Name} }

// Tried reports whether Identity has had the provider try the code. It has not if the login failed before that, or if the provider
// does not take this server for its client, which is the operator's mistake and the same for every code.
func (r *Answer) Tried() bool { return r.tried }

// Identity checks the answer, and asks the provider who the person is. The error is a *Failure, or wraps
// coatcheck.ErrClaimsTooLarge.
func (r *Answer) Identity(ctx context.Context) (Identity, error) {
	p := r.p
	doc, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	// RFC 9207: the answer of another provider is refused before its code goes to this one.
	if iss := r.query.Get("iss"); iss != doc.Issuer && (doc.NamesIssuer || r.query.Has("iss")) {
		return Identity{}, failf(BadIssuer, "the answer is not this provider's")
	}
	if r.query.Has("error") {
		return Identity{}, refusal(r.query.Get("error"))
	}
	noted, answer := p.noted(ctx)
	token, err := p.config(doc).Exchange(noted, r.query.Get("code"), oauth2.VerifierOption(r.a.verifier()))
	r.tried = !clientRefused(err)
	if err != nil {
		return Identity{}, exchangeFailure(answer, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Identity{}, failf(BadAnswer, "the token endpoint gave no ID token")
	}
	id, err := p.checkIDToken(ctx, doc, raw, token.AccessToken, r.a)
	if err != nil {
		return Identity{}, err
	}
	all := said{id.claims}
	if doc.UserInfo != "" {
		more, err := p.userInfo(ctx, doc, token, id)
		if err != nil {
			return Identity{}, err
		}
		all = said{more, id.claims}
	}
	claims, err := p.admit(id.sub, all)
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: id.sub, Claims: claims, Session: id.sid, AuthTime: id.authTime}, nil
}

// refusal is what an error of the authorization endpoint means (RFC 6749, section 4.1.2.1, and OpenID Connect Core 1.0, 3.1.2.6).
func refusal(code string) error {
	switch code {
	case "access_denied", "login_required", "consent_required", "interaction_required", "account_selection_required":
		return failf(Denied, "the provider refused the login: %s", code)
	case "temporarily_unavailable", "server_error":
		return failf(Unavailable, "the provider could not log in: %s", code)
	default:
		return failf(BadAnswer, "the provider does not take the request")
	}
}

// clientRefused reports whether the token endpoint refused the client and not the code (RFC 6749, section 5.2).
func clientRefused(err error) bool {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && (refused.ErrorCode == "invalid_client" || refused.ErrorCode == "unauthorized_client")
}

// exchangeFailure is what an error of the token endpoint means, which gave this answer.
func exchangeFailure(answer *noting, err error) error {
	f := answer.failure("the token endpoint", err)
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if kind, _ := asFailure(f); ok && kind.Kind == BadAnswer && refused.ErrorCode == "invalid_grant" {
		return failf(BadCode, "the provider does not take the code")
	}
	return f
}

// since reports whether a time that the provider named is not before t, as far as the two clocks can differ.
func since(named, t time.Time) bool { return !named.Before(t.Add(-clockSkew)) }
