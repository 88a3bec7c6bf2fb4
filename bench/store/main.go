// Command store measures coatcheck's memory store beside other ways to keep sessions in a Go process. It is a module of its
// own, so that none of them enters coatcheck's. Use it through `make bench-store` and `make store-report`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// result is what a run found: the contents of its JSON file.
type result struct {
	Machine string
	N       int
	Memory  []memory
	Storm   []storm
	Restore restored
	Login   []logins
}

func main() {
	log.SetFlags(0)
	var (
		n     = flag.Int("n", 1_000_000, "sessions")
		sizes = flag.String("bytes", "128,256", "what a record encodes to, one run each")
		only  = flag.String("only", "", "these subjects only, by name")
		out   = flag.String("out", "", "JSON file to write")
		child = flag.String("child", "", "what this process measures (for the command itself)")
		from  = flag.String("report", "", "JSON file to put into -table and -plot")
		table = flag.String("table", "", "Markdown file whose part between the marks is replaced")
		plot  = flag.String("plot", "", "SVG file to write")
	)
	flag.Parse()
	if err := refuse(*n, strings.Split(*sizes, ","), flag.Args()); err != nil {
		log.Fatal(err)
	}
	switch {
	case *from != "":
		if err := writeReport(*from, *table, *plot); err != nil {
			log.Fatal(err)
		}
	case *child != "":
		if err := measure(*child, *n); err != nil {
			log.Fatal(err)
		}
	default:
		if err := run(*n, strings.Split(*sizes, ","), *only, *out); err != nil {
			log.Fatal(err)
		}
	}
}

// minBytes is the size of the smallest record that can be written, with room for a user and an agent.
const minBytes = 128

// refuse says which of its arguments the command does not understand.
func refuse(n int, sizes, rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%q: only flags are understood", rest[0])
	}
	if n < 1 {
		return errors.New("-n must be positive")
	}
	for _, size := range sizes {
		if bytes, err := strconv.Atoi(size); err != nil || bytes < minBytes {
			return fmt.Errorf("-bytes %q: a number of %d and more, or several, with commas", size, minBytes)
		}
	}
	return nil
}

// measure prints what one child finds, as JSON. A child measures one thing, so that no heap is another's.
func measure(what string, n int) error {
	name, arg, _ := strings.Cut(what, "/")
	var found any
	var err error
	switch name {
	case "memory":
		subject, size, _ := strings.Cut(arg, "/")
		bytes, _ := strconv.Atoi(size)
		found, err = measureMemory(subject, n, bytes)
	case "storm":
		found, err = measureStorm(n)
	case "restore":
		found, err = measureRestore()
	case "login":
		found, err = measureLogins(n)
	default:
		err = fmt.Errorf("no measurement is called %q", what)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func run(n int, sizes []string, only, out string) error {
	// A child may be killed with what it has on disk: its folders are in one of ours.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "bench-store-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	r := result{Machine: fmt.Sprintf("%s; %s", report.ThisMachine(), runtime.Version()), N: n}
	for _, size := range sizes {
		for _, s := range subjects {
			if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
				continue
			}
			var m memory
			err := inChild(ctx, "memory/"+s.name+"/"+size, n, &m)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				log.Printf("%s: %v", s.name, err) // as many as fit in memory
				continue
			}
			log.Printf("%+v", m)
			r.Memory = append(r.Memory, m)
		}
	}
	for what, into := range map[string]any{"storm": &r.Storm, "restore": &r.Restore, "login": &r.Login} {
		if err := inChild(ctx, what, n, into); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		log.Printf("%s: %+v", what, into)
	}
	if out == "" {
		return nil
	}
	return report.WriteJSON(out, r)
}

// inChild measures one thing in a process of its own.
func inChild(ctx context.Context, what string, n int, into any) error {
	return process.RunSelf(ctx, nil, into, "-child", what, "-n", strconv.Itoa(n))
}
