// Command coatcheck is the session server. Each command of the program is a file of this package, which reads the arguments and
// prints; the packages in internal do the work.
package main

import (
	"os"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

func main() {
	var signals daemon.Signals
	if len(os.Args) > 1 && takesSignals(os.Args[1]) {
		signals = daemon.Notify() // before anything else, so that no signal is lost
	}
	os.Exit(run(os.Args[1:], os.Environ(), signals, os.Stdin, os.Stdout, os.Stderr))
}

// takesSignals reports whether a command acts on the signals of the process itself. The others end by them, as programs do. A Ctrl-C
// reaches the server's process that hashes passwords, too, which must go on until the server is drained.
func takesSignals(command string) bool { return command == "serve" || command == hashJobs }
