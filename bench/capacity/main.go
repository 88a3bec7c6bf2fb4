// Command capacity says what a number of sessions asks of coatcheck's nodes and of Redis, by a model whose constants were
// measured (`make capacity`): go run ./bench/capacity -sessions 1e6 -nodes 3. docs/capacity.md explains it.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"time"
)

// measured is the run at full size that docs/capacity.md shows.
//
//go:embed measured.json
var measured []byte

// Result is what a run at full size found.
type Result struct {
	Machine   string
	Constants Constants
	Run       Run
}

// Run is a load, with the model's prediction and what was observed.
type Run struct {
	Load Load
	Rows []Row
}

// Row is one figure. An exact one does not depend on the speed of the machine.
type Row struct {
	What                string
	Predicted, Observed float64
	Exact               bool
}

func main() {
	log.SetFlags(0)
	if err := command(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func command(args []string) error {
	flags := flag.NewFlagSet("capacity", flag.ExitOnError)
	day := 24 * time.Hour
	l := Load{}
	flags.Float64Var(&l.Sessions, "sessions", 1e6, "sessions that make requests")
	every := flags.Duration("every", 30*time.Second, "time between two requests of a session, on average")
	flags.IntVar(&l.Nodes, "nodes", 3, "nodes of coatcheck")
	flags.IntVar(&l.Reached, "reached", 0, "nodes that one session's requests reach (0: all; 1: the load balancer is sticky)")
	flags.IntVar(&l.Primaries, "primaries", 1, "primaries of the Redis Cluster, 1 for a single Redis")
	flags.Float64Var(&l.Logins, "logins", 0, "logins a second (0: each session lives for a day)")
	flags.Float64Var(&l.Logouts, "logouts", 0, "logouts a second; the other sessions expire")
	flags.Float64Var(&l.Refreshes, "refreshes", 0, "refreshes a second")
	flags.DurationVar(&l.RenewEvery, "renew-every", 3*time.Minute, "the server's --renew-every")
	flags.DurationVar(&l.CacheTTL, "cache-ttl", time.Minute, "the server's --redis-cache-ttl")
	result := flags.String("result", "", "file of another measurement")
	page := flags.String("page", "", "Markdown file whose part between the marks is replaced")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q: only flags are understood", flags.Arg(0))
	}
	l.Every = every.Seconds()
	if l.Reached == 0 {
		l.Reached = l.Nodes
	}
	if l.Logins == 0 {
		l.Logins = l.Sessions / day.Seconds()
	}
	return run(l, *result, *page)
}

func run(l Load, result, page string) error {
	b := measured
	if result != "" {
		var err error
		if b, err = os.ReadFile(result); err != nil {
			return err
		}
	}
	var r Result
	if err := errors.Join(json.Unmarshal(b, &r), l.validate()); err != nil {
		return err
	}
	if page != "" {
		return r.writePage(page)
	}
	fmt.Print(r.Constants.advice(l))
	return nil
}

// validate refuses loads for which the model has no answer.
func (l Load) validate() error {
	for _, f := range []float64{l.Sessions, l.Logins, l.Logouts, l.Refreshes} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%v is no number of sessions, nor a rate", f)
		}
	}
	if l.Sessions < 1 || l.Every <= 0 || l.Nodes < 1 || l.Reached < 1 || l.Reached > l.Nodes || l.Primaries < 1 ||
		l.Logins < 0 || l.Logouts < 0 || l.Refreshes < 0 || l.RenewEvery < 0 || l.CacheTTL <= 0 {
		return fmt.Errorf("sessions, every, nodes, primaries and cache-ttl must be positive, no rate negative, and reached at most nodes: %+v", l)
	}
	most := l.Sessions/l.Every - l.Sessions/(l.RenewEvery.Seconds()+l.Every)
	if l.Refreshes+l.Logouts > most {
		return fmt.Errorf("refreshes and logouts are among the requests: with these there can be %.1f a second", most)
	}
	return nil
}
