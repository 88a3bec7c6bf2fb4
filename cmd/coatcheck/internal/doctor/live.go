package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/redisstore"
)

// adminListener reports from where the admin API can be reached.
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
		d.lessThanReady(body)
	case status == http.StatusServiceUnavailable && code != "":
		d.api = api
		d.say("server", Problem, "%s is not ready: %v", base, api.Refused(status, body))
	default:
		d.say("server", Problem, "%v", api.Refused(status, body))
	}
}

// lessThanReady reports what a server that is ready cannot do at the moment.
func (d *doctor) lessThanReady(body []byte) {
	var now struct{ Writes, Reload string }
	if err := json.Unmarshal(body, &now); err != nil {
		return // a release that says less
	}
	if now.Writes == "refused" {
		d.say("server-writes", Problem, "the store refuses writes: nobody can log in; the log says why (a disk or Redis that is full, read-only or failed)")
	}
	if now.Reload == "failed" {
		d.say("server-reload", Problem, "a file could not be read again, and what was read before stays in effect; the log says which, and the server tries it every ten seconds")
	}
}

const (
	fewFiles    = 1024 // the limit in most shells
	enoughFiles = 8192
)

// descriptors checks whether there are enough for the connections: the descriptors of the running server, if its metrics
// tell, else those of this process.
func (d *doctor) descriptors(ctx context.Context) {
	limit, known := maxFiles()
	whose := "a process that is started like this one"
	var open uint64
	if d.api != nil {
		_, body, _ := d.api.Do(ctx, http.MethodGet, "/metrics") // after an error the limit is not known
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
	case limit < enoughFiles:
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

// redis reports what redisstore finds wrong with a Redis.
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

// unconnected says what to do when Redis cannot be used at all.
func unconnected(err error) string {
	text := err.Error()
	var unknown x509.UnknownAuthorityError
	switch {
	case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"):
		return "put the right user and password into the URL of --store"
	case strings.Contains(text, "connection refused by Redis"):
		return "raise maxclients, or see what else is connected; protected mode ends when Redis has a password"
	case strings.Contains(text, "NOPERM"):
		return "give the Redis user what docs/redis.md lists"
	case errors.As(err, &unknown):
		return "name the authority of Redis' certificate with tls_ca= in the URL of --store"
	default:
		return "see that Redis runs, and that this machine reaches it"
	}
}
