package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// measurement is one run of the command.
type measurement struct {
	*settings
	cores   cores
	peers   []*peer
	result  *result
	answers string // the file of what coatcheck answered, for the twins
	like    *answer
	redis   *process // nil while sessions are kept in memory
	// standing are the servers that stand for a scenario's rounds, by peer; nil before there is one.
	standing map[string]*standing
}

// measure builds and checks the peers, measures them, prints and writes the result. A peer that cannot be built, or answers
// wrongly, is named with the reason and left out; without coatcheck or the ceiling there is nothing to compare.
func measure(ctx context.Context, s settings) error {
	if err := s.absolute(); err != nil {
		return err
	}
	c, err := pickCores()
	if err != nil {
		return err
	}
	if err := prepareWrk(&s); err != nil {
		return err
	}
	m := &measurement{settings: &s, cores: c, peers: chosen(&s), answers: filepath.Join(s.work, "answers.json")}
	m.result = newResult(ctx, &s, c)
	if err := m.buildAll(ctx); err != nil {
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

// absolute makes the directories of the settings ones that a child finds wherever it runs.
func (s *settings) absolute() (err error) {
	if s.root, err = filepath.Abs(s.root); err != nil {
		return err
	}
	if s.work, err = filepath.Abs(s.work); err != nil {
		return err
	}
	if s.out == "" {
		s.out = filepath.Join(s.work, "result.json")
	}
	return os.MkdirAll(s.work, 0o755)
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
	for _, name := range []string{"coatcheck", ceiling} {
		found := false
		for _, p := range peers {
			found = found || p.name == name
		}
		if !found {
			return fmt.Errorf("nothing can be compared without %s", name)
		}
	}
	return nil
}

// skip says, now and in the result, what is left out and why.
func (m *measurement) skip(p *peer, store string, err error) {
	fmt.Printf("  left out: %s %s: %v\n", p.name, store, err)
	m.result.Skipped = append(m.result.Skipped, skipped{p.name, store, err.Error()})
}

// store measures all scenarios with the sessions in one kind of store.
func (m *measurement) store(ctx context.Context, store string) error {
	redisURL := ""
	if store == redis {
		server, err := startRedis(ctx, m.settings, m.cores.Redis)
		if err != nil {
			fmt.Printf("no measurement with Redis: %v\n", err)
			m.result.Skipped = append(m.result.Skipped, skipped{Store: redis, Reason: err.Error()})
			return nil
		}
		defer func() {
			server.stop()
			m.redis = nil
		}()
		m.redis, redisURL = server, "redis://"+server.address
	}
	peers, err := m.check(ctx, store, redisURL)
	if err != nil {
		return err
	}
	for _, scenario := range []string{me, login, refresh} {
		if !m.scenarios.has(scenario) {
			continue
		}
		if err := m.rounds(ctx, scenario, store, redisURL, peers); err != nil {
			return err
		}
		fmt.Printf("\n%s, %s\n\n%s", scenario, store, m.result.table(scenario, store))
		if err := m.result.write(m.out); err != nil { // an hour's work is not lost to what comes after
			return err
		}
	}
	return nil
}

// check takes every peer through the routes, and lets the twins learn from coatcheck.
func (m *measurement) check(ctx context.Context, store, redisURL string) ([]*peer, error) {
	var good []*peer
	for _, p := range m.peers {
		if !p.keeps(store) {
			continue
		}
		if err := m.checkOne(ctx, p, redisURL); err != nil {
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

func (m *measurement) checkOne(ctx context.Context, p *peer, redisURL string) error {
	server, err := m.start(ctx, p, redisURL)
	if err != nil {
		return err
	}
	defer server.stop()
	if p.twin {
		return checkTwin(server.address, m.like)
	}
	answers, err := walk(server.address)
	if err == nil && p.name == "coatcheck" {
		m.like = answers[http.MethodGet+" /auth/me"]
		err = record(answers, m.answers)
	}
	return err
}

func (m *measurement) start(ctx context.Context, p *peer, redisURL string) (*process, error) {
	if p.twin && m.like == nil {
		return nil, errors.New("there is no answer of coatcheck's to give")
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	env := append([]string{"PEER_LISTEN=" + address, "PEER_REDIS=" + redisURL, "PEER_ANSWERS=" + m.answers}, p.env...)
	return start(ctx, m.settings, p.name, address, m.cores.Server, env, p.command(m.settings, address, redisURL))
}

// rounds measures those that have the scenario and the store.
func (m *measurement) rounds(ctx context.Context, scenario, store, redisURL string, peers []*peer) error {
	var running []*peer
	for _, p := range peers {
		if p.runs(scenario, store) {
			running = append(running, p)
		}
	}
	if err := m.required(running); err != nil && store == memory {
		return err
	}
	return m.turns(ctx, scenario, store, redisURL, running)
}

// turns gives every peer its turn, in each round beginning with another one, so that what drifts hits all alike.
func (m *measurement) turns(ctx context.Context, scenario, store, redisURL string, running []*peer) error {
	defer m.rest()
	for round := range m.settings.rounds {
		measured := map[string]*sample{}
		for i := range running {
			p := running[(i+round)%len(running)]
			if p == nil {
				continue
			}
			progress("%s, %s: round %d of %d: %s", scenario, store, round+1, m.settings.rounds, p.name)
			one, err := m.quietTurn(ctx, p, scenario, redisURL)
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

// progress shows on a terminal what is going on.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r%-78s\r", fmt.Sprintf(format, args...))
	}
}
