package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
	"github.com/coatcheck/coatcheck/internal/origin"
	"github.com/coatcheck/coatcheck/internal/ownpath"
	"github.com/coatcheck/coatcheck/server/internal/loopback"
)

// loginPage is where verify redirects browsers that have no live session, with the requested address if that is on one of our
// origins. The redirect is a refusal like the 401 that it replaces: it does not change who is admitted.
type loginPage struct {
	url     string // up to the place of the return address
	origin  string // the page's own
	returns returnOrigins
	proxies middleware.Proxies // proxies whose headers about the original request are believed
}

// maxLocation bounds the Location header. Proxies have 4 KiB of room for the headers of an auth server.
const maxLocation = 2 << 10

func newLoginPage(cfg Config) *loginPage {
	if cfg.VerifyLoginURL == "" {
		return nil
	}
	u, own, err := parseLoginURL(cfg.VerifyLoginURL)
	if err != nil {
		panic("coatcheck: " + err.Error()) // Validate has let it pass
	}
	l := &loginPage{url: u.String() + "?rd=", origin: own, returns: newReturnOrigins(cfg), proxies: cfg.TrustedProxies}
	if u.RawQuery != "" {
		l.url = u.String() + "&rd="
	}
	return l
}

// returnOrigins are the origins to which a page to log in on may send people back with an absolute address.
type returnOrigins map[string]bool

func newReturnOrigins(cfg Config) returnOrigins {
	o := make(returnOrigins)
	for _, origin := range cfg.TrustedOrigins {
		if u, err := url.Parse(origin); err == nil && confidential(u) {
			o[origin] = true
		}
	}
	return o
}

// target returns the address of the request's parameter rd if our own page may send a person there, as the page of
// --verify-login-url is told it: a path of this origin, or a whole URL of a listed one. Else it is "".
func (o returnOrigins) target(c *fiber.Ctx) string {
	given := c.Context().QueryArgs().PeekMulti("rd")
	if len(given) != 1 || len(given[0]) > maxLocation {
		return ""
	}
	rd := string(given[0])
	if ownpath.Stays(rd) {
		return rd
	}
	origin, path := splitOrigin(rd)
	if !o[origin] || !ownpath.Stays(path) {
		return ""
	}
	return origin + path
}

// splitOrigin returns the origin of an absolute address, byte by byte as it stands there, and the rest; both are "" if it is none. An
// address that is an origin alone has the path "/". What may follow a host in place of a path, such as a query, stays with the
// origin, which is then none that is listed.
func splitOrigin(address string) (origin, path string) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return "", ""
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return address, "/"
	}
	n := len(scheme) + len("://") + slash
	return address[:n], address[n:]
}

// parseLoginURL reads --verify-login-url, and returns its origin, too, as browsers write it. Its error does not repeat the text, whose
// query may be secret.
func parseLoginURL(text string) (u *url.URL, own string, err error) {
	u, err = url.Parse(text)
	switch {
	case err != nil || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, "", errors.New("verify-login-url: not a URL in ASCII")
	case u.User != nil || u.Host == "" || !confidential(u):
		return nil, "", errors.New("verify-login-url: must be https, or http on loopback, with a host and without a user")
	case u.Fragment != "" || u.Query().Has("rd"):
		return nil, "", errors.New("verify-login-url: must have no fragment and no parameter rd, which is added")
	case len(text) > maxLocation/2:
		return nil, "", errors.New("verify-login-url: must not be longer than 1024 bytes")
	}
	if own, err = origin.Of(u); err != nil {
		return nil, "", fmt.Errorf("verify-login-url: %w", err)
	}
	return u, own, nil
}

// confidential reports whether requests to the URL cannot be read on the way to its host.
func confidential(u *url.URL) bool {
	if u.Scheme != "http" {
		return u.Scheme == "https"
	}
	return loopback.Host(u.Hostname())
}

// redirect redirects a browser that navigates, and reports whether it did. Scripts, images and programs get the 401.
func (l *loginPage) redirect(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	proxied := l.proxies.Trust(peer(ctx))
	if !navigates(h, proxied) {
		return false
	}
	location := l.url
	if proxied {
		location += url.QueryEscape(l.admit(requested(h)))
	}
	if len(location) > maxLocation || strings.HasSuffix(location, "rd=") {
		location = l.url[:len(l.url)-len("?rd=")]
	}
	ctx.SetStatusCode(fasthttp.StatusFound)
	ctx.Response.Header.Set(fasthttp.HeaderLocation, location)
	return true
}

// navigates reports whether the original request is a browser's navigation to a page.
func navigates(h *fasthttp.RequestHeader, proxied bool) bool {
	if !h.IsGet() && !h.IsHead() {
		return false
	}
	if proxied {
		for _, method := range h.PeekAll("X-Forwarded-Method") {
			if string(method) != fasthttp.MethodGet && string(method) != fasthttp.MethodHead {
				return false
			}
		}
	}
	for _, mode := range h.PeekAll("Sec-Fetch-Mode") {
		if string(mode) != "navigate" {
			return false
		}
	}
	for _, name := range []string{"X-Requested-With", "Hx-Request"} { // scripts that cannot follow a redirect to a page
		if len(h.PeekAll(name)) > 0 {
			return false
		}
	}
	for _, line := range h.PeekAll(fasthttp.HeaderAccept) {
		for mediaRange := range bytes.SplitSeq(line, []byte{','}) {
			mediaType, params, _ := bytes.Cut(mediaRange, []byte{';'})
			if bytes.EqualFold(bytes.Trim(mediaType, " \t"), []byte("text/html")) {
				return !refused(params)
			}
		}
	}
	return false
}

// refused reports whether the parameters of a media range have a quality of zero (RFC 9110, section 12.4.2).
func refused(params []byte) bool {
	for param := range bytes.SplitSeq(params, []byte{';'}) {
		name, value, _ := bytes.Cut(bytes.Trim(param, " \t"), []byte{'='})
		if bytes.EqualFold(name, []byte("q")) {
			return len(bytes.Trim(bytes.TrimPrefix(value, []byte("0")), ".0")) == 0
		}
	}
	return false
}

// requested returns the address of the original request from the proxy's headers: X-Forwarded-Proto, -Host and -Uri, or
// X-Original-Url. It is "" if they are missing, repeated or contradict each other.
func requested(h *fasthttp.RequestHeader) string {
	var told [4]string
	for i, name := range [...]string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Original-Url"} {
		line, n := first(h, name)
		if n > 1 {
			return ""
		}
		told[i] = string(line)
	}
	proto, host, uri, original := told[0], told[1], told[2], told[3]
	switch forwarded := proto + "://" + host + uri; {
	case uri == "":
		return original
	case original == "" || original == forwarded:
		return forwarded
	default:
		return ""
	}
}

// admit returns the address in the form that the login page may get: a path if it is of the page's own origin, the whole URL
// if it is of another listed origin, else "". Origins are compared byte by byte, so that no spelling passes that a browser
// and a server could read as two different hosts. The scheme's own port is left out, as browsers do: some proxies report it.
func (l *loginPage) admit(address string) string {
	origin, path := splitOrigin(address)
	if strings.HasPrefix(origin, "https:") {
		origin = strings.TrimSuffix(origin, httpsPort)
	} else {
		origin = strings.TrimSuffix(origin, ":80")
	}
	switch {
	case !ownpath.Stays(path):
		return ""
	case origin == l.origin:
		return path
	case l.returns[origin]:
		return origin + path
	default:
		return ""
	}
}
