package main

import (
	"fmt"
	"path/filepath"
)

// The scenarios, and where sessions are kept.
const (
	me      = "me"
	login   = "login"
	refresh = "refresh"

	memory = "memory"
	redis  = "redis"
)

// peer is one server of the comparison.
type peer struct {
	name  string // in flags, file names and JSON
	title string // in tables
	build builder
	// command is what starts it; env what it needs beside where to listen and which Redis to use.
	command func(s *settings, listen, redisURL string) []string
	env     []string
	// module is the library whose version is told.
	module string

	twin      bool     // answers what coatcheck answered, to everybody
	redis     bool     // can keep its sessions in Redis
	scenarios []string // empty: all
	only      string   // the one store that it is measured with; empty: all
	// sessions is how many its store holds, nil for as many as there are connections. With spread all of them make requests.
	sessions func(s *settings) int
	spread   bool
	// cached: each of them was asked for once before, so that the cache in front of Redis holds it.
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

// ceiling is the twin that every rate is compared with.
const ceiling = "ceiling"

func allPeers() []*peer {
	coatcheck := func(level string) func(s *settings, listen, redisURL string) []string {
		return func(s *settings, listen, redisURL string) []string {
			args := []string{
				filepath.Join(s.work, "coatcheck"), "serve", "--listen=" + listen, "--admin-listen=off", "--login=open",
				"--log-level=" + level,
			}
			if redisURL != "" {
				args = append(args, "--store="+redisURL)
			}
			return args
		}
	}
	resident := func(s *settings) int { return s.resident }
	cached := func(s *settings) int { return min(s.resident, 100_000) } // what a node's cache holds well
	binary := func(name string) func(s *settings, _, _ string) []string {
		return func(s *settings, _, _ string) []string { return []string{filepath.Join(s.work, name)} }
	}
	script := func(name string) func(s *settings, _, _ string) []string {
		return func(s *settings, _, _ string) []string {
			return []string{"node", filepath.Join(s.work, "node", name, "main.js")}
		}
	}
	production := []string{"NODE_ENV=production"}
	// coatcheck comes first: the twins answer what it answered.
	return []*peer{
		{name: "coatcheck", title: "coatcheck", build: buildCoatcheck, command: coatcheck("warn"), redis: true},
		{
			name: "coatcheck-resident", title: "coatcheck, %s resident", build: buildCoatcheck, command: coatcheck("warn"),
			scenarios: []string{me}, only: memory, sessions: resident,
		},
		{
			name: "coatcheck-spread", title: "coatcheck, spread over %s", build: buildCoatcheck, command: coatcheck("warn"),
			scenarios: []string{me}, only: memory, sessions: resident, spread: true,
		},
		{
			name: "coatcheck-warm", title: "coatcheck, %s in the cache", build: buildCoatcheck, command: coatcheck("warn"),
			scenarios: []string{me}, only: redis, redis: true, sessions: cached, cached: true,
		},
		{
			name: "coatcheck-cached", title: "coatcheck, spread over %s", build: buildCoatcheck, command: coatcheck("warn"),
			scenarios: []string{me}, only: redis, redis: true, sessions: cached, spread: true,
		},
		{
			name: "coatcheck-audit", title: "coatcheck, audit log on", build: buildCoatcheck, command: coatcheck("info"),
			scenarios: []string{login, refresh}, redis: true,
		},
		{
			name: ceiling, title: "ceiling: bare Fiber v2, same bytes", build: buildGo("ceiling"), command: binary("go-ceiling"),
			module: "github.com/gofiber/fiber/v2", twin: true,
		},
		{
			name: "ceiling-timeouts", title: "ceiling with coatcheck's timeouts", build: buildGo("ceiling"),
			command: binary("go-ceiling"), env: []string{"PEER_TIMEOUTS=1"}, module: "github.com/gofiber/fiber/v2", twin: true,
		},
		{
			name: "fasthttp", title: "bare fasthttp, same bytes", build: buildGo("fasthttp"), command: binary("go-fasthttp"),
			module: "github.com/valyala/fasthttp", twin: true,
		},
		{
			name: "fiberv2", title: "Fiber v2 session middleware", build: buildGo("fiberv2"), command: binary("go-fiberv2"),
			module: "github.com/gofiber/fiber/v2", redis: true,
		},
		{
			name: "fiberv3", title: "Fiber v3 session middleware", build: buildGo("fiberv3"), command: binary("go-fiberv3"),
			module: "github.com/gofiber/fiber/v3", redis: true,
		},
		{
			name: "scs", title: "scs on net/http", build: buildGo("scs"), command: binary("go-scs"),
			module: "github.com/alexedwards/scs/v2", redis: true,
		},
		{
			name: "gorilla", title: "gorilla/sessions on net/http", build: buildGo("gorilla"), command: binary("go-gorilla"),
			module: "github.com/gorilla/sessions", redis: true,
		},
		{
			name: "express", title: "express-session", build: buildNode, command: script("express"), env: production,
			module: "express-session", redis: true,
		},
		{
			name: "fastify", title: "@fastify/session", build: buildNode, command: script("fastify"), env: production,
			module: "@fastify/session", redis: true,
		},
		{
			name: "rustapi", title: "RustAPI, the recipe", build: buildRust("peer-rustapi"),
			command: binary("rust/release/peer-rustapi"), module: "rustapi-rs", redis: true,
		},
		{
			name: "actix", title: "actix-session", build: buildRust("peer-actix"), command: binary("rust/release/peer-actix"),
			module: "actix-session", redis: true,
		},
		{
			name: "axum", title: "tower-sessions on axum", build: buildRust("peer-axum"), command: binary("rust/release/peer-axum"),
			module: "tower-sessions", redis: true,
		},
	}
}

// chosen are the peers to measure; where a title leaves room for it, it says how many sessions there are.
func chosen(s *settings) []*peer {
	var peers []*peer
	for _, p := range allPeers() {
		if p.sessions != nil {
			p.title = fmt.Sprintf(p.title, thousands(p.sessions(s)))
		}
		if p.twin || p.name == "coatcheck" || s.peers.has(p.name) {
			peers = append(peers, p)
		}
	}
	return peers
}
