package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
)

const doctorUsage = `Usage:
  coatcheck doctor [--url https://public.address] [--json] [the flags of serve]

It takes the flags, the environment and the file that "coatcheck serve" takes, and says of each thing that usually goes wrong
whether it will, or does. Run it on the server's machine and as the server's user. Where a server runs with this
configuration, it is asked too.

  --url URL
        where browsers reach the server; what is between is then looked at, and whether they will keep the cookie
  --json
        print JSON

The exit code is 0 without problems, 1 with any, 2 when the configuration has mistakes.
`

// What a check comes to.
const (
	fine    = "ok"
	warning = "warning"
	problem = "problem"
)

// verdict is what a check came to. Its text says what it means, and what to do about it.
type verdict struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Text   string `json:"text"`
}

// doctor looks at a configuration, and at the server that runs with it.
type doctor struct {
	c     *config.Config
	url   *url.URL // nil: not known
	found []verdict
	api   *adminclient.Client // of the server that runs with c; nil: none has answered
}

func (d *doctor) say(check, result, format string, args ...any) {
	d.found = append(d.found, verdict{check, result, fmt.Sprintf(format, args...)})
}

// runDoctor checks a configuration and, where there is one, the server that runs with it.
func runDoctor(args, environ []string, stdout, stderr io.Writer) int {
	var public string
	var asJSON bool
	c, err := config.Load(args, environ, config.Text("url", "URL", &public), config.Switch("json", &asJSON))
	d := &doctor{c: c}
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, doctorUsage)
	}
	o, mistakes := credentials.Open(d.c, nil)
	d.c.Notes = append(d.c.Notes, o.Notes...)
	if err = errors.Join(err, mistakes); err == nil {
		d.url, err = publicURL(public)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: the configuration has mistakes:\n%s\"coatcheck serve --help\" lists the flags.\n", config.Bullets(err)))
		return exitUsage
	}
	d.examine(context.Background())
	if say(stdout, d.print(asJSON)) != exitOK || d.count(problem) > 0 {
		return exitFailed
	}
	return exitOK
}

// publicURL reads --url; without it there is none.
func publicURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // not known is no mistake
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--url: not an address such as https://login.example.com")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// examine makes all checks.
func (d *doctor) examine(ctx context.Context) {
	for _, note := range d.c.Notes {
		d.say("environment", warning, "%s", note)
	}
	d.login()
	d.cookie()
	d.proxies()
	d.secretFiles()
	d.ownCertificate()
	d.adminListener()
	d.server(ctx)
	d.descriptors(ctx)
	if d.c.Store == "memory" {
		d.memory()
	} else {
		d.redis(ctx)
	}
	if d.url != nil {
		d.public(ctx)
	}
}

func (d *doctor) count(result string) (n int) {
	for _, v := range d.found {
		if v.Result == result {
			n++
		}
	}
	return n
}

func (d *doctor) print(asJSON bool) string {
	problems, warnings := d.count(problem), d.count(warning)
	if asJSON {
		b, err := json.MarshalIndent(struct {
			Checks   []verdict `json:"checks"`
			Problems int       `json:"problems"`
			Warnings int       `json:"warnings"`
		}{d.found, problems, warnings}, "", "  ")
		if err != nil {
			return err.Error() // cannot be: texts and numbers
		}
		return string(b) + "\n"
	}
	var b strings.Builder
	for _, v := range d.found {
		fmt.Fprintf(&b, "%-8s %-16s %s\n", v.Result, v.Check, oneLine(v.Text))
	}
	fmt.Fprintf(&b, "%d checks, %d problems, %d warnings\n", len(d.found), problems, warnings)
	return b.String()
}

// oneLine is a text of ours with errors of others in it, which may come from anywhere.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}

// soon is how long before its end a certificate is warned of: a renewal that works is done by then.
const soon = 14 * 24 * time.Hour

func (d *doctor) certificate(check string, ends time.Time) {
	switch left := time.Until(ends); {
	case left <= 0:
		d.say(check, problem, "the certificate ended on %s: browsers refuse it; renew it", ends.Format(time.DateOnly))
	case left < soon:
		d.say(check, warning, "the certificate ends on %s, within two weeks: renew it, and see why that has not happened by itself", ends.Format(time.DateOnly))
	default:
		d.say(check, fine, "the certificate is good until %s", ends.Format(time.DateOnly))
	}
}
