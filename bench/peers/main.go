// Command peers measures coatcheck beside the libraries that people would use in its place. README.md describes what is compared,
// and how.
//
// Files: main.go (commands and flags), plan.go (the servers), build.go (how they are built), measure.go, turn.go and wrk.go
// (the measurement with wrk), client.go and check.go (whether a server answers rightly), result.go, report.go, budgets.go and
// chart.go (what was found), layers.go and perf.go (the layers of a request), open.go and openreport.go (the fixed rate), growth.go,
// growthplan.go, growthturn.go, collector.go, growthreport.go and growthchart.go (what it costs to grow).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage:
  peers measure [flags]              build the peers, check them, measure them, write JSON
  peers report [flags] RESULT.json   make the tables and the chart from that JSON
  peers layers [flags]               measure what each layer of a request costs, and where coatcheck's time goes
  peers open [flags]                 measure latency at fixed rates
  peers growth [flags]               measure what more sessions, connections, cores, or a hot session or user cost
  peers growth-report [flags] RESULT.json   make the tables and the chart from that JSON
`

func main() {
	runtime.LockOSThread() // the servers end with this thread, see process.Start
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1) //nolint:gocritic // the deferred stop has run already
	}
}

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "measure":
		return runMeasure(ctx, args)
	case "report":
		return runReport(args)
	case "layers":
		return runLayers(ctx, args)
	case "open":
		return runOpen(ctx, args)
	case "growth":
		return runGrowth(ctx, args)
	case "growth-report":
		return runGrowthReport(args)
	case "generate": // open runs it in a process of its own
		return runGenerate(args)
	}
	return fmt.Errorf("no such command %q\n\n%s", command, usage)
}

// settings are what a measurement may be asked for.
type settings struct {
	cores, rounds, connections, sessions, resident, retries int
	users                                                   int // that log in, in turn

	duration, warmUp         time.Duration
	peers, scenarios, stores list
	root, work, out          string
}

// list is a flag of several words, separated by commas; empty stands for all.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	if *l = nil; s != "" {
		*l = strings.Split(s, ",")
	}
	return nil
}

func (l list) has(name string) bool { return len(l) == 0 || slices.Contains(l, name) }

// parse reads the flags that all measurements have, and those that are defined on f.
func (s *settings) parse(f *flag.FlagSet, args []string) error {
	f.IntVar(&s.cores, "cores", 1, "cores for the server; the load gets as many others")
	f.IntVar(&s.rounds, "rounds", 5, "rounds; every server has its turn in each")
	seconds := f.Int("seconds", 5, "how long a server is measured in each round")
	warmUp := f.Int("warmup", 2, "seconds of load before that, which are not counted")
	f.IntVar(&s.connections, "connections", 256, "connections")
	f.IntVar(&s.sessions, "sessions", 20_000, "sessions that make requests, in turn")
	f.IntVar(&s.resident, "resident", 1_000_000, "sessions in coatcheck's store for the rows that have many")
	f.IntVar(&s.retries, "retries", 2, "how often a turn is repeated that other programs disturbed; the least disturbed counts")
	s.users = loginUsers
	f.Var(&s.peers, "peers", "only these, by name, beside coatcheck and the ceiling")
	f.StringVar(&s.root, "root", "../..", "the repository")
	f.StringVar(&s.work, "work", "../../bin/peers", "a directory for what is built and logged")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s: there are only flags", f.Arg(0))
	}
	// Every run has to end by itself, so every number has a bound.
	err := bounds{
		{"cores", s.cores, 1, 512},
		{"rounds", s.rounds, 1, 100},
		{"seconds", *seconds, 1, 60},
		{"warmup", *warmUp, 1, 60},
		{"connections", s.connections, s.cores, 10_000},
		{"sessions", s.sessions, s.connections, 10_000_000},
		{"resident", s.resident, s.sessions, 10_000_000},
		{"retries", s.retries, 0, 10},
	}.check()
	if err != nil {
		return err
	}
	s.duration, s.warmUp = time.Duration(*seconds)*time.Second, time.Duration(*warmUp)*time.Second
	return s.absolute()
}

// bounds are the values of flags, and the least and the most that each may be.
type bounds []struct {
	flag             string
	value, low, high int
}

func (all bounds) check() error {
	for _, b := range all {
		if b.value < b.low || b.value > b.high {
			return fmt.Errorf("-%s %d: it must be from %d to %d", b.flag, b.value, b.low, b.high)
		}
	}
	return nil
}

// absolute makes the directories absolute, so that child processes find them in whatever directory they run.
func (s *settings) absolute() (err error) {
	if s.root, err = filepath.Abs(s.root); err != nil {
		return err
	}
	if s.work, err = filepath.Abs(s.work); err != nil {
		return err
	}
	return os.MkdirAll(s.work, 0o755)
}

func runMeasure(ctx context.Context, args []string) error {
	var s settings
	f := flag.NewFlagSet("measure", flag.ContinueOnError)
	f.Var(&s.scenarios, "scenarios", "only these: me, login, refresh")
	f.Var(&s.stores, "stores", "only these: memory, redis")
	f.StringVar(&s.out, "out", "", "the JSON file (default: result.json in -work, result-N.json for N cores)")
	if err := s.parse(f, args); err != nil {
		return err
	}
	if s.out == "" {
		name := "result.json"
		if s.cores > 1 {
			name = fmt.Sprintf("result-%d.json", s.cores)
		}
		s.out = filepath.Join(s.work, name)
	}
	return measure(ctx, &s)
}
