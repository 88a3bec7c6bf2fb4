package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// Results of a check.
const (
	Fine    = "ok"
	Warning = "warning"
	Problem = "problem"
)

// Verdict is the result of a check, one of those above. Its text says what that means, and what to do about it.
type Verdict struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Text   string `json:"text"`
}

// doctor checks a configuration, and the server that runs with it.
type doctor struct {
	c     *config.Config
	url   *url.URL // nil: not known
	found Report
	api   *adminclient.Client // of the server that runs with c; nil: no server has answered
}

func (d *doctor) say(check, result, format string, args ...any) {
	d.found = append(d.found, Verdict{Check: check, Result: result, Text: fmt.Sprintf(format, args...)})
}

// PublicURL reads the public address of a server; the result for an empty text is nil.
func PublicURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // an address that is not known is no mistake
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--url: not an address such as https://login.example.com")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// Examine makes all checks of a configuration, and of the server that runs with it, if there is one. A nil public address is
// not known, a nil provider is another login mode; notes are remarks on the configuration and its files.
func Examine(ctx context.Context, c *config.Config, provider *oidc.Provider, notes []string, public *url.URL) Report {
	d := &doctor{c: c, url: public}
	for _, note := range notes {
		d.say("environment", Warning, "%s", note)
	}
	d.login()
	if provider != nil {
		d.provider(ctx, provider)
	}
	d.cookie()
	d.dbsc()
	d.proxies()
	d.permissions()
	d.ownCertificate()
	d.adminListener()
	d.server(ctx)
	d.sockets()
	d.descriptors(ctx)
	if d.c.Store == "memory" {
		d.memory()
	} else {
		d.redis(ctx)
	}
	if d.url != nil {
		d.public(ctx)
	}
	return d.found
}

// Report is the results of the checks, in their order.
type Report []Verdict

// Count returns how many checks had this result.
func (r Report) Count(result string) (n int) {
	for _, v := range r {
		if v.Result == result {
			n++
		}
	}
	return n
}

// JSON is the report for a program.
func (r Report) JSON() string {
	b, err := json.MarshalIndent(struct {
		Checks   []Verdict `json:"checks"`
		Problems int       `json:"problems"`
		Warnings int       `json:"warnings"`
	}{r, r.Count(Problem), r.Count(Warning)}, "", "  ")
	if err != nil {
		return err.Error() // cannot happen: texts and numbers
	}
	return string(b) + "\n"
}

// String is the report for a person: a line for each check, and how many there were.
func (r Report) String() string {
	var b strings.Builder
	for _, v := range r {
		fmt.Fprintf(&b, "%-8s %-16s %s\n", v.Result, v.Check, adminclient.OneLine(v.Text))
	}
	fmt.Fprintf(&b, "%d checks, %d problems, %d warnings\n", len(r), r.Count(Problem), r.Count(Warning))
	return b.String()
}

// soon is how long before a certificate expires doctor warns of it: a renewal that works is done by then.
const soon = 14 * 24 * time.Hour

func (d *doctor) certificate(check string, ends time.Time) {
	switch left := time.Until(ends); {
	case left <= 0:
		d.say(check, Problem, "the certificate ended on %s: browsers refuse it; renew it", ends.Format(time.DateOnly))
	case left < soon:
		d.say(check, Warning, "the certificate ends on %s, within two weeks: renew it, and see why that has not happened by itself", ends.Format(time.DateOnly))
	default:
		d.say(check, Fine, "the certificate is good until %s", ends.Format(time.DateOnly))
	}
}
