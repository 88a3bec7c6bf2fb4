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
	day := 24 * time.Hour
	l := Load{}
	flag.Float64Var(&l.Sessions, "sessions", 1e6, "sessions that make requests")
	every := flag.Duration("every", 30*time.Second, "time between two requests of a session, on average")
	flag.IntVar(&l.Nodes, "nodes", 3, "nodes of coatcheck")
	flag.IntVar(&l.Reached, "reached", 0, "nodes that one session's requests reach (0: all; 1: the load balancer is sticky)")
	flag.IntVar(&l.Primaries, "primaries", 1, "primaries of the Redis Cluster, 1 for a single Redis")
	flag.Float64Var(&l.Logins, "logins", 0, "logins a second (0: each session lives for a day)")
	flag.Float64Var(&l.Logouts, "logouts", 0, "logouts a second; the other sessions expire")
	flag.Float64Var(&l.Refreshes, "refreshes", 0, "refreshes a second")
	flag.DurationVar(&l.RenewEvery, "renew-every", 3*time.Minute, "the server's --renew-every")
	flag.DurationVar(&l.CacheTTL, "cache-ttl", time.Minute, "the server's --redis-cache-ttl")
	result := flag.String("result", "", "file of another measurement")
	page := flag.String("page", "", "Markdown file whose part between the marks is replaced")
	flag.Parse()
	l.Every = every.Seconds()
	if l.Reached == 0 {
		l.Reached = l.Nodes
	}
	if l.Logins == 0 {
		l.Logins = l.Sessions / day.Seconds()
	}
	if err := run(l, *result, *page); err != nil {
		log.Fatal(err)
	}
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
