package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
)

// adminListener says who reaches the admin API.
func (d *doctor) adminListener() {
	switch {
	case d.c.AdminListen == "off":
		d.say("admin-listen", Warning, "off: nobody sees whether the server is healthy, and nobody can end a user's sessions")
	case config.Exposed(d.c.AdminListen):
		d.say("admin-listen", Warning, "other machines reach %s, and the key goes there in plain text; keep it on a network of your own", d.c.AdminListen)
	default:
		d.say("admin-listen", Fine, "only this machine reaches it")
	}
}

// server asks the server that runs with this configuration.
func (d *doctor) server(ctx context.Context) {
	base := adminclient.URL(d.c.AdminListen)
	if base == "" {
		d.say("server", Warning, "not asked, its admin listener has no address that could be known")
		return
	}
	api, err := adminclient.New(base, d.c.AdminKeyFile)
	if err != nil {
		d.say("server", Problem, "%v", err)
		return
	}
	status, body, err := api.Do(ctx, http.MethodGet, "/readyz")
	switch code, _ := adminclient.Problem(body); {
	case err != nil:
		d.say("server", Warning, "not asked: %v", err)
	case status == http.StatusOK:
		d.api = api
		d.say("server", Fine, "%s is ready", base)
	case status == http.StatusServiceUnavailable && code != "":
		d.api = api
		d.say("server", Problem, "%s is not ready: %v", base, api.Refused(status, body))
	default:
		d.say("server", Problem, "%v", api.Refused(status, body))
	}
}

const (
	fewFiles = 1024 // what shells give; each connection takes one
	someMore = 8192
)

// descriptors says whether there are enough for the connections: of the running server, where it tells, else of this process.
func (d *doctor) descriptors(ctx context.Context) {
	limit, known := maxFiles()
	whose := "a process that is started like this one"
	var open uint64
	if d.api != nil {
		_, body, _ := d.api.Do(ctx, http.MethodGet, "/metrics") // what cannot be read is not known
		if n, ok := gauge(body, "process_max_fds"); ok {
			limit, known, whose = n, true, "the running server"
			open, _ = gauge(body, "process_open_fds")
		}
	}
	const remedy = "raise it (ulimit -n, LimitNOFILE= of systemd)"
	switch {
	case !known:
	case limit <= fewFiles:
		d.say("descriptors", Problem, "%s may have %d, and each connection takes one: beyond it clients are not let in; %s", whose, limit, remedy)
	case open > limit/10*8:
		d.say("descriptors", Problem, "%s has %d of its %d in use; %s", whose, open, limit, remedy)
	case limit < someMore:
		d.say("descriptors", Warning, "%s may have %d, and each connection takes one; %s", whose, limit, remedy)
	default:
		d.say("descriptors", Fine, "%s may have %d", whose, limit)
	}
}

// gauge finds a metric without labels in Prometheus' text format.
func gauge(text []byte, name string) (uint64, bool) {
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		if value, ok := strings.CutPrefix(scan.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			return uint64(f), err == nil && f >= 0
		}
	}
	return 0, false
}

// connectWithin is how long a Redis may take to answer.
const connectWithin = 10 * time.Second

// redis says what redisstore finds.
func (d *doctor) redis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	opt := d.c.Redis
	opt.Logger = slog.New(slog.DiscardHandler)
	found, err := redisstore.Inspect(ctx, opt)
	if err != nil {
		d.say("redis", Problem, "%v; %s", err, unconnected(err))
		return
	}
	for _, f := range found {
		text := f.Text
		if f.Err != nil {
			text += ": " + f.Err.Error()
		}
		if f.Addr != "" {
			text += " (" + f.Addr + ")"
		}
		d.say("redis-"+f.Check, [...]string{redisstore.Fine: Fine, redisstore.Warning: Warning, redisstore.Problem: Problem}[f.Level], "%s", text)
	}
}

// unconnected is what to do when Redis cannot be used at all.
func unconnected(err error) string {
	text := err.Error()
	var unknown x509.UnknownAuthorityError
	switch {
	case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"):
		return "put the right user and password into the URL of --store"
	case strings.Contains(text, "NOPERM"):
		return "give the Redis user what docs/redis.md lists"
	case errors.As(err, &unknown):
		return "name the authority of Redis' certificate with tls_ca= in the URL of --store"
	default:
		return "see that Redis runs, and that this machine reaches it"
	}
}

// public looks at the server as a browser would, through whatever is between.
func (d *doctor) public(ctx context.Context) {
	me, err := d.fetch(ctx, http.MethodGet, "/auth/me")
	if !me.expiry.IsZero() {
		d.certificate("url-tls", me.expiry)
	}
	var refused *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		d.say("url-tls", Problem, "browsers refuse the certificate: %v", err)
		return
	case err != nil:
		d.say("url", Problem, "%v", err)
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
	d.adminHidden(ctx)
}

// between looks at what a proxy has done to an answer.
func (d *doctor) between(h http.Header) {
	switch {
	case h.Get("Age") != "" || !strings.Contains(h.Get("Cache-Control"), "no-store"):
		d.say("url-cache", Problem, "what is between stores answers, or lets browsers store them (Cache-Control %q, Age %q): one person may get another's; turn caching off for these paths", adminclient.Printable(h.Get("Cache-Control")), adminclient.Printable(h.Get("Age")))
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
		d.say("url-proxy", Problem, "%q is between, and --trusted-proxies is empty: everybody seems to come from its address, so that ten failed logins of one lock out all; name its address", adminclient.Printable(proxy))
	default:
		d.say("url-proxy", Fine, "%q is between, and --trusted-proxies is set", adminclient.Printable(proxy))
	}
}

// cookieArrives logs nobody out: a logout without a session clears the cookie too, and so shows what becomes of a Set-Cookie.
func (d *doctor) cookieArrives(ctx context.Context) {
	left, err := d.fetch(ctx, http.MethodPost, "/auth/logout")
	if err != nil {
		d.say("url-cookie", Problem, "%v", err)
		return
	}
	k := d.c.Server.Cookie
	var changed []string
	for _, c := range left.cookies {
		if c.Name != k.Name {
			continue
		}
		if changed = differences(k, c); changed == nil {
			d.say("url-cookie", Fine, "Set-Cookie arrives as it was sent")
			return
		}
	}
	if changed != nil {
		d.say("url-cookie", Problem, "the cookie arrives with another %s: what is between rewrites it, or the server runs with another configuration", strings.Join(changed, ", "))
		return
	}
	d.say("url-cookie", Problem, "no Set-Cookie of the name %s arrives: nobody stays logged in; what is between drops it, or the server runs with another configuration", k.Name)
}

// differences names the attributes in which a cookie that arrived is not the one that was sent.
func differences(k server.Cookie, c *http.Cookie) (names []string) {
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

// adminHidden asks for what only the admin listener has.
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

// fetch asks the public address.
func (d *doctor) fetch(ctx context.Context, method, path string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url.String()+path, http.NoBody)
	if err != nil {
		return a, err
	}
	resp, err := adminclient.NewHTTPClient().Do(req)
	if err != nil {
		return a, fmt.Errorf("%s cannot be reached: %w", d.url, errors.Unwrap(err))
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	a = answer{status: resp.StatusCode, header: resp.Header, cookies: resp.Cookies()}
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		a.expiry = resp.TLS.PeerCertificates[0].NotAfter
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, adminclient.MaxAnswer))
	return a, err
}
