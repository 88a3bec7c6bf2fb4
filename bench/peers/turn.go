package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// quietTurn is the least disturbed of the turns that a peer needs.
func (m *measurement) quietTurn(ctx context.Context, p *peer, scenario string) (*sample, error) {
	return quietest(m.retries, func() (*sample, error) { return m.turn(ctx, p, scenario) })
}

// disturbable is a turn that knows how many cores other programs used meanwhile.
type disturbable interface{ foreign() float64 }

// quietest repeats a turn that failed or that other programs disturbed, at most so often, and returns the least disturbed one.
func quietest[T disturbable](retries int, turn func() (T, error)) (best T, err error) {
	found := false
	for range retries + 1 {
		one, failed := turn()
		if failed != nil {
			err = failed
			continue
		}
		if !found || one.foreign() < best.foreign() {
			best, found = one, true
		}
		if best.foreign() <= quiet {
			break
		}
	}
	if found {
		return best, nil
	}
	return best, err
}

// standing is a running server with sessions.
type standing struct {
	*process.Process
	address string
	cookies []string
	size    int // bytes of the response that a request gets
}

// stand starts a peer and logs its users in. For GET /auth/me it does so once, because reads leave the server as it was, and because the
// turns of a round then lie closer together, so that the machine changes less between two that are compared. Logins and refreshes leave
// sessions behind, so each of their turns has a fresh server and an empty Redis.
func (m *measurement) stand(ctx context.Context, p *peer, scenario string) (s *standing, err error) {
	if s := m.standing[p.name]; s != nil {
		return s, nil
	}
	if m.redis != nil && scenario != me {
		if err := m.flush(ctx); err != nil {
			return nil, err
		}
	}
	s = &standing{}
	if s.address, s.Process, err = m.start(ctx, p); err != nil {
		return nil, err
	}
	if s.cookies, s.size, err = m.sessions(p, s.address, scenario); err != nil {
		_ = s.Stop() // the first error says more
		return nil, err
	}
	if scenario == me {
		m.standing[p.name] = s
	}
	return s, nil
}

// stopStanding stops the servers that stand has started for GET /auth/me.
func (m *measurement) stopStanding() {
	for _, s := range m.standing {
		_ = s.Stop() // most servers end with a status of their own
	}
	clear(m.standing)
}

// turn measures one peer once.
func (m *measurement) turn(ctx context.Context, p *peer, scenario string) (*sample, error) {
	server, err := m.stand(ctx, p, scenario)
	if err != nil {
		return nil, err
	}
	if scenario != me {
		defer server.Stop() //nolint:errcheck // most servers end with a status of their own
	}
	if p.spread && m.redis != nil {
		// The warm-up alone may not reach all sessions, and the cache in front of Redis has to hold them all.
		if err := checkLive(server.address, server.cookies); err != nil {
			return nil, err
		}
	}
	warm := server.cookies
	if scenario == refresh {
		// A refresh changes the cookie, so the warm-up has sessions of its own.
		if warm, _, err = m.sessions(p, server.address, scenario); err != nil {
			return nil, err
		}
	}
	if _, err := m.drive(ctx, scenario, server.address, warm, m.warmUp); err != nil {
		return nil, err
	}
	before, err := m.meter(server.PID())
	if err != nil {
		return nil, err
	}
	seen, err := m.drive(ctx, scenario, server.address, server.cookies, m.duration)
	if err != nil {
		return nil, err
	}
	after, err := m.meter(server.PID())
	if err != nil {
		return nil, fmt.Errorf("it did not live through the measurement: %s", server.LogTail())
	}
	rss, err := process.PeakResident(server.PID())
	if err != nil {
		return nil, err
	}
	if err := m.honest(p, scenario, server, seen); err != nil {
		return nil, err
	}
	one := newSample(seen, after.server.Sub(before.server), rss)
	one.Foreign = digits(after.foreign(before, seen.cpu))
	return one, nil
}

// meters are the processor times used so far: by the server, by Redis and this process, by everything on the machine.
type meters struct {
	server           process.CPU
	helpers, machine time.Duration
	at               time.Time
}

// foreign is how many cores programs that have no part in the measurement have used since an earlier reading; generator is what
// the load generator used.
func (t meters) foreign(before meters, generator time.Duration) float64 {
	ours := t.server.Sub(before.server).Total() + t.helpers - before.helpers + generator
	return max(0, (t.machine-before.machine-ours).Seconds()/t.at.Sub(before.at).Seconds())
}

func (m *measurement) meter(server int) (t meters, err error) {
	helpers := []int{os.Getpid()}
	if m.redis != nil {
		helpers = append(helpers, m.redis.PID())
	}
	for _, pid := range helpers {
		used, err := process.CPUOf(pid)
		if err != nil {
			return t, err
		}
		t.helpers += used.Total()
	}
	if t.machine, err = process.MachineCPU(); err != nil {
		return t, err
	}
	t.at = time.Now()
	t.server, err = process.CPUOf(server)
	return t, err
}

// sessions logs in as many users as the peer is to have, and returns the cookies that are to be used, and the bytes of the
// response that a request of the scenario gets.
func (m *measurement) sessions(p *peer, address, scenario string) ([]string, int, error) {
	requesting := m.settings.sessions // how many make requests
	if scenario == refresh {
		requesting = m.refreshing()
	}
	c, err := dial(address)
	if err != nil {
		return nil, 0, err
	}
	defer func() { c.close() }()
	var cookies []string
	switch {
	case p.twin:
		cookies = slices.Repeat([]string{m.cookie}, requesting)
	case scenario == login: // its requests carry none
		if _, err = c.logins(p.perUser*loginUsers, loginUsers); err != nil {
			return nil, 0, err
		}
	default:
		n := requesting
		if p.sessions != nil {
			n = p.sessions(m.settings)
		}
		if cookies, err = c.logins(n, n); err != nil {
			return nil, 0, err
		}
		if p.cached {
			if err := checkLive(address, cookies); err != nil {
				return nil, 0, err
			}
			c.close() // the connection was idle meanwhile, perhaps for longer than the server allows
			if c, err = dial(address); err != nil {
				return nil, 0, err
			}
		}
		if !p.spread {
			cookies = cookies[max(0, len(cookies)-requesting):]
		}
	}
	var a *answer
	switch scenario {
	case me:
		a, err = c.do(http.MethodGet, "/auth/me", cookies[0], "")
	case login:
		a, err = c.do(http.MethodPost, "/auth/login", "", loginBody(1))
	default:
		return cookies, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return cookies, len(a.raw), nil
}

// honest returns an error unless all of the measured answers were right: no errors, and the size of a right answer.
func (m *measurement) honest(p *peer, scenario string, server *standing, seen *load) error {
	if seen.Requests == 0 || seen.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed: %s", seen.Errors, seen.Requests, seen.Kinds)
	}
	each := float64(seen.Bytes) / float64(seen.Requests)
	// Responses that were on their way at the end count in bytes and not in requests; escaped cookies differ by a few bytes.
	slack := 0.01 + 4*float64(m.connections)/float64(seen.Requests)
	if want := float64(server.size); want > 0 && math.Abs(each-want) > slack*want {
		return fmt.Errorf("responses of %.1f bytes were measured, a right one has %.0f", each, want)
	}
	if scenario != me || p.twin {
		return nil
	}
	return checkLive(server.address, server.cookies[:min(len(server.cookies), m.connections)])
}
