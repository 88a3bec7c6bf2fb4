package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// The part of the page between these lines is made by `make capacity-report`.
const (
	begins = "<!-- capacity: made by `make capacity-report` -->"
	ends   = "<!-- capacity: end -->"
)

func (r *Result) writePage(path string) error {
	return report.Replace(path, begins, ends, "\n"+r.constants()+"\n"+r.comparison()+"\n"+r.Constants.worked()+"\n")
}

// constants is the table of what was measured.
func (r *Result) constants() string {
	c := &r.Constants
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("Measured on %s.\n", r.Machine)
	p("| operation | Redis commands | Redis CPU, µs | bytes to Redis | bytes from Redis | node CPU, µs |")
	p("| --- | ---: | ---: | ---: | ---: | ---: |")
	p("| request that the node's cache answers (h) | 0 | 0 | 0 | 0 | %.0f |", c.Hit)
	for _, row := range []struct {
		name string
		cost Cost
	}{
		{"login (l)", c.Login},
		{"miss (m), beside h", c.Miss},
		{"swap (s), beside h: renewal, refresh, first use of a new token, changed value", c.Swap},
		{"logout (o), beside h", c.Logout},
	} {
		p("| %s | %.1f | %.0f | %.0f | %.0f | %.0f |", row.name, row.cost.Commands, row.cost.RedisMicros, row.cost.In, row.cost.Out, row.cost.NodeMicros)
	}
	p("| invalidation (i), for each node that is told | 0 | %.1f | 0 | %.0f | |\n", c.InvalidationRedis, c.Invalidation)
	p("| memory | bytes |")
	p("| --- | ---: |")
	p("| a session's record, encoded | %.0f |", c.RecordBytes)
	p("| a session in the memory store | %.0f |", c.MemoryStoreBytes)
	p("| a session in Redis, with the index of a user who has one | %.0f |", c.RedisBytes)
	p("| more in Redis while one node has it in its cache | %.0f |", c.RedisTrackedBytes)
	p("| a session in a node's cache, as `--redis-cache-size` counts | %.0f |", c.CachedBytes)
	p("| a client's open connection in a node | %.0f |", c.ConnectionBytes)
	return b.String()
}

// comparison is the scaled run.
func (r *Result) comparison() string {
	l := r.Run.Load
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("%.0f sessions on %d nodes and a Cluster of %d primaries, %.0f requests a second spread over all nodes, %.1f refreshes, %.1f logouts"+
		" and logins; `--renew-every=%v --redis-cache-ttl=%v`:\n",
		l.Sessions, l.Nodes, l.Primaries, l.Sessions/l.Every, l.Refreshes, l.Logouts, l.RenewEvery, l.CacheTTL)
	p("| | predicted | observed | |")
	p("| --- | ---: | ---: | ---: |")
	for _, row := range r.Run.Rows {
		p("| %s | %.0f | %.0f | %+.0f %% |", row.What, row.Predicted, row.Observed, 100*(row.Predicted/row.Observed-1))
	}
	return b.String()
}

// worked is the model's prediction for some deployments with the default settings.
func (c *Constants) worked() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("| sessions | nodes, primaries | requests/s | renewals/s | misses/s | Redis commands/s | invalidations/s | MB/s from Redis | Redis cores | " +
		"node cores, all | Redis memory, GB | cache a node, MiB |")
	p("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, row := range []struct {
		sessions                  float64
		nodes, reached, primaries int
	}{{100_000, 2, 2, 1}, {1e6, 3, 3, 1}, {1e6, 3, 1, 1}, {3e6, 6, 6, 3}, {1e7, 12, 12, 6}, {1e7, 12, 1, 6}, {5e7, 48, 1, 24}} {
		l := Load{
			Sessions: row.sessions, Every: 30, Nodes: row.nodes, Reached: row.reached, Primaries: row.primaries,
			Logins: row.sessions / 86400, RenewEvery: 3 * time.Minute, CacheTTL: time.Minute,
		}
		q := c.Predict(l)
		sticky := ""
		if row.reached == 1 && row.nodes > 1 {
			sticky = ", sticky"
		}
		p("| %s | %d, %d%s | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %.2f | %.1f | %.1f | %.0f |",
			millions(row.sessions), row.nodes, row.primaries, sticky, q.Requests, q.Renewals, q.Misses, q.Commands, q.Invalidations, q.Out/1e6,
			q.RedisMicros/1e6, q.NodeMicros/1e6, c.redisMemory(l, q)/1e9, q.CachedOnNode*c.CachedBytes/(1<<20))
	}
	return b.String()
}

func millions(n float64) string { return fmt.Sprintf("%g million", n/1e6) }

func (c *Constants) redisMemory(l Load, p Prediction) float64 {
	return l.Sessions*c.RedisBytes + p.Tracked*c.RedisTrackedBytes
}

// The limits that a growing deployment meets first; see docs/capacity.md.
const (
	trackingTable = 1_000_000 // keys: Redis' default of tracking-table-max-keys, for each primary
	fullCore      = 0.6e6     // microseconds a second: no core should be planned to be busier
)

// advice is the command's output: the figures of a load, and each limit that the load exceeds.
func (c *Constants) advice(l Load) string {
	q := c.Predict(l)
	nodes, primaries := float64(l.Nodes), float64(l.Primaries)
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("%12.0f requests a second, %.1f %% of them ask Redis", q.Requests, 100*q.Misses/q.Requests)
	p("%12.0f renewals a second", q.Renewals)
	p("%12.0f Redis commands a second, %.0f on each primary", q.Commands, q.Commands/primaries)
	p("%12.0f invalidations a second, %.0f to each node", q.Invalidations, q.Invalidations/nodes)
	p("%12.2f MB a second to Redis, %.2f from it", q.In/1e6, q.Out/1e6)
	p("%12.2f cores of Redis, %.2f of each primary's one", q.RedisMicros/1e6, q.RedisMicros/1e6/primaries)
	p("%12.2f cores of coatcheck, %.2f on each node", q.NodeMicros/1e6, q.NodeMicros/1e6/nodes)
	p("%12.2f GB of Redis' memory, %.0f keys in each tracking table", c.redisMemory(l, q)/1e9, q.TrackedKeys/primaries)
	p("%12.0f MiB of cache on each node", q.CachedOnNode*c.CachedBytes/(1<<20))
	warn := func(over bool, format string, args ...any) {
		if over {
			p("! "+format, args...)
		}
	}
	warn(q.RedisMicros/primaries > fullCore, "a primary's core is too busy: at least %.0f primaries", q.RedisMicros/fullCore+1)
	warn(q.TrackedKeys/primaries > trackingTable, "Redis forgets cached keys early: tracking-table-max-keys %.0f", q.TrackedKeys/primaries*1.25)
	warn(q.CachedOnNode*c.CachedBytes > 64<<20, "the cache's default size is too small: --redis-cache-size=%.0fMiB", q.CachedOnNode*c.CachedBytes/(1<<20)+1)
	return b.String()
}
