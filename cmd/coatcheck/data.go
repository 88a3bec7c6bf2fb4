package main

import (
	"fmt"
	"io"

	"github.com/coatcheck/coatcheck/shardstore"
)

// runData is about the folder of --data-dir, while no server uses it.
func runData(args []string, stdout, stderr io.Writer) int {
	if len(args) != 2 || args[0] != "verify" {
		say(stderr, "coatcheck: it is: coatcheck data verify DIR\n")
		return exitUsage
	}
	n, err := shardstore.Verify(args[1])
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: %v\n", err))
		return exitFailed
	}
	return say(stdout, fmt.Sprintf("%s is sound: %d live sessions\n", args[1], n))
}
