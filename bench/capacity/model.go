package main

import (
	"math"
	"time"
)

// Cost is what one operation costs Redis and the node that asks for it, without the invalidations that it causes.
type Cost struct {
	Commands    float64 // as Redis counts them, those inside a script included
	RedisMicros float64 // processor time of the Redis process
	In, Out     float64 // bytes that Redis reads and writes
	NodeMicros  float64 // processor time of the coatcheck process
}

// Constants are what the model is made of; `make capacity` measures them.
type Constants struct {
	Hit    float64 // processor time of the node for a request that its memory answers, in microseconds
	Login  Cost    // of a client that carries no session
	Miss   Cost    // in addition to a hit: asking Redis, and the read that then fills the cache
	Swap   Cost    // in addition to a hit: a renewal, a refresh, the first use of a new token, a changed value
	Logout Cost    // in addition to a hit

	RedisStanding float64 // processor time of an idle Redis, in microseconds a second
	NodeStanding  float64 // the same of a node

	Invalidation      float64 // bytes that Redis writes to one node
	InvalidationRedis float64 // microseconds

	RecordBytes       float64 // a session as it is encoded
	MemoryStoreBytes  float64 // a session in the memory store, index and tables included
	CachedBytes       float64 // a session in a node's cache, as --redis-cache-size counts it
	ConnectionBytes   float64 // a client's keep-alive connection in the node
	RedisBytes        float64 // a session in Redis, the index of a user with one session included
	RedisTrackedBytes float64 // what Redis adds while one node has it in its cache
}

// Load is the traffic of a deployment and its size.
type Load struct {
	Sessions  float64 // that make requests
	Every     float64 // seconds between two requests of a session, on average, whatever they are; they come at random
	Nodes     int     // of coatcheck
	Reached   int     // nodes that one session's requests reach: all of them, or 1 behind a load balancer that is sticky
	Primaries int     // of the Redis Cluster

	Logins, Refreshes, Logouts float64 // a second

	RenewEvery, CacheTTL time.Duration
}

// Prediction is what the model says of a load, for all nodes and all of Redis together, a second.
type Prediction struct {
	Requests, Renewals, Misses, Invalidations float64

	Commands, RedisMicros, In, Out float64
	NodeMicros                     float64

	Tracked      float64 // entries of the tracking tables: one for each key and node that may have it
	TrackedKeys  float64
	CachedOnNode float64 // records in the cache of one node, if it has room for them
}

// Predict computes what the load costs.
//
// A session's record is written when it is renewed (the first request after RenewEvery), refreshed, or ended. Each write ends
// an interval in which the record stayed as it was: Redis then tells every node that has read it, and the next request on
// each of these nodes is a miss. Within an interval a node misses at its first request, and once more at the first request
// after readAgain of each CacheTTL, whether that request has to wait for it or not. A refresh is two writes: the rotation, and the first use
// of the new token, which is always a miss.
func (c *Constants) Predict(l Load) Prediction {
	rate, reached := 1/l.Every, float64(l.Reached)
	p := Prediction{
		Requests: l.Sessions*rate + l.Logins,
		Renewals: l.Sessions * renewals(l.RenewEvery.Seconds()+l.Every, l.Logouts/l.Sessions),
	}
	writes := p.Renewals + l.Refreshes + l.Logouts
	between := l.Sessions/writes - l.Every // from one write to the last request before the next
	on := cached{rate: rate / reached, ttl: readAgain * l.CacheTTL.Seconds()}

	// The request that ends an interval misses with the chance late. Where its node had not read the record before, the node
	// begins the next interval with it (warm). Where it had, and only its copy was too old, the invalidation overtakes the
	// read for the cache, which is dropped: Redis believes that the node has it (stale).
	var warm, stale, late float64
	for range 50 { // each value follows from the others; small steps, because large ones oscillate
		unread := (reached - warm) / reached * math.Exp(-on.rate*between)
		late = ((reached-warm)*on.absent(between) + warm*on.absent(between-on.ttl)) / reached
		warm = (warm + (unread*(writes-l.Refreshes)+l.Refreshes)/writes) / 2
		stale = (late - unread) * (writes - l.Refreshes) / writes
	}
	have := warm + stale
	told := have + (reached-have)*-math.Expm1(-on.rate*between)
	p.Misses = writes*((reached-warm)*on.reads(between)+warm*on.reads(between-on.ttl)+late) + l.Refreshes
	p.Invalidations = writes*told + l.Refreshes*late
	swaps := p.Renewals + 2*l.Refreshes
	add := func(n float64, cost Cost) {
		p.Commands += n * cost.Commands
		p.RedisMicros += n * cost.RedisMicros
		p.In += n * cost.In
		p.Out += n * cost.Out
		p.NodeMicros += n * cost.NodeMicros
	}
	add(p.Misses, c.Miss)
	add(swaps, c.Swap)
	add(l.Logins, c.Login)
	add(l.Logouts, c.Logout)
	p.Out += p.Invalidations * c.Invalidation
	p.RedisMicros += p.Invalidations * c.InvalidationRedis
	p.RedisMicros += float64(l.Primaries) * c.RedisStanding
	p.NodeMicros += l.Sessions*rate*c.Hit + float64(l.Nodes)*c.NodeStanding

	// How many entries the tables have at a moment: the number grows while requests come, and stays the same between the last of
	// them and the next write.
	held := func(n, has, perSecond float64) float64 {
		grown := has + (n-has)*mean(perSecond*between)
		full := has + (n-has)*-math.Expm1(-perSecond*between)
		return l.Sessions * (between*grown + l.Every*full) / (between + l.Every)
	}
	p.Tracked = held(reached, have, on.rate)
	p.TrackedKeys = held(1, min(1, have), rate)
	p.CachedOnNode = held(reached, warm, on.rate) / float64(l.Nodes)
	return p
}

// readAgain is the share of CacheTTL after which a record in use is read again, on average: see redisstore's cache.
const readAgain = 0.727

// mean is the average, over an interval, of the chance that a request has come since the interval began. The argument is how many
// requests are expected in the whole interval.
func mean(requests float64) float64 {
	if requests < 1e-9 {
		return 0
	}
	return 1 + math.Expm1(-requests)/requests
}

// renewals is how often a session is renewed a second. A renewal is due after so many seconds, unless another write comes first,
// which happens at the rate cut.
func renewals(after, cut float64) float64 {
	if cut*after < 1e-9 {
		return 1 / after
	}
	return cut / math.Expm1(cut*after)
}

// cached is a record in the cache of a node to which its requests come at random with a rate a second, and which keeps what
// it has read for ttl seconds.
type cached struct{ rate, ttl float64 }

// reads is how often the node reads the record within an interval that begins without it: the i-th read comes after i waits
// for a request and i-1 times ttl.
func (c cached) reads(interval float64) float64 {
	if interval <= 0 {
		return 0
	}
	if cycle := c.ttl + 1/c.rate; interval > 40*cycle { // then the renewal theorem gives it (Feller, vol. 2, XI.3)
		return (interval+c.ttl)/cycle + (1/(c.rate*c.rate*cycle*cycle)-1)/2
	}
	var n float64
	for i := 1; ; i++ {
		left := interval - float64(i-1)*c.ttl
		if left <= 0 {
			return n
		}
		p := erlang(i, c.rate*left)
		n += p
		if p < 1e-6 {
			return n
		}
	}
}

// absent is the chance that a request at the end of the interval is a miss: the rate of reads then, by the rate of requests.
func (c cached) absent(interval float64) float64 {
	switch {
	case interval < 0: // its copy is young enough
		return 0
	case interval*c.rate < 1e-9:
		return 1
	}
	const step = 1e-4
	return (c.reads(interval*(1+step)) - c.reads(interval)) / (interval * step * c.rate)
}

// erlang is the probability that at least k requests come while x are expected.
func erlang(k int, x float64) float64 {
	term, sum := math.Exp(-x), 0.0
	for i := range k {
		sum += term
		term *= x / float64(i+1)
	}
	return math.Max(0, 1-sum)
}
