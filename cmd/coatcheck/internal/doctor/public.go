package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/internal/cause"
)

// public looks at the server as a browser does, through the proxies in front of it.
func (d *doctor) public(ctx context.Context) {
	me, err := d.fetch(ctx, http.MethodGet, "/auth/me")
	if !me.expiry.IsZero() {
		d.certificate("url-tls", me.expiry)
	}
	var refused *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		d.say("url-tls", Problem, "browsers refuse the certificate: %s %s", d.url, cause.Of(err))
		return
	case err != nil:
		d.say("url", Problem, "%s %s", d.url, cause.Of(err))
		return
	case me.status >= 300 && me.status < 400:
		d.say("url", Problem, "%s redirects to %s: give that address to --url", d.url, adminclient.Printable(me.header.Get("Location")))
		return
	case !me.isJSON():
		d.say("url", Problem, "%s/auth/me answers %d and not as coatcheck does: the proxy leads elsewhere, or the server is down", d.url, me.status)
		return
	}
	d.say("url", Fine, "%s/auth/me answers", d.url)
	d.between(me.header)
	d.cookieArrives(ctx)
	d.dbscArrives(ctx)
	d.adminHidden(ctx)
}

// between reports what proxies have changed in an answer.
func (d *doctor) between(h http.Header) {
	switch {
	case h.Get("Age") != "" || !strings.Contains(h.Get("Cache-Control"), "no-store"):
		d.say("url-cache", Problem, "what is between stores answers, or lets browsers store them (Cache-Control %q, Age %q): one person may get "+
			"another's; turn caching off for these paths", adminclient.Printable(h.Get("Cache-Control")), adminclient.Printable(h.Get("Age")))
	default:
		d.say("url-cache", Fine, "answers are not stored on the way")
	}
	proxy := h.Get("Via")
	if proxy == "" {
		proxy = h.Get("Server")
	}
	switch {
	case proxy == "":
		d.say("url-proxy", Fine, "nothing between has named itself")
	case len(d.c.Server.TrustedProxies) == 0:
		d.say("url-proxy", Problem, "%q is between, and --trusted-proxies is empty: everybody seems to come from its address, so that ten failed "+
			"logins of one lock out all; name its address", adminclient.Printable(proxy))
	default:
		d.say("url-proxy", Fine, "%q is between, and --trusted-proxies is set", adminclient.Printable(proxy))
	}
}

// cookieArrives reports how a Set-Cookie arrives through the proxies. It asks for a logout without a session, which ends no
// session and clears the cookie nevertheless.
func (d *doctor) cookieArrives(ctx context.Context) {
	left, err := d.fetch(ctx, http.MethodPost, "/auth/logout")
	if err != nil {
		d.say("url-cookie", Problem, "%s %s", d.url, cause.Of(err))
		return
	}
	name := d.c.Server.Cookie.Name
	var changed []string
	for _, c := range left.cookies {
		if c.Name != name {
			continue
		}
		if changed = d.differences(c); changed == nil {
			d.say("url-cookie", Fine, "Set-Cookie arrives as it was sent")
			return
		}
	}
	if changed != nil {
		d.say("url-cookie", Problem, "the cookie arrives with another %s: what is between rewrites it, or the server runs with another configuration", strings.Join(changed, ", "))
		return
	}
	d.say("url-cookie", Problem, "no Set-Cookie of the name %s arrives: nobody stays logged in; what is between drops it, or the server runs with another configuration", name)
}

// differences names the attributes in which a received cookie differs from the one that the configuration makes the server
// send.
func (d *doctor) differences(c *http.Cookie) (names []string) {
	k := d.c.Server.Cookie
	sameSite := map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}
	for _, a := range []struct {
		name string
		same bool
	}{
		{"Secure", c.Secure == !k.Insecure},
		{"HttpOnly", c.HttpOnly == !k.ScriptAccess},
		{"SameSite", c.SameSite == sameSite[k.SameSite]},
		{"Path", c.Path == k.Path},
		{"Domain", strings.EqualFold(strings.TrimPrefix(c.Domain, "."), strings.TrimPrefix(k.Domain, "."))},
	} {
		if !a.same {
			names = append(names, a.name)
		}
	}
	return names
}

// adminHidden reports whether the public address leads to routes that only the admin listener has.
func (d *doctor) adminHidden(ctx context.Context) {
	for _, path := range []string{adminclient.UserPath("coatcheck-doctor"), "/healthz"} {
		if a, err := d.fetch(ctx, http.MethodGet, path); err == nil && a.isJSON() {
			d.say("url-admin", Problem, "%s%s answers: the public address leads to the admin listener too; let the proxy pass /auth/ only", d.url, path)
			return
		}
	}
	d.say("url-admin", Fine, "the admin API is not there")
}

// answer is a response without its body.
type answer struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	expiry  time.Time // of the certificate; zero: no TLS
}

func (a answer) isJSON() bool {
	return a.status == http.StatusOK && strings.HasPrefix(a.header.Get("Content-Type"), "application/json")
}

// fetch sends a request to the public address, with these names and values of headers. Its errors quote what may have come from
// there; see cause.Of.
func (d *doctor) fetch(ctx context.Context, method, path string, head ...string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url.String()+path, http.NoBody)
	if err != nil {
		return a, err
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	resp, err := adminclient.NewHTTPClient().Do(req)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	a = answer{status: resp.StatusCode, header: resp.Header, cookies: resp.Cookies()}
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		a.expiry = resp.TLS.PeerCertificates[0].NotAfter
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, adminclient.MaxAnswer))
	return a, err
}
