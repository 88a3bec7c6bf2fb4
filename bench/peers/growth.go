package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// growthSettings are what a measurement of growth may be asked for: the sizes that grow, and the settings that stay as they are.
type growthSettings struct {
	settings

	residents, crowds, coreCounts []int
}

// growthPages are the files of the docs into which a result goes; empty: none.
type growthPages struct{ page, chart string }

func (p *growthPages) flags(f *flag.FlagSet) {
	f.StringVar(&p.page, "page", "", "put the tables between the marks of this Markdown file")
	f.StringVar(&p.chart, "chart", "", "write the chart as SVG to this file")
}

func runGrowth(ctx context.Context, args []string) error {
	g := growthSettings{residents: []int{1000, 1_000_000, 10_000_000}, crowds: []int{64, 1000, 10_000}, coreCounts: []int{1, 2, 4, 8}}
	var pages growthPages
	if err := g.parse(args, &pages); err != nil {
		return err
	}
	cores, without, err := feasible(g.coreCounts, process.ShareCPUs)
	if err != nil {
		return err
	}
	m, err := g.prepare(ctx, cores)
	if err != nil {
		return err
	}
	m.found.WithoutCores = without
	if err := m.measure(ctx); err != nil {
		return err
	}
	fmt.Printf("\n%s\nwritten to %s\n", m.found.conditions(), g.out)
	return m.found.write(pages)
}

func runGrowthReport(args []string) error {
	var pages growthPages
	f := flag.NewFlagSet("growth-report", flag.ContinueOnError)
	pages.flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return errors.New("growth-report wants the JSON file that growth has written")
	}
	found := new(growthResult)
	if err := report.ReadJSON(f.Arg(0), found); err != nil {
		return err
	}
	if pages == (growthPages{}) {
		fmt.Print(found.tables())
	}
	return found.write(pages)
}

// parse reads the flags. Every run has to end by itself, so every number has a bound.
func (g *growthSettings) parse(args []string, pages *growthPages) error {
	f := flag.NewFlagSet("growth", flag.ContinueOnError)
	f.Var(numbersFlag{&g.residents, 64, 20_000_000}, "resident", "resident sessions, numbers with commas between them; the first is what the others are compared with")
	f.Var(numbersFlag{&g.crowds, 64, 30_000}, "connections", "connections, likewise")
	f.Var(numbersFlag{&g.coreCounts, 1, 64}, "cores", "cores for the server, likewise, the fewest first; the load gets as many others")
	f.IntVar(&g.users, "users", loginUsers, "users who log in, in turn, beside the hot one")
	f.IntVar(&g.rounds, "rounds", 3, "rounds; every server of a table has its turn in each")
	seconds := f.Int("seconds", 3, "how long a server is measured in each round")
	warmUp := f.Int("warmup", 2, "seconds of load before that, which are not counted")
	f.IntVar(&g.retries, "retries", 2, "how often a turn is repeated that other programs disturbed; the least disturbed counts")
	f.StringVar(&g.root, "root", "../..", "the repository")
	f.StringVar(&g.work, "work", "../../bin/peers", "a directory for what is built and logged")
	f.StringVar(&g.out, "out", "", "the JSON file (default: growth.json in -work)")
	pages.flags(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s: there are only flags", f.Arg(0))
	}
	err := bounds{
		{"users", g.users, 64, 100_000},
		{"rounds", g.rounds, 1, 100},
		{"seconds", *seconds, 1, 60},
		{"warmup", *warmUp, 1, 60},
		{"retries", g.retries, 0, 10},
	}.check()
	if err != nil {
		return err
	}
	g.connections, g.sessions = 256, spreadOver
	g.duration, g.warmUp = time.Duration(*seconds)*time.Second, time.Duration(*warmUp)*time.Second
	if err := g.absolute(); err != nil {
		return err
	}
	if g.out == "" {
		g.out = filepath.Join(g.work, "growth.json")
	}
	return nil
}

// growthMeasurement is one run of the command.
type growthMeasurement struct {
	*growthSettings
	found *growthResult
	rows  []*growthRow
}

// prepare builds coatcheck, raises the limit of descriptors and decides what is measured.
func (g *growthSettings) prepare(ctx context.Context, cores []int) (*growthMeasurement, error) {
	if err := prepareWrk(&g.settings); err != nil {
		return nil, err
	}
	descriptors, err := raiseDescriptors()
	if err != nil {
		return nil, err
	}
	version, err := buildCoatcheck(ctx, &g.settings, "")
	if err != nil {
		return nil, err
	}
	m := &growthMeasurement{growthSettings: g, found: newGrowthResult(ctx, g, version)}
	m.rows, m.found.Skipped = affordable(g.plan(cores), descriptors)
	for _, s := range m.found.Skipped {
		fmt.Printf("left out: %s: %s\n", s.Peer, s.Reason)
	}
	return m, nil
}

// raiseDescriptors raises this process' limit of open descriptors as far as it may, and returns it. The programs that are started
// later inherit it: Go's own raising at the start it undoes for them.
func raiseDescriptors() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("descriptors: %w", err)
	}
	return int(min(limit.Cur, 1<<30)), nil
}

// measure measures one kind after the other. What was found is written after each, so that a failure later on loses none of it.
func (m *growthMeasurement) measure(ctx context.Context) error {
	for _, kind := range growthKinds {
		if err := m.measureKind(ctx, kind.name, kind.column); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		if err := report.WriteJSON(m.out, m.found); err != nil {
			return err
		}
	}
	return nil
}

// measureKind gives each server of a kind its turn in each round, in each beginning with another one. A row that fails is left out,
// but without the first one there is nothing to compare.
func (m *growthMeasurement) measureKind(ctx context.Context, kind, column string) error {
	var running []*grown
	for _, w := range m.rows {
		if w.Kind == kind {
			running = append(running, m.grow(w))
		}
	}
	defer func() {
		for _, s := range running {
			s.stop()
		}
	}()
	for round := range m.rounds {
		for i := range running {
			s := running[(i+round)%len(running)]
			if s.failed != nil {
				continue
			}
			progress("round %d of %d: %s", round+1, m.rounds, s.row.name())
			one, err := quietest(m.retries, func() (*growthSample, error) { return s.turn(ctx) })
			if err != nil && (s == running[0] || ctx.Err() != nil) {
				return errors.Join(fmt.Errorf("%s: %w", s.row.Title, err), ctx.Err())
			}
			if s.failed = err; err != nil {
				s.stop()
				continue
			}
			s.row.Rounds = append(s.row.Rounds, one)
		}
	}
	progress("")
	m.keep(running)
	_, err := os.Stdout.WriteString("\n" + m.found.table(kind, column))
	return err
}

// keep puts the rows of a kind into the result, or says which failed.
func (m *growthMeasurement) keep(measured []*grown) {
	for _, s := range measured {
		if s.failed != nil {
			m.found.Skipped = append(m.found.Skipped, skipped{s.row.Kind + " " + s.row.Title, "", s.failed.Error()})
			continue
		}
		for i, one := range s.row.Rounds {
			one.Ratio = digits(one.RPS / measured[0].row.Rounds[i].RPS)
		}
		m.found.Rows = append(m.found.Rows, s.row)
	}
}
