package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// filling is what it cost to make a server's sessions, with a connection that sends a hundred logins before it reads their answers.
type filling struct {
	Sessions  int       `json:"sessions"`
	Seconds   float64   `json:"seconds"`
	CPU       float64   `json:"server_cpu_ms"`
	Collector collected `json:"collector"`
}

// growthSample is one turn.
type growthSample struct {
	sample

	Resident  float64   `json:"resident_mib"` // of the server, when the load ends
	Open      int       `json:"open"`         // connections, in the middle of the turn
	Collector collected `json:"collector"`
}

// grown is the server of a row, and what drives it.
type grown struct {
	row *growthRow
	measurement

	failed error // why the row is left out; nil: it is not

	server *standing // nil before the first turn, and between two turns of a scenario that leaves sessions behind
	idle   int       // descriptors of the server without any connection
	admin  string
	peer   *peer
}

// grow returns the row's server, which is not started yet.
func (m *growthMeasurement) grow(w *growthRow) *grown {
	s := m.settings // a copy: each row has connections and users of its own
	s.cores, s.connections, s.users = w.Cores, w.Connections, w.Users
	return &grown{row: w, measurement: measurement{settings: &s}}
}

// start starts the server and makes its sessions, if it does not stand yet.
func (g *grown) start(ctx context.Context) (err error) {
	if g.server != nil {
		return nil
	}
	if g.cpus, err = process.ShareCPUs(g.row.Cores); err != nil {
		return err
	}
	if g.admin, err = process.FreeAddress(); err != nil {
		return err
	}
	g.peer = &peer{name: "growth-" + g.row.name(), env: []string{"GODEBUG=gctrace=1"}, command: func(s *settings) []string {
		return []string{filepath.Join(s.work, "coatcheck"), "serve", "--admin-listen=" + g.admin, "--login=open", "--log-level=warn"}
	}}
	g.server = &standing{}
	if g.server.address, g.server.Process, err = g.measurement.start(ctx, g.peer); err != nil {
		g.server = nil
		return err
	}
	g.idle, err = g.descriptors()
	if err = errors.Join(err, g.fill(ctx)); err != nil {
		g.stop()
		return fmt.Errorf("its sessions: %w", err)
	}
	return nil
}

// stop ends the server, if it stands.
func (g *grown) stop() {
	if g.server != nil {
		_ = g.server.Stop() // nothing in it must survive
	}
	g.server = nil
}

// reading is what the server has used so far.
type reading struct {
	meters

	collector collectorTotals
	resident  float64 // MiB
}

func (g *grown) read() (r reading, err error) {
	rss, err := process.Resident(g.server.PID())
	if err != nil {
		return r, fmt.Errorf("it did not live through the measurement: %s", g.server.LogTail())
	}
	r.resident = digits(float64(rss) / (1 << 20))
	if r.meters, err = g.meter(g.server.PID()); err != nil {
		return r, err
	}
	r.collector, err = readCollector(g.admin, g.log(g.peer.name)) // last, because it makes the server allocate
	return r, err
}

// collected is what the collector did between two readings.
func (g *grown) collected(before, after reading) (collected, error) {
	text, err := os.ReadFile(g.log(g.peer.name))
	if err != nil {
		return collected{}, err
	}
	return before.collector.between(after.collector, text)
}

// fill makes the resident sessions, and keeps the cookies of as many as make requests, from all parts of the store.
func (g *grown) fill(ctx context.Context) error {
	before, err := g.read()
	if err != nil {
		return err
	}
	c, err := dial(g.server.address)
	if err != nil {
		return err
	}
	defer c.close()
	began, w := time.Now(), g.row
	kept := keeper{want: w.Requesting, of: w.Resident}
	err = c.eachLogin(w.Resident, w.Users, func(i int, cookie string) error {
		kept.offer(i, cookie)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	after, err := g.read()
	if err != nil {
		return err
	}
	if int(after.collector.sessions) != w.Resident {
		return fmt.Errorf("%.0f are resident, %d were made", after.collector.sessions, w.Resident)
	}
	of, err := g.collected(before, after)
	if err != nil {
		return err
	}
	w.Empty, w.Filled = before.resident, after.resident
	w.Filling = &filling{w.Resident, digits(seconds), float64(after.server.Sub(before.server).Total().Milliseconds()), of}
	for len(g.server.cookies) < w.Cores { // each of wrk's threads needs a line
		g.server.cookies = append(g.server.cookies, kept.cookies...)
	}
	return g.sizeOfAnswer(c)
}

// sizeOfAnswer notes how many bytes a right answer has.
func (g *grown) sizeOfAnswer(c *client) error {
	method, path, cookie, body := http.MethodGet, "/auth/me", g.server.cookies[0], ""
	if g.row.Scenario == login {
		method, path, cookie, body = http.MethodPost, "/auth/login", "", loginBody(1)
	}
	a, err := c.do(method, path, cookie, body)
	if err != nil {
		return err
	}
	if v, err := a.view(); err != nil || !v.Authenticated {
		return fmt.Errorf("%s %s: %.200s", method, path, a.raw)
	}
	g.server.size = len(a.raw)
	return nil
}

// keeper keeps some of many cookies, evenly spread over all.
type keeper struct {
	want, of int
	cookies  []string
}

// offer keeps the i-th cookie, from 1, if it is one of those.
func (k *keeper) offer(i int, cookie string) {
	if i*k.want/k.of > (i-1)*k.want/k.of {
		k.cookies = append(k.cookies, cookie)
	}
}

// turn measures the row once. Reads leave the server as it was, so it stands for all rounds; logins get a fresh one for each turn.
func (g *grown) turn(ctx context.Context) (*growthSample, error) {
	if err := g.start(ctx); err != nil {
		return nil, err
	}
	if g.row.Scenario != me {
		defer g.stop()
	}
	if _, err := g.drive(ctx, g.row.Scenario, g.server.address, g.server.cookies, g.warmUp); err != nil {
		return nil, err
	}
	if err := g.awaitClosed(ctx); err != nil {
		return nil, err
	}
	before, err := g.read()
	if err != nil {
		return nil, err
	}
	open := g.countOpen()
	seen, err := g.drive(ctx, g.row.Scenario, g.server.address, g.server.cookies, g.duration)
	if err != nil {
		return nil, err
	}
	after, err := g.read()
	if err != nil {
		return nil, err
	}
	if err := g.honest(g.peer, g.row.Scenario, g.server, seen); err != nil {
		return nil, err
	}
	one := &growthSample{Resident: after.resident}
	if one.Open, err = open(); err != nil {
		return nil, err
	}
	peak, err := process.PeakResident(g.server.PID())
	if err != nil {
		return nil, err
	}
	one.sample = *newSample(seen, after.server.Sub(before.server), peak)
	one.Foreign = digits(after.foreign(before.meters, seen.cpu))
	one.Collector, err = g.collected(before, after)
	return one, err
}

// descriptors counts the server's open descriptors, for which the server does nothing.
func (g *grown) descriptors() (int, error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.server.PID()))
	return len(all), err
}

// awaitClosed waits until the server has closed the connections of an earlier load.
func (g *grown) awaitClosed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, process.Patience)
	defer cancel()
	const others = 8 // of the admin listener, and of what fills the server
	for {
		if n, err := g.descriptors(); err != nil || n <= g.idle+others {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connections of the warm-up stay open: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// countOpen counts the server's connections in the middle of a turn that begins now. A kernel that drops a part of ten thousand
// connects at once lets them try again after seconds, so there may be fewer than were asked for.
func (g *grown) countOpen() (result func() (int, error)) {
	type count struct {
		n   int
		err error
	}
	counted := make(chan count, 1)
	time.AfterFunc(g.duration/2, func() {
		n, err := g.descriptors()
		counted <- count{n - g.idle, err}
	})
	return func() (int, error) {
		c := <-counted
		return c.n, c.err
	}
}
