package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

const healthcheckUsage = `Usage:
  coatcheck healthcheck [--ready] [the flags of serve]

Asks the admin listener of the server that runs with this configuration whether it is alive, and with --ready whether its store
can serve. The exit code is 0 or 1.
`

// runHealthcheck asks the server that runs with this configuration whether it is alive: the health check of a container that
// has no other program. Whether it is ready is another question: an outage of Redis is no reason to restart every node. The
// exit code is 0 or 1 and nothing else, as Docker wants it.
func runHealthcheck(args, environ []string, stdout, stderr io.Writer) int {
	var ready bool
	c, err := config.Load(args, environ, config.Switch("ready", &ready))
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, healthcheckUsage)
	}
	path, text := "/healthz", "alive\n"
	if ready {
		path, text = "/readyz", "ready\n"
	}
	// Mistakes are the server's to tell: what it was given by flags, such as the login mode, is not known here.
	if err := alive(c, path); err != nil {
		say(stderr, fmt.Sprintf("coatcheck: healthcheck: %s\n", adminclient.OneLine(err.Error())))
		return exitFailed
	}
	return say(stdout, text)
}

func alive(c *config.Config, path string) error {
	base := adminclient.URL(c.AdminListen)
	if base == "" {
		return fmt.Errorf("--admin-listen %s cannot be asked", c.AdminListen)
	}
	api, err := adminclient.New(base, c.AdminKeyFile)
	if err != nil {
		return err
	}
	status, body, err := api.Do(context.Background(), http.MethodGet, path)
	if err == nil && status != http.StatusOK {
		err = api.Refused(status, body)
	}
	return err
}
