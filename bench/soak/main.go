// Command soak sends the mixed requests of many simulated visitors to a coatcheck server for a long time, checks every answer, and
// watches what might grow: memory, heap, goroutines, file descriptors, sessions. It fails on a wrong answer and on growth.
//
//	soak [-for 30m] [-store memory|redis] [-rate 500] run
//	soak -page docs/reliability.md report memory.json redis.json
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// settings are what a run is asked for.
type settings struct {
	server   string // the program
	store    string // memory or redis
	length   time.Duration
	every    time.Duration // between two samples
	rate     float64       // requests a second
	visitors int
	out      string // directory for the result and its plot
	page     string // where report puts its tables, and beside it the plots
}

// rules are the lifetimes that the server is started with. They are short, so that every abandoned session expires during the run.
var rules = lifetimes{ttl: time.Minute, renewEvery: 6 * time.Second, max: 5 * time.Minute, grace: 10 * time.Second}

type lifetimes struct{ ttl, renewEvery, max, grace time.Duration }

func (l lifetimes) flags() []string {
	return []string{
		"--ttl=" + l.ttl.String(), "--renew-every=" + l.renewEvery.String(),
		"--max-lifetime=" + l.max.String(), "--rotation-grace=" + l.grace.String(),
	}
}

func main() {
	runtime.LockOSThread() // the servers end with this thread, see process.Start
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1) //nolint:gocritic // what stop would undo ends with the process
	}
}

func command(ctx context.Context, args []string) error {
	var s settings
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	fs.StringVar(&s.server, "server", "../../bin/coatcheck", "the program")
	fs.StringVar(&s.store, "store", "memory", "memory or redis")
	fs.DurationVar(&s.length, "for", 30*time.Minute, "how long; sessions come to their level within five minutes, so that less than ten give no fair verdict")
	fs.DurationVar(&s.every, "every", 2*time.Second, "time between two samples")
	fs.Float64Var(&s.rate, "rate", 500, "requests a second")
	fs.IntVar(&s.visitors, "visitors", 2000, "simulated visitors")
	fs.StringVar(&s.out, "out", "../../bin/soak", "directory for the result and its plot")
	fs.StringVar(&s.page, "page", "../../docs/reliability.md", "page that report writes to")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch {
	case s.store != "memory" && s.store != "redis":
		return fmt.Errorf("-store %q: there is memory and redis", s.store)
	case s.rate <= 0 || s.every <= 0 || s.visitors < workers:
		return fmt.Errorf("-rate (RATE of make) and -every must be positive, -visitors %d at least", workers)
	case s.length < minSamples*s.every:
		return fmt.Errorf("-for (DURATION of make) is %v, and must be %v at least: a verdict needs %d samples, one every %v",
			s.length, minSamples*s.every, minSamples, s.every)
	case fs.Arg(0) == "run":
		return run(ctx, s)
	case fs.Arg(0) == "report":
		return writeReport(s.page, fs.Args()[1:])
	}
	return errors.New("what to do: run or report")
}

// minSamples is how many samples a verdict needs.
const minSamples = 60
