package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// storm is how many log in at once, and how it is measured.
type storm struct {
	logins, rounds int
	window, every  time.Duration
}

// tally is what the logins of a storm were answered.
type tally struct {
	mu       sync.Mutex
	statuses map[int]int // guarded by mu
	slowest  float64     // guarded by mu: ms, of the answers that say to come back
	serial   atomic.Int64
}

// arrival is the time in which the clients of a storm come.
const arrival = time.Second

// runStorm measures GET /auth/me in quiet windows and in windows in which so many clients log in at once, and again when the
// server's answer lets them: all of them wrong, because those are an attacker's.
func runStorm(ctx context.Context, program string, s storm) error {
	t, err := startTarget(ctx, program, nil)
	if err != nil {
		return err
	}
	err = s.measure(ctx, t)
	if stopped := t.stop(); err == nil {
		err = stopped
	}
	return err
}

func (s storm) measure(ctx context.Context, t *target) error {
	cookie, err := t.cookieOf(ctx)
	if err != nil {
		return err
	}
	if _, err := probe(ctx, t.address, cookie, s); err != nil { // warm
		return err
	}
	before, err := t.residentKiB()
	if err != nil {
		return err
	}
	all := &tally{statuses: make(map[int]int)}
	var quiet, loaded, ratios []float64
	for range s.rounds {
		q, err := probe(ctx, t.address, cookie, s)
		if err != nil {
			return err
		}
		l, err := s.loaded(ctx, t.address, cookie, all)
		if err != nil {
			return err
		}
		fmt.Printf("me quiet: p50 %.2f p99 %.2f ms (%d); during: p50 %.2f p99 %.2f max %.2f ms (%d)\n",
			percentile(q, 50), percentile(q, 99), len(q), percentile(l, 50), percentile(l, 99), percentile(l, 100), len(l))
		quiet, loaded = append(quiet, q...), append(loaded, l...)
		ratios = append(ratios, percentile(l, 99)/percentile(q, 99))
	}
	after, err := t.residentKiB()
	if err != nil {
		return err
	}
	fmt.Printf("%d logins at once, answers %v, slowest refusal to check %.0f ms\n", s.logins, all.statuses, all.slowest)
	fmt.Printf("me p99: quiet %.2f ms, during %.2f ms; by round %.2f times (median)\n", percentile(quiet, 99), percentile(loaded, 99), percentile(ratios, 50))
	fmt.Printf("resident at most: %.1f MiB before, %.1f MiB after\n", float64(before)/1024, float64(after)/1024)
	return nil
}

// loaded probes while the storm goes on.
func (s storm) loaded(ctx context.Context, address, cookie string, all *tally) ([]float64, error) {
	conns := make([]*conn, s.logins)
	for i := range conns {
		c, err := dial(ctx, address)
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
	took, err := probe(ctx, address, cookie, s)
	clients.Wait()
	return took, err
}

// client logs in with a name and an address of its own, again and again; when told to come back later it waits a second.
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
