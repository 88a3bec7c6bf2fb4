package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
)

// The scenarios, and where sessions are kept.
const (
	me      = "me"
	login   = "login"
	refresh = "refresh"

	memory = "memory"
	redis  = "redis"
)

// peer is one server of the comparison. The driver tells every server by environment variables where to listen (PEER_LISTEN,
// host and port) and which Redis holds its sessions (PEER_REDIS, a URL, empty for the memory of the process).
type peer struct {
	name      string // in flags, file names and JSON
	title     string // in tables
	directory string // of its source in servers/; empty for coatcheck itself
	build     builder
	command   func(s *settings) []string
	env       []string // more variables than the driver's
	module    string   // the library whose version is shown; empty: coatcheck

	twin      bool     // it answers what coatcheck answered, whatever the request is
	redis     bool     // it can keep its sessions in Redis
	scenarios []string // empty: all
	only      string   // the one store that it is measured with; empty: all
	// sessions is how many its store holds, nil for as many as make requests. With spread all of them make requests.
	sessions func(s *settings) int
	spread   bool
	// perUser is how many sessions each of loginUsers users has before logins are measured; 0: none.
	perUser int
	// cached: each session was asked for once before, so that the cache in front of Redis holds it.
	cached bool
}

func (p *peer) runs(scenario, store string) bool {
	return p.keeps(store) && list(p.scenarios).has(scenario)
}

// keeps reports whether the peer is measured with its sessions in the store.
func (p *peer) keeps(store string) bool {
	if p.only != "" {
		return p.only == store
	}
	return store == memory || p.redis || p.twin
}

const (
	own = "coatcheck"
	// ceiling is the twin that every rate is compared with.
	ceiling = "ceiling"

	fiberV2        = "github.com/gofiber/fiber/v2"
	fasthttpModule = "github.com/valyala/fasthttp"
	standard       = "net/http" // whose version is Go's
)

// coatcheck is the program itself. Its log level is warn, because the peers log nothing either.
func coatcheck(p peer, level string) *peer {
	p.build, p.redis = buildCoatcheck, p.only != memory
	p.command = func(s *settings) []string {
		return []string{filepath.Join(s.work, "coatcheck"), "serve", "--admin-listen=off", "--login=open", "--log-level=" + level}
	}
	return &p
}

func inGo(p peer) *peer {
	p.directory = cmp.Or(p.directory, p.name)
	p.build = buildGo(p.directory)
	p.command = func(s *settings) []string { return []string{filepath.Join(s.work, "go-"+p.directory)} }
	return &p
}

func inNode(p peer) *peer {
	p.directory, p.build, p.env, p.redis = p.name, buildNode, []string{"NODE_ENV=production"}, true
	p.command = func(s *settings) []string {
		return []string{"node", filepath.Join(s.work, "node", p.directory, "main.js")}
	}
	return &p
}

func inRust(p peer) *peer {
	p.directory, p.build, p.redis = p.name, buildRust("peer-"+p.name), true
	p.command = func(s *settings) []string { return []string{filepath.Join(s.work, "rust", "release", "peer-"+p.name)} }
	return &p
}

// allPeers are all servers. A new server needs a line here and its source in servers/NAME.
func allPeers() []*peer {
	resident := func(s *settings) int { return s.resident }
	cached := func(s *settings) int { return min(s.resident, 100_000) } // what the cache of one node holds well
	// coatcheck comes first: the twins answer what it answered.
	return []*peer{
		coatcheck(peer{name: own, title: "coatcheck"}, "warn"),
		coatcheck(peer{name: "coatcheck-resident", title: "coatcheck, %s resident", scenarios: []string{me}, only: memory, sessions: resident}, "warn"),
		coatcheck(peer{name: "coatcheck-spread", title: "coatcheck, spread over %s", scenarios: []string{me}, only: memory, sessions: resident, spread: true}, "warn"),
		coatcheck(peer{name: "coatcheck-warm", title: "coatcheck, %s in the cache", scenarios: []string{me}, only: redis, sessions: cached, cached: true}, "warn"),
		coatcheck(peer{name: "coatcheck-cached", title: "coatcheck, spread over %s", scenarios: []string{me}, only: redis, sessions: cached, spread: true}, "warn"),
		coatcheck(peer{name: "coatcheck-full", title: "coatcheck, users with 100 sessions each", scenarios: []string{login}, only: memory, perUser: 100}, "warn"),
		coatcheck(peer{name: "coatcheck-audit", title: "coatcheck, audit log on", scenarios: []string{login, refresh}}, "info"),
		inGo(peer{name: ceiling, title: "ceiling: bare Fiber v2, same bytes", module: fiberV2, twin: true}),
		inGo(peer{name: "ceiling-timeouts", title: "ceiling with coatcheck's timeouts", directory: ceiling, env: []string{"PEER_TIMEOUTS=1"}, module: fiberV2, twin: true}),
		inGo(peer{name: "fiberv2-map", title: "Fiber v2 and a plain map", module: fiberV2}),
		inGo(peer{name: "fiberv2-map-timeouts", title: "Fiber v2 and a plain map, with coatcheck's timeouts", directory: "fiberv2-map", env: []string{"PEER_TIMEOUTS=1"}, module: fiberV2}),
		inGo(peer{name: "fiberv2-map-full", title: "Fiber v2 and a plain map, users with 100 sessions each", directory: "fiberv2-map", module: fiberV2, scenarios: []string{login}, only: memory, perUser: 100}),
		inGo(peer{name: "fasthttp", title: "bare fasthttp, same bytes", module: fasthttpModule, twin: true}),
		inGo(peer{name: "nethttp", title: "bare net/http, same bytes", module: standard, twin: true}),
		inGo(peer{name: "nethttp-map", title: "net/http and a plain map", module: standard, scenarios: []string{me}}),
		inGo(peer{name: "coatcheck-nethttp", title: "coatcheck on net/http", redis: true}),
		inGo(peer{name: "fiberv2", title: "Fiber v2 session middleware", module: fiberV2, redis: true}),
		inGo(peer{name: "fiberv3", title: "Fiber v3 session middleware", module: "github.com/gofiber/fiber/v3", redis: true}),
		inGo(peer{name: "scs", title: "scs on net/http", module: "github.com/alexedwards/scs/v2", redis: true}),
		inGo(peer{name: "gorilla", title: "gorilla/sessions on net/http", module: "github.com/gorilla/sessions", redis: true}),
		inNode(peer{name: "express", title: "express-session", module: "express-session"}),
		inNode(peer{name: "fastify", title: "@fastify/session", module: "@fastify/session"}),
		inRust(peer{name: "rustapi", title: "RustAPI, the recipe", module: "rustapi-rs"}),
		inRust(peer{name: "actix", title: "actix-session", module: "actix-session"}),
		inRust(peer{name: "axum", title: "tower-sessions on axum", module: "tower-sessions"}),
	}
}

// chosen are the peers to measure: those that are named, coatcheck and the ceiling; without names all. Where a title leaves room
// for it, it says how many sessions there are.
func chosen(s *settings) ([]*peer, error) {
	var peers []*peer
	unknown := slices.Clone(s.peers)
	for _, p := range allPeers() {
		if p.sessions != nil {
			p.title = fmt.Sprintf(p.title, thousands(p.sessions(s)))
		}
		if p.name == own || p.name == ceiling || s.peers.has(p.name) {
			peers = append(peers, p)
		}
		unknown = slices.DeleteFunc(unknown, func(name string) bool { return name == p.name })
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("there is no peer called %s", unknown.String())
	}
	return peers, nil
}
