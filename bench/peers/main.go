// Command peers measures coatcheck beside what people would use in its place. README.md here says what is compared, and how.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage:
  peers measure [flags]              build the peers, check them, measure them, write JSON
  peers report [flags] RESULT.json   make the table and the chart from that JSON
  peers layers [flags]               measure what each layer of a request costs, and where coatcheck's time goes
`

func main() {
	// Children are told to end when the thread that started them does: it must be one that stays.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
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
	}
	return fmt.Errorf("no such command %q\n\n%s", command, usage)
}

// settings are what a measurement may be asked for.
type settings struct {
	rounds, connections, resident, retries int
	duration, warmUp                       time.Duration
	peers, scenarios, stores               list
	root, work, out                        string
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

func (l list) has(name string) bool {
	if len(l) == 0 {
		return true
	}
	for _, n := range l {
		if n == name {
			return true
		}
	}
	return false
}

func runMeasure(ctx context.Context, args []string) error {
	var s settings
	f := flag.NewFlagSet("measure", flag.ContinueOnError)
	f.IntVar(&s.rounds, "rounds", 5, "rounds; every server has its turn in each")
	seconds := f.Int("seconds", 5, "how long a server is measured in each round")
	warmUp := f.Int("warmup", 2, "seconds before that, not counted")
	f.IntVar(&s.connections, "connections", 64, "connections, each with a session of its own")
	f.IntVar(&s.resident, "resident", 1_000_000, "sessions in coatcheck's store for the rows that have many")
	f.IntVar(&s.retries, "retries", 2, "how often a turn is repeated that other programs disturbed; the least disturbed counts")
	f.Var(&s.peers, "peers", "only these, by name (the twins and coatcheck are always there)")
	f.Var(&s.scenarios, "scenarios", "only these: me, login, refresh")
	f.Var(&s.stores, "stores", "only these: memory, redis")
	f.StringVar(&s.root, "root", "../..", "the repository")
	f.StringVar(&s.work, "work", "../../bin/peers", "a directory for what is built and logged")
	f.StringVar(&s.out, "out", "", "the JSON file (default: result.json in -work)")
	if err := f.Parse(args); err != nil {
		return err
	}
	// Bounds: this loads a server, so it must end by itself whatever it is asked for.
	if s.rounds < 1 || s.rounds > 100 || *seconds < 1 || *seconds > 60 || *warmUp < 1 || *warmUp > 60 ||
		s.connections < 1 || s.connections > 512 || s.resident < s.connections || s.resident > 10_000_000 || s.retries < 0 || s.retries > 10 {
		return fmt.Errorf("rounds 1 to 100, seconds and warmup 1 to 60, connections 1 to 512, resident to 10000000, retries to 10")
	}
	s.duration, s.warmUp = time.Duration(*seconds)*time.Second, time.Duration(*warmUp)*time.Second
	return measure(ctx, s)
}
