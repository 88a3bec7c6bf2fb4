// Package servertest checks that package server keeps its HTTP contract on a store. Everything goes through real TCP
// sockets to a server of its own for each rule; the tests know the server by what it sends.
//
// The checks move the server's clock forward and never wait for it. The clock starts at the real time and stands still
// between the moves, so a store whose server has a clock of its own, like Redis, meets only expiries that this clock has
// not reached yet; no rule waits for a tombstone to go.
package servertest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// Run checks the server on the stores that newStore returns, in a subtest per rule. Each rule gets a store, which Run
// closes, and a server of its own. Each store must be empty: of stores that share a database, give each a prefix.
func Run(t *testing.T, newStore func(t *testing.T) coatcheck.Store) {
	api, total := &document{seen: make(map[string]bool), known: make(map[string]bool)}, int32(0)
	for _, group := range []struct {
		name  string
		rules []rule
	}{
		{"routes", routeRules},
		{"verify", verifyRules},
		{"login_page", loginPageRules},
		{"devices", deviceRules},
		{"login_body", loginBodyRules},
		{"logins", loginRules},
		{"neighbours", neighbourRules},
		{"bad_requests", badRequestRules},
		{"cross_site", crossSiteRules},
		{"cookie_sent", cookieSentRules},
		{"cookie_read", cookieReadRules},
		{"several_cookies", severalCookiesRules},
		{"tokens", tokenRules},
		{"lifetimes", lifetimeRules},
		{"rotation", rotationRules},
		{"limit", limitRules},
		{"store_failures", failureRules},
		{"faults", nthFailureRules},
		{"middleware", middlewareRules},
		{"middleware_races", middlewareRaceRules},
		{"sockets", socketRules},
		{"logs", logRules},
		{"admin", adminRules},
		{"metrics", metricsRules},
		{"shutdown", shutdownRules},
	} {
		total += int32(len(group.rules))
		t.Run(group.name, func(t *testing.T) {
			for _, r := range group.rules {
				t.Run(r.name, func(t *testing.T) {
					api.rules.Add(1)
					real := newStore(t)
					t.Cleanup(func() { assert.NoError(t, real.Close()) })
					h := newHarness(t, real, api)
					if !r.unserved {
						h.serve(r.config)
					}
					r.check(h)
				})
			}
		})
	}
	if api.rules.Load() == total { // and not some of them, with -run
		api.checkSeen(t)
	}
}

// rule is one sentence of the contract.
type rule struct {
	name     string
	config   func(*server.Config) // nil: the defaults
	unserved bool                 // the check starts what it needs
	check    func(h *harness)
}

// The policy of the harness' servers, where a rule does not ask for another: the contract's defaults.
const (
	ttl         = 30 * time.Minute
	renewEvery  = 3 * time.Minute
	maxLifetime = 12 * time.Hour
	grace       = 10 * time.Second
)

// clock is the time that a test owns.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) now() time.Time       { return time.UnixMilli(c.ms.Load()) }
func (c *clock) step(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// catchUp makes it the real time again: what a rule leaves in a store with a clock of its own, a tombstone among others, would
// else be over at once when the rule has taken long.
func (c *clock) catchUp() { c.ms.Store(time.Now().UnixMilli()) }

// rfc3339 is how the contract writes the clock's time, moved by d.
func (c *clock) rfc3339(d time.Duration) string { return c.now().Add(d).UTC().Format(time.RFC3339Nano) }

func quote(s string) string { return strconv.Quote(s) }
