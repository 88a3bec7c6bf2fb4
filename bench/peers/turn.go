package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// quietTurn repeats a turn that failed or that other programs disturbed, as often as it may, and returns the one that they
// disturbed least.
func (m *measurement) quietTurn(ctx context.Context, p *peer, scenario, redisURL string) (best *sample, err error) {
	for range m.retries + 1 {
		one, failed := m.turn(ctx, p, scenario, redisURL)
		if failed != nil {
			err = failed
			continue
		}
		if best == nil || one.Foreign < best.Foreign {
			best = one
		}
		if best.Foreign <= quiet {
			break
		}
	}
	if best == nil {
		return nil, err
	}
	return best, nil
}

// standing is a server that runs, with sessions.
type standing struct {
	*process
	cookies []string
	size    int // bytes of the response that a request gets
}

// stand starts a peer and logs its users in. For me it does so once: a server is as good in the last round as in the first, and
// the rounds lie closer together, so that what drifts in the machine drifts less between the two that are compared. Logins and
// refreshes leave sessions behind, so each turn has a fresh server, and an empty Redis.
func (m *measurement) stand(ctx context.Context, p *peer, scenario, redisURL string) (s *standing, err error) {
	if s := m.standing[p.name]; s != nil {
		return s, nil
	}
	if m.redis != nil && scenario != me {
		if err := flush(m.redis); err != nil {
			return nil, err
		}
	}
	s = &standing{}
	if s.process, err = m.start(ctx, p, redisURL); err != nil {
		return nil, err
	}
	if s.cookies, s.size, err = m.sessions(p, s.address, scenario); err != nil {
		s.stop()
		return nil, err
	}
	if scenario == me {
		if m.standing == nil {
			m.standing = map[string]*standing{}
		}
		m.standing[p.name] = s
	}
	return s, nil
}

// rest stops the servers that stand.
func (m *measurement) rest() {
	for _, s := range m.standing {
		s.stop()
	}
	clear(m.standing)
}

// turn measures one peer once.
func (m *measurement) turn(ctx context.Context, p *peer, scenario, redisURL string) (*sample, error) {
	server, err := m.stand(ctx, p, scenario, redisURL)
	if err != nil {
		return nil, err
	}
	if scenario != me {
		defer server.stop()
	}
	if p.spread && m.redis != nil {
		// The cache in front of Redis is to be warm, and the warm-up alone may not come to all of them.
		if err := checkLive(server.address, server.cookies); err != nil {
			return nil, err
		}
	}
	warm := server.cookies
	if scenario == refresh {
		// The warm-up leaves other cookies than it began with, so it has sessions of its own.
		if warm, _, err = m.sessions(p, server.address, scenario); err != nil {
			return nil, err
		}
	}
	if _, err := drive(ctx, m.settings, scenario, server.address, m.cores.Load, warm, m.warmUp); err != nil {
		return nil, err
	}
	before, err := m.meter(server.process)
	if err != nil {
		return nil, err
	}
	seen, err := drive(ctx, m.settings, scenario, server.address, m.cores.Load, server.cookies, m.duration)
	if err != nil {
		return nil, err
	}
	after, err := m.meter(server.process)
	if err != nil {
		return nil, fmt.Errorf("it did not live through the measurement: %s", server.lastWords())
	}
	rss, err := server.peakRSS()
	if err != nil {
		return nil, err
	}
	if err := m.honest(p, scenario, server, seen); err != nil {
		return nil, err
	}
	one := newSample(seen, before.server, after.server, rss)
	ours := after.server.cpu() - before.server.cpu() + after.helpers - before.helpers + seen.cpu
	one.Foreign = digits(max(0, (after.machine-before.machine-ours).Seconds()/after.at.Sub(before.at).Seconds()))
	return one, nil
}

// meters are what was used so far: by the server, by Redis and this process, by everything on the machine.
type meters struct {
	server           used
	helpers, machine time.Duration
	at               time.Time
}

func (m *measurement) meter(server *process) (t meters, err error) {
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return t, err
	}
	t.helpers = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	if m.redis != nil {
		redis, err := m.redis.used()
		if err != nil {
			return t, err
		}
		t.helpers += redis.cpu()
	}
	if t.machine, err = machineCPU(); err != nil {
		return t, err
	}
	t.at = time.Now()
	t.server, err = server.used()
	return t, err
}

// sessions logs in as many users as the peer is to have, and returns the cookies that are to be used, and the bytes of the
// response that a request of the scenario gets.
func (m *measurement) sessions(p *peer, address, scenario string) ([]string, int, error) {
	c, err := dial(address)
	if err != nil {
		return nil, 0, err
	}
	defer func() { c.close() }()
	cookies := make([]string, m.connections)
	if p.twin {
		for i := range cookies {
			cookies[i] = "session_id=" + strings.Repeat("a", 43) // as long as coatcheck's tokens
		}
	} else {
		n := m.connections
		if p.sessions != nil {
			n = p.sessions(m.settings)
		}
		if cookies, err = c.logins(n); err != nil {
			return nil, 0, err
		}
		if p.cached {
			if err := checkLive(address, cookies); err != nil {
				return nil, 0, err
			}
			c.close() // it stood idle meanwhile, perhaps for longer than the server lets it
			if c, err = dial(address); err != nil {
				return nil, 0, err
			}
		}
		if !p.spread {
			cookies = cookies[len(cookies)-m.connections:]
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

// honest reports whether what was measured were right answers, all of them: no error, and the bytes that they have.
func (m *measurement) honest(p *peer, scenario string, server *standing, seen *load) error {
	if seen.Requests == 0 || seen.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed: %s", seen.Errors, seen.Requests, seen.Kinds)
	}
	each := float64(seen.Bytes) / float64(seen.Requests)
	// What was on its way at the end counts in bytes and not in requests; escaped cookies differ by a few bytes.
	slack := 0.01 + 4*float64(m.connections)/float64(seen.Requests)
	if want := float64(server.size); want > 0 && math.Abs(each-want) > slack*want {
		return fmt.Errorf("responses of %.1f bytes were measured, a right one has %.0f", each, want)
	}
	if scenario != me || p.twin {
		return nil
	}
	return checkLive(server.address, server.cookies[:min(len(server.cookies), m.connections)])
}
