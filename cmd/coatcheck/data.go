package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/shardstore"
)

const dataUsage = `Usage:
  coatcheck data verify DIR
  coatcheck data verify [the flags of serve]

Checks what a server left in the folder DIR, or else in that of --data-dir, and counts the live sessions. It changes nothing. No server
may use the folder meanwhile.

The exit code is 0 if the folder is sound, 1 if it is not or holds nothing to check, 2 if no folder is named.
`

// runData runs the commands about the folder of --data-dir, which no server may use meanwhile.
func runData(args, environ []string, stdout, stderr io.Writer) int {
	c, rest, err := config.LoadOnly([]string{"data-dir"}, args, environ)
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, dataUsage)
	}
	dir := c.DataDir
	if len(rest) == 2 {
		dir = rest[1]
	}
	switch {
	case err != nil:
		say(stderr, fmt.Sprintf("coatcheck: data: %v\n\n%s", err, dataUsage))
		return exitUsage
	case len(rest) == 0 || len(rest) > 2 || rest[0] != "verify" || dir == "":
		say(stderr, "coatcheck: it is: coatcheck data verify DIR\n")
		return exitUsage
	}
	n, err := shardstore.Verify(dir)
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: %v\n", err))
		return exitFailed
	}
	return say(stdout, fmt.Sprintf("%s is sound: %d live sessions\n", dir, n))
}
