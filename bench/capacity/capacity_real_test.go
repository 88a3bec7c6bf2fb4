//go:build real

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// resultEnv names the file that a run at full size is written to.
const resultEnv = "COATCHECK_CAPACITY"

// size is the extent of a run.
type size struct {
	constants, sessions          int
	requests, refreshes, logouts float64 // a second
	renewEvery, cacheTTL         time.Duration
	idle, warmUp, run            time.Duration
	tolerance                    float64
}

var (
	full = size{
		constants: 4000, sessions: 3000, requests: 1500, refreshes: 20, logouts: 20,
		renewEvery: 6 * time.Second, cacheTTL: 4 * time.Second, idle: 3 * time.Second, warmUp: 20 * time.Second, run: time.Minute, tolerance: 0.2,
	}
	small = size{
		constants: 200, sessions: 200, requests: 200, refreshes: 10, logouts: 10,
		renewEvery: time.Second, cacheTTL: 700 * time.Millisecond, idle: 300 * time.Millisecond, warmUp: 2 * time.Second, run: 3 * time.Second, tolerance: 0.4,
	}
)

// TestModel measures the constants on one Redis, lets three nodes on a Cluster of three primaries serve a load of known rates,
// and compares what the model says of that load with what Redis and the nodes have counted.
func TestModel(t *testing.T) {
	sz, path := small, os.Getenv(resultEnv)
	if path != "" {
		sz = full
	}
	r := Result{Machine: machine(t), Constants: measure(t, sz.constants, sz.idle)}
	// In the few seconds of a small run, a machine that stands still for one of them moves the rates.
	for range 3 {
		t.Run("run", func(t *testing.T) { r.Run = scaledRun(t, &r.Constants, sz) })
		for _, row := range r.Run.Rows {
			t.Logf("%-40s predicted %10.1f observed %10.1f", row.What, row.Predicted, row.Observed)
		}
		if path != "" || r.Run.within(sz.tolerance) {
			break
		}
	}
	require.NotEmpty(t, r.Run.Rows)
	for _, row := range r.Run.Rows {
		if row.Exact {
			assert.InEpsilon(t, row.Observed, row.Predicted, sz.tolerance, row.What)
		}
	}
	if path != "" && !t.Failed() {
		require.NoError(t, report.WriteJSON(path, r))
	}
}

// within reports whether the model's exact rows are what was observed, but for this part of it.
func (r *Run) within(tolerance float64) bool {
	return !slices.ContainsFunc(r.Rows, func(row Row) bool {
		return row.Exact && math.Abs(row.Predicted-row.Observed) > tolerance*math.Abs(row.Observed)
	})
}

func machine(t *testing.T) string {
	redis := redistest.Start(t)
	return fmt.Sprintf("%s; %s; %s, Redis %s", time.Now().UTC().Format(time.DateOnly), report.ThisMachine(), runtime.Version(), info(redis)["redis_version"])
}

func scaledRun(t *testing.T, c *Constants, sz size) Run {
	cluster := redistest.StartCluster(t, false)
	opt := nodeOptions{URL: cluster.URL(), RenewEvery: sz.renewEvery, CacheTTL: sz.cacheTTL}
	nodes := []*node{startNode(t, opt), startNode(t, opt), startNode(t, opt)}
	traffic := newTraffic(t, nodes, sz.sessions, sz.requests, sz.refreshes, sz.logouts)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- traffic.run(ctx) }()

	pass(sz.warmUp)
	before := look(t, cluster, nodes, traffic)
	pass(sz.run)
	after := look(t, cluster, nodes, traffic)
	cancel()
	require.NoError(t, <-ended)

	seconds := after.at.Sub(before.at).Seconds()
	per := func(f func(observation) float64) float64 { return (f(after) - f(before)) / seconds }
	requests := per(func(o observation) float64 { return o.made + o.refreshed + o.loggedOut })
	logouts := per(func(o observation) float64 { return o.loggedOut })
	load := Load{
		Sessions: float64(sz.sessions), Every: float64(sz.sessions) / requests, Nodes: len(nodes), Reached: len(nodes), Primaries: len(cluster.Primaries),
		Logins: logouts, Logouts: logouts, Refreshes: per(func(o observation) float64 { return o.refreshed }),
		RenewEvery: sz.renewEvery, CacheTTL: sz.cacheTTL,
	}
	p := c.Predict(load)
	return Run{Load: load, Rows: []Row{
		{"requests that asked Redis, a second", p.Misses, per(func(o observation) float64 { return o.misses }), true},
		{"invalidations, a second", p.Invalidations, per(func(o observation) float64 { return o.invalidations }), true},
		{"Redis commands, a second", p.Commands, per(func(o observation) float64 { return o.redis.commands }), true},
		{"bytes to Redis, a second", p.In, per(func(o observation) float64 { return o.redis.in }), true},
		{"bytes from Redis, a second", p.Out, per(func(o observation) float64 { return o.redis.out }), true},
		{"entries in the tracking tables", p.Tracked, (before.redis.tracked + after.redis.tracked) / 2, true},
		{"keys in the tracking tables", p.TrackedKeys, (before.redis.trackedKeys + after.redis.trackedKeys) / 2, true},
		{"records in a node's cache", p.CachedOnNode, (before.cached + after.cached) / 2 / float64(len(nodes)), false},
		{"processor time of Redis, ms a second", p.RedisMicros / 1000, per(func(o observation) float64 { return o.redis.micros / 1000 }), false},
		{"processor time of the nodes, ms a second", p.NodeMicros / 1000, per(func(o observation) float64 { return o.nodes / 1000 }), false},
	}}
}

// pass lets the traffic go on for a while. It is no wait for a state: the run observes this span of time.
func pass(d time.Duration) { <-time.After(d) }

// observation is the counters of Redis, the nodes and the traffic at a moment.
type observation struct {
	at                         time.Time
	redis                      counts
	misses, invalidations      float64
	cached                     float64
	nodes                      float64 // microseconds
	made, refreshed, loggedOut float64
}

func look(t *testing.T, cluster *redistest.Cluster, nodes []*node, traffic *traffic) observation {
	t.Helper()
	o := observation{
		at: time.Now(), redis: count(t, cluster.Primaries...),
		made: float64(traffic.made.Load()), refreshed: float64(traffic.refreshed.Load()), loggedOut: float64(traffic.loggedOut.Load()),
	}
	for _, n := range nodes {
		st := n.stats()
		o.misses += float64(st.Misses)
		o.invalidations += float64(st.Invalidations)
		o.cached += float64(st.CachedRecords)
		o.nodes += n.cpu()
	}
	return o
}
