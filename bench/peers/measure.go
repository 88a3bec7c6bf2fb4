package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// measurement is one run of the command.
type measurement struct {
	*settings
	cpus     process.CPUs
	peers    []*peer
	result   *result
	answers  string // the file of what coatcheck answered, for the twins
	like     *answer
	cookie   string           // one of coatcheck's
	redis    *process.Process // nil while sessions are kept in memory
	redisAt  string           // its address
	standing map[string]*standing
}

// prepare finds what the measurement needs and builds the peers. A peer that cannot be built, or answers wrongly, is named with
// the reason and left out; without coatcheck or the ceiling there is nothing to compare.
func prepare(ctx context.Context, s *settings, peers []*peer) (*measurement, error) {
	cpus, err := process.ShareCPUs(s.cores)
	if err != nil {
		return nil, err
	}
	if err := prepareWrk(s); err != nil {
		return nil, err
	}
	m := &measurement{settings: s, cpus: cpus, peers: peers, answers: filepath.Join(s.work, "answers.json"), standing: map[string]*standing{}}
	m.result = newResult(ctx, s, cpus)
	return m, m.buildAll(ctx)
}

// measure builds and checks the peers, measures them, prints and writes the result.
func measure(ctx context.Context, s *settings) error {
	peers, err := chosen(s)
	if err != nil {
		return err
	}
	m, err := prepare(ctx, s, peers)
	if err != nil {
		return err
	}
	for _, store := range []string{memory, redis} {
		if !s.stores.has(store) {
			continue
		}
		if err := m.store(ctx, store); err != nil {
			return err
		}
	}
	fmt.Print(m.result.budgets())
	fmt.Printf("\nwritten to %s\n", s.out)
	return nil
}

func (m *measurement) buildAll(ctx context.Context) error {
	var built []*peer
	for _, p := range m.peers {
		fmt.Printf("building %s\n", p.name)
		version, err := p.build(ctx, m.settings, p.module)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.skip(p, "", err)
			continue
		}
		m.result.Peers = append(m.result.Peers, peerInfo{p.name, p.title, p.module, version, p.twin})
		built = append(built, p)
	}
	m.peers = built
	return m.required(built)
}

func (m *measurement) required(peers []*peer) error {
	for _, name := range []string{own, ceiling} {
		if !slices.ContainsFunc(peers, func(p *peer) bool { return p.name == name }) {
			return fmt.Errorf("nothing can be compared without %s", name)
		}
	}
	return nil
}

// skip prints, and notes in the result, what is left out and why.
func (m *measurement) skip(p *peer, store string, err error) {
	fmt.Printf("  left out: %s %s: %v\n", p.name, store, err)
	m.result.Skipped = append(m.result.Skipped, skipped{p.name, store, err.Error()})
}

// store measures all scenarios with the sessions in one kind of store.
func (m *measurement) store(ctx context.Context, store string) error {
	if store == redis {
		if err := m.startRedis(ctx); err != nil {
			fmt.Printf("no measurement with Redis: %v\n", err)
			m.result.Skipped = append(m.result.Skipped, skipped{Store: redis, Reason: err.Error()})
			return nil
		}
		defer m.stopRedis()
	}
	peers, err := m.check(ctx, store)
	if err != nil {
		return err
	}
	for _, scenario := range []string{me, login, refresh} {
		if !m.scenarios.has(scenario) {
			continue
		}
		if err := m.measureOn(ctx, scenario, store, peers); err != nil {
			return err
		}
		fmt.Printf("\n%s, %s\n\n%s", scenario, store, m.result.table(scenario, store))
		if err := report.WriteJSON(m.out, m.result); err != nil { // a failure later on does not lose what was measured
			return err
		}
	}
	return nil
}

// startRedis starts a Redis that writes nothing to disk.
func (m *measurement) startRedis(ctx context.Context) (err error) {
	if m.redisAt, err = process.FreeAddress(); err != nil {
		return err
	}
	m.redis, err = process.StartRedis(ctx, m.redisAt, m.log("redis-server"), []int{m.cpus.Redis}, "--save", "", "--appendonly", "no")
	return err
}

func (m *measurement) stopRedis() {
	_ = m.redis.Stop() // nothing in it must survive
	m.redis, m.redisAt = nil, ""
}

// flush empties Redis, so that no peer meets the data of another.
func (m *measurement) flush(ctx context.Context) error {
	reply, err := process.AskRedis(ctx, m.redisAt, "FLUSHALL")
	if err == nil && reply != "+OK" {
		err = fmt.Errorf("redis-server: FLUSHALL: %s", reply)
	}
	return err
}

func (m *measurement) log(name string) string { return filepath.Join(m.work, "logs", name+".log") }

// check takes every peer through the routes, and lets the twins learn from coatcheck.
func (m *measurement) check(ctx context.Context, store string) ([]*peer, error) {
	var good []*peer
	for _, p := range m.peers {
		if !p.keeps(store) {
			continue
		}
		if err := m.checkOne(ctx, p); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			m.skip(p, store, err)
			continue
		}
		good = append(good, p)
	}
	if m.like == nil {
		return nil, errors.New("coatcheck must be right before anything is compared with it")
	}
	return good, nil
}

func (m *measurement) checkOne(ctx context.Context, p *peer) error {
	address, server, err := m.start(ctx, p)
	if err != nil {
		return err
	}
	defer server.Stop() //nolint:errcheck // most servers end with a status of their own
	if p.twin {
		return checkTwin(address, m.like)
	}
	answers, err := walk(address)
	if err == nil && p.name == own {
		m.like = answers[http.MethodGet+" /auth/me"]
		m.cookie, err = answers[http.MethodPost+" /auth/login"].cookie()
		err = errors.Join(err, record(answers, m.answers))
	}
	return err
}

// start starts a peer's server and waits until it accepts connections.
func (m *measurement) start(ctx context.Context, p *peer) (address string, server *process.Process, err error) {
	if p.twin && m.like == nil {
		return "", nil, errors.New("there is no answer of coatcheck's to give")
	}
	if address, err = process.FreeAddress(); err != nil {
		return "", nil, err
	}
	store, redisURL := memory, ""
	if m.redis != nil {
		redisURL = "redis://" + m.redisAt
		store = redisURL
	}
	env := append([]string{
		"PEER_LISTEN=" + address, "PEER_REDIS=" + redisURL, "PEER_ANSWERS=" + m.answers,
		"COATCHECK_LISTEN=" + address, "COATCHECK_STORE=" + store, // coatcheck's own names for the first two
	}, p.env...)
	server, err = process.Start(process.Command{Args: p.command(m.settings), Env: env, CPUs: m.cpus.Server, Log: m.log(p.name)})
	if err != nil {
		return "", nil, err
	}
	if err := server.AwaitListener(ctx, address); err != nil {
		_ = server.Stop() // the first error says more
		return "", nil, err
	}
	return address, server, nil
}

// measureOn measures those that have the scenario and the store.
func (m *measurement) measureOn(ctx context.Context, scenario, store string, peers []*peer) error {
	var running []*peer
	for _, p := range peers {
		if p.runs(scenario, store) {
			running = append(running, p)
		}
	}
	if err := m.required(running); err != nil && store == memory {
		return err
	}
	return m.turns(ctx, scenario, store, running)
}

// turns gives every peer its turn, in each round beginning with another one, so that a slow drift of the machine affects all alike.
func (m *measurement) turns(ctx context.Context, scenario, store string, running []*peer) error {
	defer m.stopStanding()
	for round := range m.rounds {
		measured := map[string]*sample{}
		for i := range running {
			p := running[(i+round)%len(running)]
			if p == nil {
				continue
			}
			progress("%s, %s: round %d of %d: %s", scenario, store, round+1, m.rounds, p.name)
			one, err := m.quietTurn(ctx, p, scenario)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				m.skip(p, store+" "+scenario, err)
				running[(i+round)%len(running)] = nil
				continue
			}
			measured[p.name] = one
		}
		if measured[ceiling] == nil {
			return errors.New("the ceiling could not be measured")
		}
		for name, one := range measured {
			one.Ratio = digits(one.RPS / measured[ceiling].RPS)
			m.result.add(name, scenario, store, one)
		}
	}
	progress("")
	return nil
}

// progress shows on a terminal what is being measured.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r%-78s\r", fmt.Sprintf(format, args...))
	}
}
