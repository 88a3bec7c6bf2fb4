package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// workers is how many requests are on their way at once, at most.
const workers = 32

// result is what a run writes to its file.
type result struct {
	Store    string         `json:"store"`
	Date     time.Time      `json:"date"`
	Length   string         `json:"length"`
	Rate     float64        `json:"rate"`
	Visitors int            `json:"visitors"`
	Requests int            `json:"requests"`
	Refused  int            `json:"refused_in_the_outage"`
	Outage   [2]float64     `json:"outage_seconds"` // both 0: there was none
	Deeds    map[string]int `json:"deeds"`
	Wrong    int            `json:"wrong"`
	Faults   []string       `json:"first_faults,omitempty"`
	Left     float64        `json:"sessions_left"`
	LeftOver string         `json:"sessions_left_after"`
	Samples  []sample       `json:"samples"`
}

// soak is a run: a server, its store, the visitors' client, and the sampler.
type soak struct {
	settings
	server  *process.Process
	redis   *redis // nil: the memory store
	client  *client
	sampler *sampler
	tally   *tally
	result  result
}

// run starts the servers, sends the traffic, writes the result and its plot, and returns what was wrong.
func run(ctx context.Context, s settings) (err error) {
	k := &soak{settings: s, tally: newTally()}
	k.result = result{Store: s.store, Date: time.Now().UTC(), Length: s.length.String(), Rate: s.rate, Visitors: s.visitors}
	defer func() { err = errors.Join(err, k.stop()) }()
	if err := k.start(ctx); err != nil {
		return err
	}
	if err := k.traffic(ctx); err != nil {
		return err
	}
	if err := k.emptied(ctx); err != nil {
		return err
	}
	k.tally.mu.Lock()
	k.result.Requests, k.result.Refused, k.result.Deeds = k.tally.requests, k.tally.refused, maps.Clone(k.tally.kinds)
	k.result.Wrong, k.result.Faults = k.tally.wrong, slices.Clone(k.tally.firstFew)
	k.tally.mu.Unlock()
	if err := k.result.save(filepath.Join(s.out, s.store)); err != nil {
		return err
	}
	fmt.Print(k.result.markdown())
	return k.result.verdict()
}

func (k *soak) start(ctx context.Context) (err error) {
	store := "memory"
	if k.store == "redis" {
		if k.redis, err = startRedis(ctx, k.settings); err != nil {
			return err
		}
		store = "redis://" + k.redis.address
	}
	var url, admin string
	if k.server, url, admin, err = serve(ctx, k.settings, store); err != nil {
		return err
	}
	k.client = newClient(url, admin, k.tally)
	k.sampler = &sampler{
		pid: k.server.PID(), admin: admin, tally: k.tally, last: time.Now(),
		http: &http.Client{Transport: new(http.Transport), Timeout: process.Patience},
	}
	k.sampler.sessions = k.sampler.inMemory
	if k.redis != nil {
		k.sampler.sessions = k.redis.keys
	}
	return nil
}

// stop stops the servers. An exit status other than 0 is an error like any other.
func (k *soak) stop() (err error) {
	if k.server != nil {
		err = k.server.Stop()
	}
	if k.redis != nil {
		err = errors.Join(err, k.redis.Stop(), os.RemoveAll(k.redis.dir))
	}
	return err
}

// traffic sends the visitors' requests and takes samples. It restarts Redis after two fifths of the time, so that the second half,
// which is judged, comes after that.
func (k *soak) traffic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.length)
	defer cancel()
	began := time.Now()
	var busy sync.WaitGroup
	for w := range workers {
		busy.Go(func() { k.work(ctx, began, w) })
	}
	defer busy.Wait()
	defer cancel()
	var outage <-chan time.Time
	if k.redis != nil {
		outage = time.After(k.length * 2 / 5)
	}
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("the run was interrupted")
			}
			return nil
		case <-outage:
			if err := k.restart(ctx, began); err != nil {
				return err
			}
		case <-tick.C:
			got, err := k.sampler.sample(ctx, time.Since(began))
			if ctx.Err() != nil {
				continue
			}
			if err != nil {
				return err
			}
			k.result.Samples = append(k.result.Samples, got)
		}
	}
}

// away is how long Redis stays stopped.
const away = 3 * time.Second

// restart stops Redis for a moment. Redis keeps its data, so no session may end by this.
func (k *soak) restart(ctx context.Context, began time.Time) error {
	k.tally.away(true)
	k.result.Outage[0] = time.Since(began).Seconds()
	if err := k.redis.Stop(); err != nil {
		return err
	}
	time.Sleep(away)
	if err := k.redis.start(context.WithoutCancel(ctx)); err != nil { // the run may end meanwhile
		return err
	}
	k.tally.away(false)
	k.result.Outage[1] = time.Since(began).Seconds()
	return nil
}

// work is a worker's share of the visitors and of the rate. A worker that falls behind does not make up for it in a burst.
func (k *soak) work(ctx context.Context, began time.Time, nth int) {
	visitors := make([]*visitor, k.visitors/workers)
	for i := range visitors {
		visitors[i] = &visitor{c: k.client}
	}
	every := time.Duration(float64(time.Second) * workers / k.rate)
	next := began.Add(every * time.Duration(nth) / workers)
	for ctx.Err() == nil {
		if wait := time.Until(next); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		} else if wait < -time.Second {
			next = time.Now()
		}
		next = next.Add(every)
		if v := visitors[mathrand.IntN(len(visitors))]; time.Now().After(v.asleep) { //nolint:gosec // a load, not a secret
			v.step(ctx)
		}
	}
}

// emptied waits until the store is empty: sessions, tombstones and the marks of revoked users all expire, the marks last, after a
// minute.
func (k *soak) emptied(ctx context.Context) error {
	k.client.http.CloseIdleConnections()
	began := time.Now()
	for deadline := began.Add(rules.ttl + time.Minute + 30*time.Second); ; {
		left, err := k.sampler.sessions(ctx)
		if err != nil {
			return err
		}
		k.result.Left, k.result.LeftOver = left, time.Since(began).Round(time.Second).String()
		if left == 0 || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (r *result) save(base string) error {
	if err := report.WriteJSON(base+".json", r); err != nil {
		return err
	}
	return r.plot(base + ".svg")
}
