package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// storm says how many clients log in at once, and how that is measured.
type storm struct {
	logins, rounds int
	window, every  time.Duration
}

// tally counts the answers to the logins of a storm.
type tally struct {
	mu       sync.Mutex
	statuses map[int]int // guarded by mu
	slowest  float64     // guarded by mu: milliseconds, of the 503s
	serial   atomic.Int64
}

// arrival is the time over which the clients of a storm begin.
const arrival = time.Second

// runStorm measures GET /auth/me in three kinds of windows: quiet ones; ones in which many clients log in at once, and again as soon
// as the server's answer allows; and ones in which these clients do so at another server on the same machine, which shows the
// part of the slow-down that no server can prevent. All passwords are wrong, as an attacker's are.
func runStorm(ctx context.Context, program string, s storm) (err error) {
	var targets [2]*target
	for i := range targets {
		t, err := startTarget(ctx, program, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.stop()) }()
		targets[i] = t
	}
	return s.measure(ctx, targets[0], targets[1])
}

// kind is a kind of window.
type kind struct {
	name   string
	at     *target // where the logins go; nil: none
	took   []float64
	ratios []float64 // of the 99th percentile to the 99th percentile of the quiet window of the same round
}

func (s storm) measure(ctx context.Context, t, other *target) error {
	cookie, err := t.cookieOf(ctx)
	if err != nil {
		return err
	}
	if _, err := probe(ctx, t.address, cookie, s); err != nil { // warm
		return err
	}
	before, err := t.peakResident()
	if err != nil {
		return err
	}
	all, elsewhere := &tally{statuses: make(map[int]int)}, &tally{statuses: make(map[int]int)}
	kinds := []*kind{{name: "quiet"}, {name: "logins here", at: t}, {name: "logins at another server", at: other}}
	for range s.rounds {
		quiet := 0.0
		for _, k := range kinds {
			var took []float64
			switch k.at {
			case nil:
				took, err = probe(ctx, t.address, cookie, s)
				quiet = report.Quantile(took, 0.99)
			case t:
				took, err = s.loaded(ctx, t, t, cookie, all)
			default:
				took, err = s.loaded(ctx, t, k.at, cookie, elsewhere)
			}
			if err != nil {
				return err
			}
			fmt.Printf("me, %s: p50 %.2f p99 %.2f max %.2f ms (%d)\n",
				k.name, report.Quantile(took, 0.5), report.Quantile(took, 0.99), slices.Max(took), len(took))
			k.took, k.ratios = append(k.took, took...), append(k.ratios, report.Quantile(took, 0.99)/quiet)
		}
	}
	after, err := t.peakResident()
	if err != nil {
		return err
	}
	fmt.Printf("%d logins at once, answers %v, slowest refusal to check %.0f ms\n", s.logins, all.statuses, all.slowest)
	for _, k := range kinds {
		fmt.Printf("me p99, %s: %.2f ms; times the quiet one of its round: %.2f (median)\n",
			k.name, report.Quantile(k.took, 0.99), report.Median(k.ratios))
	}
	fmt.Printf("resident at most: %.1f MiB before, %.1f MiB after\n", float64(before)/(1<<20), float64(after)/(1<<20))
	return nil
}

// loaded probes a target while the clients log in at the same one or at another.
func (s storm) loaded(ctx context.Context, t, at *target, cookie string, all *tally) ([]float64, error) {
	conns := make([]*conn, s.logins)
	for i := range conns {
		c, err := dial(ctx, at.address)
		if err != nil {
			return nil, err
		}
		defer c.close()
		conns[i] = c
	}
	end := time.Now().Add(s.window + arrival)
	var clients sync.WaitGroup
	for _, c := range conns {
		clients.Go(func() { all.client(c, end) })
	}
	time.Sleep(arrival)
	took, err := probe(ctx, t.address, cookie, s)
	clients.Wait()
	return took, err
}

// client logs in again and again, each time with another name and address; after a 503 it waits about a second.
func (all *tally) client(c *conn, end time.Time) {
	time.Sleep(rand.N(arrival))
	for time.Now().Before(end) {
		k := int(all.serial.Add(1))
		attempt{fmt.Sprintf("storm-%06d", k), "canary-wrong", clientAddress(k)}.write(&c.req)
		began := time.Now()
		if c.exchange() != nil {
			all.count(0, 0)
			return
		}
		all.count(c.resp.StatusCode(), time.Since(began))
		if c.resp.StatusCode() == fasthttp.StatusServiceUnavailable {
			time.Sleep(min(time.Second/2+rand.N(time.Second), time.Until(end)))
		}
	}
}

func (all *tally) count(status int, took time.Duration) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.statuses[status]++
	if status == fasthttp.StatusServiceUnavailable {
		all.slowest = max(all.slowest, float64(took.Microseconds())/1000)
	}
}
