// Command redis measures how much of its own CPU time Redis spends on what coatcheck's store asks of it, beside a plain SET and
// a plain GET in the same run. It starts a redis-server of its own on a free loopback port.
//
// Processor time can be compared on a busy machine, where rates cannot. Each round does all operations; the ratios are those of
// one round, and the medians of all rounds are printed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	rounds := flag.Int("rounds", 5, "how many rounds")
	n := flag.Int("n", 20_000, "how many times a round does each operation")
	only := flag.String("only", "", "measure these operations alone: a part of their names")
	flag.Parse()
	if err := refuse(*rounds, *n, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "redis:", err)
		os.Exit(2)
	}
	tb := new(process)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() { // nothing else waits for a signal: without this, Redis' folder would stay
		<-interrupted
		tb.end()
		fmt.Fprintln(os.Stderr, "redis: interrupted")
		os.Exit(1)
	}()
	if err := run(tb, os.Stdout, *rounds, *n, *only); err != nil {
		fmt.Fprintln(os.Stderr, "redis:", err)
		os.Exit(1)
	}
}

// refuse says which of its arguments the command does not understand.
func refuse(rounds, n int, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q: only flags are understood", rest[0])
	case rounds < 1 || n < 1:
		return errors.New("-rounds and -n must be positive")
	}
	return nil
}

func run(tb *process, w io.Writer, rounds, n int, only string) error {
	defer tb.end()
	b, err := newBench(tb, n)
	if err != nil {
		return err
	}
	defer b.close()
	b.list = slices.DeleteFunc(b.list, func(op operation) bool { return op.name != set && !strings.Contains(op.name, only) })
	results := make([]round, rounds)
	for i := range results {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
		if results[i], err = b.round(); err != nil {
			return err
		}
	}
	return report(w, b, results)
}
