package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/permissions"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/systemd"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server/login"
)

// runServe runs the server until a signal ends it.
func runServe(args, environ []string, signals daemon.Signals, stdout, stderr io.Writer) int {
	c, err := config.Load(args, environ)
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, config.ServeHelp())
	}
	hashes := newHashPool()
	defer hashes.Close()
	opened, mistakes := credentials.Open(c, login.UsersOptions{IDKey: hashes.IDKey})
	if err := errors.Join(err, mistakes); err != nil {
		return refuse(stderr, err)
	}
	opened.Notes = append(opened.Notes, permissions.Notes(c)...)
	err = daemon.Run(daemon.Options{
		Config: c, Credentials: opened, Version: buildVersion(version, buildInfo()), Manager: systemd.Find(environ), Signals: signals, Stdout: stdout, Stderr: stderr,
		NotBefore: func() (time.Time, error) {
			again, _, err := config.LoadOnly([]string{"sessions-not-before"}, args, environ)
			return again.NotBefore, err
		},
	})
	switch {
	case errors.Is(err, redisstore.ErrEviction):
		return exitUsage // the error is in the log already, here and below
	case err != nil:
		return exitFailed
	}
	return exitOK
}

// refuse prints all mistakes of a configuration.
func refuse(stderr io.Writer, mistakes error) int {
	say(stderr, fmt.Sprintf("coatcheck: the configuration has mistakes:\n%s\"coatcheck serve --help\" lists the flags.\n", config.Bullets(mistakes)))
	return exitUsage
}
