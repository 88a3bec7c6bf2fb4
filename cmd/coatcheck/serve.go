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
	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// loaded is what the configuration says, and what was opened for it.
type loaded struct {
	config   *config.Config
	opened   *credentials.Credentials
	mistakes error // config.ErrHelp, or all of them
}

// load reads the configuration and the files that it names. It may wait for a pipe, or for a disk that does not answer.
func load(args, environ []string, hashes *hashproc.Pool) loaded {
	c, err := config.Load(args, environ)
	if errors.Is(err, config.ErrHelp) {
		return loaded{mistakes: err}
	}
	opened, mistakes := credentials.Open(c, login.UsersOptions{IDKey: hashes.IDKey})
	return loaded{c, opened, errors.Join(err, mistakes)}
}

// runServe runs the server until a signal ends it. A signal that comes while the configuration is still being loaded ends it at once,
// because nothing has been started that would have to be drained.
func runServe(args, environ []string, signals daemon.Signals, stdout, stderr io.Writer) int {
	hashes := newHashPool()
	defer hashes.Close()
	loading := make(chan loaded, 1)
	go func() { loading <- load(args, environ, hashes) }()
	var l loaded
	select {
	case l = <-loading:
	case sig := <-signals.Stop:
		return say(stderr, fmt.Sprintf("coatcheck: a signal (%v) came while the configuration was being loaded; no server was started\n", sig))
	}
	if errors.Is(l.mistakes, config.ErrHelp) {
		return say(stdout, config.ServeHelp())
	}
	if l.mistakes != nil {
		return refuse(stderr, l.mistakes)
	}
	c, opened := l.config, l.opened
	opened.Notes = append(opened.Notes, permissions.Notes(c)...)
	err := daemon.Run(daemon.Options{
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
