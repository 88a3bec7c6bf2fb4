package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// runHealthcheck asks the server that runs with this configuration whether it is alive: the health check of a container that
// has no other program. Whether it is ready is another question: an outage of Redis is no reason to restart every node. The
// exit code is 0 or 1 and nothing else, as Docker wants it.
func runHealthcheck(args, environ []string, stdout, stderr io.Writer) int {
	c, err := load(args, environ)
	if errors.Is(err, errHelp) {
		return say(stdout, usage)
	}
	if err == nil {
		err = alive(c)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: healthcheck: %s\n", oneLine(err.Error())))
		return exitFailed
	}
	return say(stdout, "alive\n")
}

func alive(c *config) error {
	base := adminURL(c.adminListen)
	if base == "" {
		return fmt.Errorf("--admin-listen %s cannot be asked", c.adminListen)
	}
	api, err := newAdminAPI(base, c.adminKeyFile)
	if err != nil {
		return err
	}
	status, body, err := api.do(context.Background(), http.MethodGet, "/healthz")
	if err == nil && status != http.StatusOK {
		err = api.refused(status, body)
	}
	return err
}
