package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

const healthcheckUsage = `Usage:
  coatcheck healthcheck [--ready] [the flags of serve]

Asks the admin listener of the server that runs with this configuration whether it is alive, and with --ready whether its store
can serve. The exit code is 0 or 1: a mistake in --config, --admin-listen or the arguments is 1, too.
`

// adminSettings are the settings that a command needs to ask a running server.
var adminSettings = []string{"admin-listen", "admin-key-file"}

// runHealthcheck asks the server that runs with this configuration whether it is alive. It is the health check of a container
// that has no other program. It does not ask whether the server is ready, because an outage of Redis is no reason to restart
// every node. The exit code is 0 or 1 and nothing else, as Docker requires.
func runHealthcheck(args, environ []string, stdout, stderr io.Writer) int {
	var ready bool
	c, rest, err := config.LoadOnly(adminSettings, args, environ, config.Switch("ready", &ready))
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, healthcheckUsage)
	}
	path, text := "/healthz", "alive\n"
	if ready {
		path, text = "/readyz", "ready\n"
	}
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%.40q: no such argument", rest[0])
	}
	// Mistakes in the other settings are left to the server to report. With one in these another server might be asked.
	if err == nil {
		err = askHealth(c, path)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: healthcheck: %s\n", adminclient.OneLine(err.Error())))
		return exitFailed
	}
	return say(stdout, text)
}

// askHealth returns nil if the server answers 200.
func askHealth(c *config.Config, path string) error {
	base := adminclient.URL(c.AdminListen)
	if base == "" {
		return fmt.Errorf("--admin-listen %s cannot be asked", c.AdminListen)
	}
	client, err := adminclient.New(base, c.AdminKeyFile)
	if err != nil {
		return err
	}
	return client.Check(context.Background(), path)
}
