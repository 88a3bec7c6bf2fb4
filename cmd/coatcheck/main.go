// Command coatcheck is the session server. Each command of the program is a file of this package, which reads the arguments and
// prints; the packages in internal do the work.
package main

import (
	"os"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

func main() {
	signals := daemon.Notify() // before anything else, so that no signal is lost
	os.Exit(run(os.Args[1:], os.Environ(), signals, os.Stdin, os.Stdout, os.Stderr))
}
