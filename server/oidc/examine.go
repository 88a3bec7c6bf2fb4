package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Finding is a result of Examine. Bad is what keeps people from logging in.
type Finding struct {
	About string
	Bad   bool
	Text  string
}

// Examine asks the provider what can be asked without a person: its discovery document, keys and clock, whether it knows the scopes
// and PKCE, and whether it takes the client with its redirect URI.
func (p *Provider) Examine(ctx context.Context) []Finding {
	var all []Finding
	say := func(about string, bad bool, format string, args ...any) {
		all = append(all, Finding{about, bad, fmt.Sprintf(format, args...)})
	}
	doc, err := p.discover(ctx)
	if err != nil {
		say("provider", true, "%v: nobody can log in; see that --oidc-issuer is exactly the provider's own name for itself, and that this machine reaches it", err)
		return all
	}
	var set keySet
	if _, err := fetch(ctx, p.client, "its keys", doc.Keys, &set, usualKeys); err != nil {
		say("provider", true, "%v", err)
	} else if n := len(set.usable()); n == 0 {
		say("provider", true, "it shows no key for RS256, ES256 or EdDSA")
	} else {
		say("provider", false, "it answers, with %d usable keys", n)
	}
	p.examineClock(ctx, say)
	if missing := slices.DeleteFunc(slices.Clone(p.opt.Scopes), func(s string) bool { return slices.Contains(doc.Scopes, s) }); len(doc.Scopes) > 0 && len(missing) > 0 {
		say("provider-scopes", true, "it does not offer the scope %s of --oidc-scopes", strings.Join(missing, ", "))
	} else {
		say("provider-scopes", false, "it offers %s", strings.Join(p.opt.Scopes, ", "))
	}
	if len(doc.Challenges) > 0 && !slices.Contains(doc.Challenges, "S256") {
		say("provider-pkce", true, "it does not know PKCE with S256")
	}
	p.examineRedirect(ctx, doc, say)
	if doc.BackChannel {
		say("provider-logout", false, "it knows back-channel logout: register %s/auth/oidc/backchannel-logout", p.external)
	} else {
		say("provider-logout", false, "it does not say that it knows back-channel logout: sessions live on when people sign out there")
	}
	return all
}

// examineClock compares the provider's clock with ours.
func (p *Provider) examineClock(ctx context.Context, say func(string, bool, string, ...any)) {
	resp, err := p.ask(ctx, strings.TrimSuffix(p.opt.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return // it was asked a moment ago
	}
	theirs, err := http.ParseTime(resp.header.Get("Date"))
	if err != nil {
		return
	}
	if off := p.opt.Now().Sub(theirs).Abs().Round(time.Second); off >= clockSkew {
		say("provider-clock", true, "its clock and this machine's differ by %v: tokens seem to have expired, or to be of the future; set the clocks", off)
	} else {
		say("provider-clock", false, "its clock and this machine's differ by %v", off)
	}
}

// examineRedirect asks for a login. A provider that does not know the client or its redirect URI must not redirect (RFC 6749,
// section 4.1.2.1), and answers with an error.
func (p *Provider) examineRedirect(ctx context.Context, doc *document, say func(string, bool, string, ...any)) {
	a := &attempt{}
	p.begin(a, nil, p.opt.Now())
	resp, err := p.ask(ctx, p.config(doc).AuthCodeURL(a.state()))
	switch {
	case err != nil:
		say("provider-client", true, "its page to log in on: %v", reasonOf(err))
	case resp.status >= http.StatusBadRequest:
		say("provider-client", true, "it answers %d to a login of this client: register the client %q with the redirect URI %s", resp.status, p.opt.ClientID, p.RedirectURI())
	case refusedAt(resp):
		say("provider-client", true, "it refuses a login of this client: see its log, and what is registered for the client %q", p.opt.ClientID)
	default:
		say("provider-client", false, "it takes the client %q with the redirect URI %s", p.opt.ClientID, p.RedirectURI())
	}
}

// refusedAt reports whether a redirect carries an error.
func refusedAt(resp reply) bool {
	u, err := url.Parse(resp.header.Get("Location"))
	return err == nil && u.Query().Has("error")
}

// reply is the part of an answer that is looked at.
type reply struct {
	status int
	header http.Header
}

func (p *Provider) ask(ctx context.Context, address string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return reply{}, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	return reply{resp.StatusCode, resp.Header}, resp.Body.Close()
}
