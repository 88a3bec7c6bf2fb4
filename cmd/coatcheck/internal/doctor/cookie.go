package doctor

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// cookie checks whether browsers keep the cookie and send it where it is needed. A cookie that no browser would keep on any
// server, such as __Host- with a Domain, is a mistake of the configuration already.
func (d *doctor) cookie() {
	if d.url == nil {
		d.say("cookie", Fine, "its settings do not contradict each other; whether browsers keep it at the public address is checked with --url")
		if len(d.c.Server.TrustedOrigins) > 0 {
			d.say("cookie-same-site", Warning, "cannot tell whether the trusted origins are of the same site as the server; say where that is, with --url")
		}
		return
	}
	d.cookieSecure()
	d.cookieDomain()
	d.cookiePath()
	d.cookieSameSite()
}

func (d *doctor) cookieSecure() {
	k := d.c.Server.Cookie
	switch {
	case d.url.Scheme == "http" && !k.Insecure && isLocal(d.url.Hostname()):
		d.say("cookie-secure", Warning, "Safari keeps no Secure cookie of http://%s, other browsers do; for development use --dev", d.url.Host)
	case d.url.Scheme == "http" && !k.Insecure:
		d.say("cookie-secure", Problem, "browsers keep no Secure cookie of an http:// address: nobody stays logged in; serve it over https://")
	case d.url.Scheme == "https" && k.Insecure:
		d.say("cookie-secure", Warning, "the cookie lacks Secure and goes over plain http:// too, where others read it; leave --cookie-secure at true")
	default:
		d.say("cookie-secure", Fine, "Secure fits the address")
	}
}

func (d *doctor) cookieDomain() {
	domain, host := strings.ToLower(strings.TrimPrefix(d.c.Server.Cookie.Domain, ".")), strings.ToLower(d.url.Hostname())
	if domain == "" {
		d.say("cookie-domain", Fine, "none: the cookie goes to %s only", host)
		return
	}
	suffix, _ := publicsuffix.PublicSuffix(domain)
	switch {
	case net.ParseIP(host) != nil && domain != host, domain != host && !strings.HasSuffix(host, "."+domain):
		d.say("cookie-domain", Problem, "browsers take no cookie for %s from %s: nobody stays logged in; leave --cookie-domain empty, or name a "+
			"parent domain of the address", domain, host)
	case suffix == domain && domain != host:
		d.say("cookie-domain", Problem, "%s is a public suffix, for which browsers take no cookie: nobody stays logged in; name your own domain, or none", domain)
	default:
		d.say("cookie-domain", Fine, "%s fits the address", domain)
	}
}

func (d *doctor) cookiePath() {
	path, at := d.c.Server.Cookie.Path, d.url.Path+"/auth/me"
	// RFC 6265, section 5.1.4
	if at == path || strings.HasPrefix(at, path) && (strings.HasSuffix(path, "/") || at[len(path)] == '/') {
		d.say("cookie-path", Fine, "%s covers the auth routes", path)
		return
	}
	d.say("cookie-path", Problem, "browsers do not send a cookie of path %s to %s, so that everybody is anonymous there; use --cookie-path=/", path, at)
}

func (d *doctor) cookieSameSite() {
	var foreign []string
	for _, origin := range d.c.Server.TrustedOrigins {
		if u, err := url.Parse(origin); err == nil && site(u) != site(d.url) {
			foreign = append(foreign, origin)
		}
	}
	mode, which := d.c.Server.Cookie.SameSite, strings.Join(foreign, ", ")
	switch {
	case foreign == nil:
		d.say("cookie-same-site", Fine, "%s fits the trusted origins", mode)
	case mode == "none":
		d.say("cookie-same-site", Warning, "%s is another site, and browsers that block third-party cookies send none from there; serve it from a subdomain of the same site", which)
	default:
		d.say("cookie-same-site", Problem, "%s is another site, and from its pages browsers send no SameSite=%s cookie: everybody is anonymous "+
			"there; serve it from a subdomain of the same site, or use --cookie-same-site=none", which, mode)
	}
}

// site returns what browsers compare for SameSite: the scheme, and the registered domain.
func site(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if net.ParseIP(host) == nil {
		if registered, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
			host = registered
		}
	}
	return u.Scheme + "://" + host
}

func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.Unmap().IsLoopback()
}

// proxies checks whether the server knows its clients' addresses behind proxies, as far as its settings tell.
func (d *doctor) proxies() {
	trusted := d.c.Server.TrustedProxies
	for _, p := range trusted {
		if p.Bits() == 0 {
			d.say("proxies", Problem, "--trusted-proxies %v is everybody: each client then chooses its own address in X-Forwarded-For, and is throttled never; name the proxies", p)
			return
		}
	}
	const means = "everybody seems to come from the proxy's address: ten failed logins of one lock out all, and lists of sessions show the proxy"
	host, _, err := net.SplitHostPort(d.c.Listen)
	own, ipErr := netip.ParseAddr(host)
	if host == "localhost" {
		own, ipErr = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	behind := err == nil && ipErr == nil && own.IsLoopback() && d.url != nil && !isLocal(d.url.Hostname())
	for _, p := range trusted {
		behind = behind && !p.Contains(own.Unmap())
	}
	_, socket, _ := config.ParseUnixSocket(d.c.Listen)
	switch {
	case socket:
		d.say("proxies", Fine, "X-Forwarded-For is believed of everybody who may connect to the socket: right if only the proxy may")
	case behind:
		d.say("proxies", Problem, "%s can only be reached through a proxy on this machine, and --trusted-proxies does not name %s: %s", d.c.Listen, own, means)
	case len(trusted) == 0 && d.url == nil && !config.Exposed(d.c.Listen):
		d.say("proxies", Fine, "none is trusted: right if clients connect to %s themselves; --url checks what is between", d.c.Listen)
	case len(trusted) == 0:
		d.say("proxies", Fine, "none is trusted: right if clients connect themselves")
	default:
		d.say("proxies", Fine, "X-Forwarded-For is believed of those in --trusted-proxies only")
	}
}
