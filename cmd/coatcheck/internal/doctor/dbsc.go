package doctor

import (
	"context"
	"net/http"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/internal/cause"
	"github.com/coatcheck/coatcheck/internal/dbsc"
)

// dbsc checks whether browsers can bind sessions to their devices. Contradictions are mistakes of the configuration already.
func (d *doctor) dbsc() {
	if !d.c.Server.DBSC {
		return
	}
	if d.c.Server.Policy.BoundTTL < config.MinBoundTTL {
		d.say("dbsc-ttl", Warning, "%v: browsers renew a token from two minutes before its end on, and below %v they run out of the signatures that they allow a site; leave --dbsc-ttl at 10m", d.c.Server.Policy.BoundTTL, config.MinBoundTTL)
	}
	switch {
	case d.url == nil:
		d.say("dbsc", Fine, "its settings do not contradict each other; whether browsers can bind sessions at the public address is checked with --url")
	case d.url.Scheme != "https":
		d.say("dbsc", Problem, "browsers bind no session of an http:// address: serve it over https://")
	}
}

// dbscArrives reports whether the headers and the cookie of device-bound sessions arrive through the proxies. It asks as a
// browser does that could not renew its token; no session has the name.
func (d *doctor) dbscArrives(ctx context.Context) {
	if !d.c.Server.DBSC || d.url.Scheme != "https" {
		return
	}
	name := strings.Repeat("A", 21) + "Q"
	got, err := d.fetch(ctx, http.MethodGet, "/auth/me", dbsc.HeaderSkipped, "server_error", "Cookie", d.c.Server.Cookie.Name+"-name="+name)
	switch {
	case err != nil:
		d.say("dbsc", Problem, "%s %s", d.url, cause.Of(err))
	case got.status != http.StatusTooManyRequests:
		d.say("dbsc", Problem, "the header %s, or the cookie %s-name, does not arrive: what is between drops it, or the server runs with another configuration", dbsc.HeaderSkipped, d.c.Server.Cookie.Name)
	default:
		d.say("dbsc", Fine, "the headers and the cookie of device-bound sessions arrive")
	}
}
