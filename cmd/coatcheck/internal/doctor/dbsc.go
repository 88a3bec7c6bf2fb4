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
		d.say("dbsc-ttl", Warning, "%v: browsers renew a token from two minutes before its end on, and below %v they run out of the signatures that "+
			"they allow a site; leave --dbsc-ttl at 10m", d.c.Server.Policy.BoundTTL, config.MinBoundTTL)
	}
	switch {
	case d.url == nil:
		d.say("dbsc", Fine, "its settings do not contradict each other; whether browsers can bind sessions at the public address is checked with --url")
	case d.url.Scheme != "https":
		d.say("dbsc", Problem, "browsers bind no session of an http:// address: serve it over https://")
	}
}

// dbscArrives reports whether the headers and the cookie of device-bound sessions arrive through the proxies. It asks as a
// browser that could not renew its token does, and once more with a proof of the length that one with an RSA key has: such a
// request is not held up. No session has the name. What a proxy does to the headers of answers shows only to a browser that
// logs in.
func (d *doctor) dbscArrives(ctx context.Context) {
	if !d.c.Server.DBSC || d.url.Scheme != "https" {
		return
	}
	head := []string{dbsc.HeaderSkipped, "server_error", "Cookie", d.c.Server.Cookie.Name + "-name=" + strings.Repeat("A", 21) + "Q"}
	pending, err := d.fetch(ctx, http.MethodGet, "/auth/me", head...)
	if err != nil {
		d.say("dbsc", Problem, "%s %s", d.url, cause.Of(err))
		return
	}
	if pending.status != http.StatusTooManyRequests {
		d.say("dbsc", Problem, "the header %s, or the cookie %s-name, does not arrive: what is between drops it, or the server runs with another "+
			"configuration", dbsc.HeaderSkipped, d.c.Server.Cookie.Name)
		return
	}
	proved, err := d.fetch(ctx, http.MethodGet, "/auth/me", append(head, dbsc.HeaderProof, strings.Repeat("A", rsaProof))...)
	switch {
	case err != nil:
		d.say("dbsc", Problem, "%s %s", d.url, cause.Of(err))
	case proved.status != http.StatusOK:
		d.say("dbsc", Problem, "the header %s with %d bytes does not arrive (%d): what is between drops it, or allows too few bytes of headers",
			dbsc.HeaderProof, rsaProof, proved.status)
	default:
		d.say("dbsc", Fine, "the headers and the cookie of device-bound sessions arrive")
	}
}

// rsaProof is the length of a proof that brings an RSA key of 2048 bits.
const rsaProof = 900
