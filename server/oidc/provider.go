package oidc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/origin"
)

// CallbackPath is where the provider sends people back to.
const CallbackPath = "/auth/oidc/callback"

// Options are what mode oidc needs to know. Issuer, ClientID, ExternalURL and StateKeys are required.
type Options struct {
	// Issuer is the provider: https, or http on a loopback address.
	Issuer string
	// ClientID is the name that the provider knows this server by.
	ClientID string
	// Secret returns the client's secret at the moment; nil: it is a public client.
	Secret func() string
	// ExternalURL is where browsers reach this server; the redirect URI is this and CallbackPath.
	ExternalURL string
	// Scopes are asked for. None: openid, profile and email.
	Scopes []string
	// RemoteUser is the claim that Remote-User shows. Empty: sub, which is the user ID.
	RemoteUser string
	// Groups are patterns of the groups that are kept, in which * stands for any text. None: all groups.
	Groups []string
	// Claims are the claims that are kept, each as its name or as ours=theirs. None: name, email and groups.
	Claims []string
	// Allow are rules claim=pattern, of which one must hold. None: everybody whom the provider lets in.
	Allow []string
	// StateKeys encrypt what a login remembers.
	StateKeys *StateKeys
	// RootCAs are the authorities that may sign the provider's certificate. Nil: the system's.
	RootCAs *x509.CertPool
	// Timeout bounds one request to the provider. 0: 5 seconds.
	Timeout time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Provider logs users in at one provider. Safe for concurrent use.
type Provider struct {
	opt      Options
	external *url.URL // as it is written, because the redirect URI is registered with the provider so
	origin   string   // of external, as browsers write it
	kept     []mapping
	allow    []mapping // claim and pattern
	client   *http.Client
	keys     *keys

	mu     sync.Mutex // held during a fetch: one at a time
	doc    *document  // guarded by mu; nil: not fetched yet
	until  time.Time  // guarded by mu: when doc is too old
	failed failedFetch

	latest atomic.Pointer[document] // the last good doc, however old; written by discover

	lookMu sync.Mutex
	look   chan struct{} // guarded by lookMu; closed when the look that is on its way is over; nil: none is
}

// document is what is read of the provider's discovery document (OpenID Connect Discovery 1.0, section 3).
type document struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	UserInfo      string   `json:"userinfo_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	NamesIssuer   bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	Scopes        []string `json:"scopes_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	BackChannel   bool     `json:"backchannel_logout_supported"`
}

// usualDocument is for how long a discovery document is kept whose answer does not say it.
const usualDocument = time.Hour

// New returns a provider, or all mistakes of the options, each of which begins with the name of its flag. It sends the
// provider no request yet.
func New(opt Options) (*Provider, error) {
	p := &Provider{opt: opt.withDefaults()}
	if err := p.take(p.opt); err != nil {
		return nil, err
	}
	p.client = newClient(opt.RootCAs, p.opt.Timeout)
	p.keys = &keys{now: p.opt.Now, fetch: func(ctx context.Context, into *keySet) (time.Duration, error) {
		doc, err := p.discover(ctx)
		if err != nil {
			return 0, err
		}
		return fetch(context.WithoutCancel(ctx), p.client, "the provider's keys", doc.Keys, into, usualKeys)
	}}
	return p, nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = requestTimeout
	}
	if len(o.Scopes) == 0 {
		o.Scopes = []string{"openid", "profile", "email"}
	}
	return o
}

// take sets what the provider has from its options, or returns all mistakes of them.
func (p *Provider) take(opt Options) error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("oidc-"+flag+": "+format, args...))
	}
	if _, err := secureURL(opt.Issuer); err != nil {
		wrong("issuer", "%w", err)
	} else if strings.ContainsAny(opt.Issuer, "?") {
		wrong("issuer", "must have no query")
	}
	if opt.ClientID == "" {
		wrong("client-id", "must be named")
	}
	external, err := secureURL(opt.ExternalURL)
	switch {
	case err != nil:
		wrong("external-url", "%w", err)
	case external.RawQuery != "" || strings.Trim(external.Path, "/") != "":
		wrong("external-url", "must be scheme and host, without a path")
	default:
		p.external = &url.URL{Scheme: external.Scheme, Host: external.Host}
		if p.origin, err = origin.Of(external); err != nil {
			wrong("external-url", "%w", err)
		}
	}
	if !slices.Contains(opt.Scopes, "openid") {
		wrong("scopes", "must contain openid")
	}
	if opt.StateKeys == nil {
		wrong("state-key-file", "a key is needed")
	}
	var mistakes []error
	p.kept, mistakes = parseMappings(opt.Claims, []string{"name", "email", "groups"}, true)
	for _, err := range mistakes {
		wrong("claims", "%w", err)
	}
	p.allow, mistakes = parseMappings(opt.Allow, nil, false)
	for _, err := range mistakes {
		wrong("allow", "%w", err)
	}
	if opt.RemoteUser == coatcheck.ClaimGroups {
		wrong("remote-user", "groups are a list, which cannot be a user")
	}
	if p.RemoteUserClaim() != "" && !slices.ContainsFunc(p.kept, func(m mapping) bool { return m.ours == opt.RemoteUser }) {
		p.kept = append(p.kept, mapping{opt.RemoteUser, opt.RemoteUser})
	}
	return errors.Join(errs...)
}

// Close closes the connections that are idle.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// Issuer is the provider's name.
func (p *Provider) Issuer() string { return p.opt.Issuer }

// RemoteUserClaim is the claim that Remote-User shows; empty: the user ID.
func (p *Provider) RemoteUserClaim() string {
	if p.opt.RemoteUser == "sub" {
		return ""
	}
	return p.opt.RemoteUser
}

// RemoteUserChecked is a digest of what a login checks before RemoteUserClaim can be shown: of whom the claim is, which of the provider's
// it is, and whether it is an address.
func (p *Provider) RemoteUserChecked() [16]byte {
	name := p.RemoteUserClaim()
	return p.digest("remote user", fmt.Sprintf("%s=%s %t", name, p.theirs(name), p.isAddress(name, p.theirs(name))))
}

// RedirectURI is where the provider sends people back to.
func (p *Provider) RedirectURI() string { return p.external.String() + CallbackPath }

// Secure reports whether browsers reach this server by https, so that cookies can be Secure.
func (p *Provider) Secure() bool { return p.external.Scheme == "https" }

// SecureHost is the host by which browsers reach this server, with its port if that is not the one of https; empty if they come by plain
// http, and for a nil Provider.
func (p *Provider) SecureHost() string {
	if p == nil || !p.Secure() {
		return ""
	}
	return strings.TrimPrefix(p.origin, "https://")
}

// discover returns the discovery document. A caller's deadline does not cut a fetch of it short, because its result, a failure included,
// is also that of the others who wait for it.
func (p *Provider) discover(ctx context.Context) (*document, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opt.Now()
	if p.doc != nil && now.Before(p.until) {
		return p.doc, nil
	}
	if p.failed.recent(now) {
		return nil, p.failed.err
	}
	doc := new(document)
	const what = "the provider's discovery document"
	address := strings.TrimSuffix(p.opt.Issuer, "/") + "/.well-known/openid-configuration"
	forHow, err := fetch(context.WithoutCancel(ctx), p.client, what, address, doc, usualDocument)
	if err == nil {
		if wrong := doc.check(p.opt.Issuer); wrong != nil {
			err = failf(BadAnswer, "%s: %v", what, wrong)
		}
	}
	if err != nil {
		p.failed = failedFetch{err, p.opt.Now()}
		return nil, err
	}
	p.doc, p.until, p.failed = doc, p.opt.Now().Add(forHow), failedFetch{} // whoever waited for it must not find it too old
	p.latest.Store(doc)
	return doc, nil
}

// check returns what is wrong with the document.
func (d *document) check(issuer string) error {
	if d.Issuer != issuer {
		return errors.New("it is another issuer's")
	}
	for name, address := range map[string]string{"authorization_endpoint": d.Authorization, "token_endpoint": d.Token, "jwks_uri": d.Keys} {
		if _, err := secureURL(address); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, address := range map[string]string{"userinfo_endpoint": d.UserInfo, "end_session_endpoint": d.EndSession} {
		if _, err := secureURL(address); address != "" && err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// config is the client's configuration for the document.
func (p *Provider) config(doc *document) *oauth2.Config {
	c := &oauth2.Config{ClientID: p.opt.ClientID, RedirectURL: p.RedirectURI(), Scopes: p.opt.Scopes}
	c.Endpoint = oauth2.Endpoint{AuthURL: doc.Authorization, TokenURL: doc.Token, AuthStyle: oauth2.AuthStyleInParams}
	if p.opt.Secret != nil {
		c.ClientSecret = p.opt.Secret()
		// client_secret_basic is what a provider takes that names no method (Discovery 1.0, section 3).
		if len(doc.TokenAuth) == 0 || slices.Contains(doc.TokenAuth, "client_secret_basic") {
			c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
		}
	}
	return c
}

// context makes the library use our client.
func (p *Provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// EndSessionURL returns where a person signs out at the provider too, and comes back from; empty where the provider has no such
// page, or cannot be asked before ctx is done.
func (p *Provider) EndSessionURL(ctx context.Context) string {
	doc := p.latest.Load()
	if doc == nil {
		select {
		case <-p.looked():
		case <-ctx.Done():
		}
		doc = p.latest.Load()
	}
	if doc == nil || doc.EndSession == "" {
		return ""
	}
	u, err := url.Parse(doc.EndSession)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.opt.ClientID)
	q.Set("post_logout_redirect_uri", p.external.String()+"/auth/login")
	u.RawQuery = q.Encode()
	return u.String()
}

// looked has the discovery document fetched, and returns a channel that is closed then. One goroutine does it for all callers, because
// those who do not wait for it would leave one behind each.
func (p *Provider) looked() <-chan struct{} {
	p.lookMu.Lock()
	defer p.lookMu.Unlock()
	if p.look == nil {
		over := make(chan struct{})
		p.look = over
		go func() {
			_, _ = p.discover(context.Background()) // discover has kept what came of it
			p.lookMu.Lock()
			p.look = nil
			p.lookMu.Unlock()
			close(over)
		}()
	}
	return p.look
}
