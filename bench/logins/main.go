// Command logins measures a running coatcheck with a users file from outside: whether the time of a refused login tells why
// it was refused (`make login-timing`), and how a thousand logins at once slow down other requests (`make login-storm`).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	runtime.LockOSThread() // the servers end with this thread, see process.Start
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal("logins: ", err)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("logins", flag.ContinueOnError)
	var (
		program = flags.String("program", "bin/coatcheck", "the program to measure")
		n       = flags.Int("n", 1000, "timing: attempts by reason; storm: logins at once")
		rounds  = flags.Int("rounds", 5, "storm: quiet and loaded windows, in turn")
		window  = flags.Duration("window", 3*time.Second, "storm: how long a window is; probe: for how long")
		every   = flags.Duration("every", 2*time.Millisecond, "storm, probe: time between two probes")
		cookie  = flags.String("cookie", "", "probe: the Cookie header (for the command itself)")
		address = flags.String("address", "", "probe: host and port (for the command itself)")
	)
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: logins timing|storm [flags]")
		flags.PrintDefaults()
	}
	what := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		what, args = args[0], args[1:]
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("%q: only flags are understood behind what to do", flags.Arg(0))
	case *n < 1 || *rounds < 1 || *window <= 0 || *every <= 0:
		return errors.New("-n, -rounds, -window and -every must be positive")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch what {
	case "timing":
		return runTiming(ctx, *program, *n)
	case "storm":
		return runStorm(ctx, *program, storm{logins: *n, rounds: *rounds, window: *window, every: *every})
	case "probe":
		return runProbe(*address, *cookie, *window, *every)
	default:
		return fmt.Errorf("what to do: timing or storm, not %q", what)
	}
}
