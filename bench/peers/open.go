package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/bench/peers/internal/openload"
)

// shares are the rates of the open model, as shares of what the ceiling answers when it is driven as hard as possible.
var shares = []float64{0.3, 0.6, 0.8}

func runOpen(ctx context.Context, args []string) error {
	s := settings{scenarios: list{me}, stores: list{memory}}
	f := flag.NewFlagSet("open", flag.ContinueOnError)
	page := f.String("page", "", "put the table between the marks of this Markdown file")
	f.StringVar(&s.out, "out", "", "the JSON file (default: open-N.json in -work, for N cores)")
	if err := s.parse(f, args); err != nil {
		return err
	}
	if len(s.peers) == 0 {
		s.peers = list{"actix"}
	}
	if s.out == "" {
		s.out = filepath.Join(s.work, fmt.Sprintf("open-%d.json", s.cores))
	}
	peers, err := chosen(&s)
	if err != nil {
		return err
	}
	m, err := prepare(ctx, &s, peers)
	if err != nil {
		return err
	}
	found, err := m.openModel(ctx)
	if err != nil {
		return err
	}
	if err := report.WriteJSON(s.out, found); err != nil {
		return err
	}
	text := found.table()
	fmt.Print(text)
	if *page == "" {
		return nil
	}
	return report.Replace(*page, mark("open", "make bench-open", s.cores), openEnd, "\n"+text+"\n")
}

// openEnd is the mark below the generated part of the page.
const openEnd = "<!-- open: end -->"

// openResult is the result of a measurement with the open model.
type openResult struct {
	*result
	// CeilingRPS is how many requests a second the ceiling answers at most, the median of the rounds.
	CeilingRPS float64    `json:"ceiling_rps"`
	Rates      []*openRow `json:"rates"`
}

// openRow is one server at one rate.
type openRow struct {
	Peer   string        `json:"peer"`
	Share  float64       `json:"share"`  // of CeilingRPS
	Wanted float64       `json:"wanted"` // requests a second
	Rounds []*openSample `json:"rounds"`
}

// openSample is one turn.
type openSample struct {
	openload.Result

	Cores   float64 `json:"server_cores_used"`
	Foreign float64 `json:"foreign_cores"`
}

// openModel finds the ceiling's rate and measures all peers at shares of it, each in turn in every round.
func (m *measurement) openModel(ctx context.Context) (*openResult, error) {
	peers, err := m.check(ctx, memory)
	if err != nil {
		return nil, err
	}
	if err := m.required(peers); err != nil {
		return nil, err
	}
	defer m.stopStanding()
	top := peers[slices.IndexFunc(peers, func(p *peer) bool { return p.name == ceiling })]
	for range m.rounds {
		one, err := m.quietTurn(ctx, top, me)
		if err != nil {
			return nil, fmt.Errorf("the ceiling: %w", err)
		}
		m.result.add(ceiling, me, memory, one)
	}
	found := &openResult{result: m.result, CeilingRPS: m.result.row(ceiling, me, memory).Median.RPS}
	for _, share := range shares {
		for _, p := range peers {
			found.Rates = append(found.Rates, &openRow{Peer: p.name, Share: share, Wanted: digits(share * found.CeilingRPS)})
		}
	}
	for round := range m.rounds {
		for i := range found.Rates {
			// Each round begins with another server, and the servers at one rate stay together.
			w := found.Rates[i/len(peers)*len(peers)+(i+round)%len(peers)]
			progress("round %d of %d: %s at %.0f a second", round+1, m.rounds, w.Peer, w.Wanted)
			p := peers[slices.IndexFunc(peers, func(p *peer) bool { return p.name == w.Peer })]
			one, err := m.openTurn(ctx, p, w.Wanted)
			if err != nil {
				return nil, fmt.Errorf("%s at %.0f a second: %w", w.Peer, w.Wanted, err)
			}
			w.Rounds = append(w.Rounds, one)
		}
	}
	progress("")
	return found, nil
}

// openTurn measures one peer at one rate.
func (m *measurement) openTurn(ctx context.Context, p *peer, rate float64) (*openSample, error) {
	server, err := m.stand(ctx, p, me)
	if err != nil {
		return nil, err
	}
	file, err := writeCookies(m.settings, server.cookies)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file) //nolint:errcheck // the next one overwrites it
	before, err := m.meter(server.PID())
	if err != nil {
		return nil, err
	}
	var found generated
	err = process.RunSelf(ctx, m.cpus.Load, &found, "generate", "-address", server.address, "-cookies", file, "-rate", fmt.Sprint(rate),
		"-connections", fmt.Sprint(m.connections), "-warmup", m.warmUp.String(), "-for", m.duration.String())
	if err != nil {
		return nil, err
	}
	after, err := m.meter(server.PID())
	if err != nil {
		return nil, fmt.Errorf("it did not live through the measurement: %s", server.LogTail())
	}
	seen := &load{Requests: found.Requests, Bytes: found.Bytes}
	if err := m.honest(p, me, server, seen); err != nil {
		return nil, err
	}
	used := after.server.Sub(before.server).Total().Seconds() / found.End.Sub(found.Begin).Seconds()
	return &openSample{found.Result, digits(used), digits(after.foreign(before, time.Duration(found.CPU)))}, nil
}

// generated is what the generator, a process of its own, prints.
type generated struct {
	openload.Result

	CPU        int64 // nanoseconds of processor time that the generator used
	Begin, End time.Time
}

func runGenerate(args []string) error {
	var c openload.Config
	f := flag.NewFlagSet("generate", flag.ContinueOnError)
	f.StringVar(&c.Address, "address", "", "the server's host and port")
	cookies := f.String("cookies", "", "a file of Cookie headers, a line each")
	f.Float64Var(&c.Rate, "rate", 0, "requests a second")
	f.IntVar(&c.Connections, "connections", 0, "connections")
	f.DurationVar(&c.WarmUp, "warmup", 0, "how long requests are sent before they count")
	f.DurationVar(&c.Duration, "for", 0, "how long they count")
	if err := f.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*cookies)
	if err != nil {
		return err
	}
	for cookie := range bytes.Lines(text) {
		c.Requests = append(c.Requests, []byte(request(c.Address, http.MethodGet, "/auth/me", string(bytes.TrimSpace(cookie)), "")))
	}
	c.Threads = runtime.GOMAXPROCS(0) // as many as the CPUs that taskset allows
	found := generated{Begin: time.Now()}
	if found.Result, err = openload.Run(c); err != nil {
		return err
	}
	found.End = time.Now()
	used, err := process.CPUOf(os.Getpid())
	found.CPU = used.Total().Nanoseconds()
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(found))
}
