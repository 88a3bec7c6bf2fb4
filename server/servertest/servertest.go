// Package servertest checks that package server keeps its HTTP contract on a store. Each rule talks over real TCP sockets
// to a server of its own; the tests know the server only by what it sends. The rules about the session middleware are in
// internal/middlewaretest; those about login, me, refresh and logout, in internal/httpcontract, run here too.
package servertest

import (
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
)

// groups are the topics of the server's own rules.
func groups() []group {
	all := []group{
		{"routes", routeRules},
		{"verify", verifyRules},
		{"claims", claimRules},
		{"login_page", loginPageRules},
		{"sign_in", signInRules},
		{"provider", providerRules},
		{"devices", deviceRules},
		{"watch", watchRules},
		{"login_body", loginBodyRules},
		{"logins", loginRules},
		{"neighbours", neighbourRules},
		{"bad_requests", badRequestRules},
		{"cross_site", crossSiteRules},
		{"limit", limitRules},
		{"store_failures", failureRules},
		{"faults", nthFailureRules},
		{"sockets", socketRules},
		{"logs", logRules},
		{"admin", adminRules},
		{"all sessions", listAllRules},
		{"metrics", metricsRules},
		{"shutdown", shutdownRules},
	}
	for _, shared := range httpcontract.Recipe {
		g := group{name: shared.Name}
		for _, r := range shared.Rules {
			g.rules = append(g.rules, rule{
				name: r.Name, unserved: true, transport: r.Transport, check: func(h *harness) { r.Run(h.Harness) },
			})
		}
		g.rules = append(g.rules, recipeRules[g.name]...)
		all = append(all, g)
	}
	return all
}

type group struct {
	name  string
	rules []rule
}

// rule is one sentence of the contract.
type rule struct {
	name     string
	config   func(*server.Config) // nil: the defaults
	unserved bool                 // the check starts what it needs
	// transport says that the rule is about requests and not about sessions, so that its result is the same on every store.
	transport bool
	alone     bool // the check measures the whole process, or how long things take
	check     func(h *harness)
}

func quote(s string) string { return strconv.Quote(s) }

// Run checks the server on the stores that newStore returns, in a subtest per rule. Each rule gets a store, which Run
// closes, and a server of its own, and runs in parallel to others. Each store must be empty: stores that share a database
// need different prefixes.
func Run(t *testing.T, newStore func(t *testing.T) coatcheck.Store) {
	api := newDocument()
	ran, total := new(atomic.Int32), int32(0)
	t.Cleanup(func() {
		if ran.Load() == total { // and not only some of them, with -run
			api.checkSeen(t)
		}
	})
	for _, g := range groups() {
		total += int32(len(g.rules))
		g.run(t, newStore, api, ran)
	}
}

// RunStore is Run without the rules that are about requests and not about sessions, for a further store.
func RunStore(t *testing.T, newStore func(t *testing.T) coatcheck.Store) {
	api := newDocument()
	for _, g := range groups() {
		g.rules = slices.DeleteFunc(slices.Clone(g.rules), func(r rule) bool { return r.transport })
		g.run(t, newStore, api, new(atomic.Int32))
	}
}

// run checks the rules of a group, in parallel except those that measure the process.
func (g group) run(t *testing.T, newStore func(t *testing.T) coatcheck.Store, api *document, ran *atomic.Int32) {
	t.Run(g.name, func(t *testing.T) {
		for _, r := range g.rules {
			t.Run(r.name, func(t *testing.T) {
				if !r.alone {
					t.Parallel()
				}
				ran.Add(1)
				store := newStore(t)
				t.Cleanup(func() { assert.NoError(t, store.Close()) })
				h := newHarness(t, store, api)
				if !r.unserved {
					h.serve(r.config)
				}
				r.check(h)
			})
		}
	})
}
