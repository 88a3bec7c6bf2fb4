package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

// runServe runs the server until a signal ends it.
func runServe(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	c, err := config.Load(args, environ)
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, config.ServeHelp())
	}
	hashes := newHashPool()
	defer hashes.Close()
	files, mistakes := credentials.Open(c, hashes.IDKey)
	if err := errors.Join(err, mistakes); err != nil {
		say(stderr, fmt.Sprintf("coatcheck: the configuration has mistakes:\n%s\"coatcheck serve --help\" lists the flags.\n", config.Bullets(err)))
		return exitUsage
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	again := func() (*config.Config, error) { return config.Load(args, environ) }
	if daemon.Run(c, files, again, buildVersion(version, info), signals, stdout, stderr) != nil {
		return exitFailed
	}
	return exitOK
}
