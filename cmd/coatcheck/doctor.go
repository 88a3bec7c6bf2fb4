package main

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/server/login"
)

const doctorUsage = `Usage:
  coatcheck doctor [--url https://public.address] [--json] [the flags of serve]

It takes the flags, the environment and the file that "coatcheck serve" takes, and reports on each thing that usually goes wrong.
Run it on the server's machine and as the server's user. If a server runs with this configuration, doctor asks that server, too.

  --url URL
        where browsers reach the server; doctor then also checks the proxies on the way, and whether browsers keep the cookie
  --json
        print JSON

The exit code is 0 without problems, 1 with any, 2 when the configuration has mistakes.
`

// runDoctor checks a configuration and, if there is one, the server that runs with it.
func runDoctor(args, environ []string, stdout, stderr io.Writer) int {
	var public string
	var asJSON bool
	c, err := config.Load(args, environ, config.Text("url", "URL", &public), config.Switch("json", &asJSON))
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, doctorUsage)
	}
	opened, mistakes := credentials.Open(c, login.UsersOptions{})
	if err = errors.Join(err, mistakes); err != nil {
		return refuse(stderr, err)
	}
	address, err := doctor.PublicURL(public)
	if err != nil {
		return refuse(stderr, err)
	}
	report := doctor.Examine(context.Background(), c, opened.Provider, slices.Concat(c.Notes, opened.Notes), address)
	text := report.String()
	if asJSON {
		text = report.JSON()
	}
	if say(stdout, text) != exitOK || report.Count(doctor.Problem) > 0 {
		return exitFailed
	}
	return exitOK
}
