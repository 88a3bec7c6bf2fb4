package main

import (
	"fmt"
	"strings"
)

// budget limits how a row of coatcheck's may compare with another row in paired turns; a limit of 0 is not checked.
type budget struct {
	peer, other, scenario, store string

	rate float64 // at least this many times the other's requests per second
	cpu  float64 // at most this many times the other's processor time per request
}

// budgets are those of docs/performance.md that one run of the command can judge.
func budgets() []budget {
	all := []budget{
		{own, ceiling, me, memory, 0.95, 1 / 0.95},
		{"coatcheck-resident", ceiling, me, memory, 0.95, 1 / 0.95},
		{"coatcheck-spread", ceiling, me, memory, 0, 0},
		{own, "actix", me, memory, 0, 1},
		{"coatcheck-cached", ceiling, me, redis, 0.90, 0},
		{"coatcheck-warm", ceiling, me, redis, 0.90, 0},
		{"coatcheck-nethttp", "nethttp", me, memory, 0, 0},
		{"nethttp-map", "nethttp", me, memory, 0, 0},
		{"coatcheck-nethttp", "nethttp-map", me, memory, 0.90, 0}, // decision 49
		{"coatcheck-nethttp", "scs", me, memory, 2, 0},

		{"coatcheck-full", ceiling, login, memory, 0, 1 / 0.65},
		{"coatcheck-full", "fiberv2", login, memory, 0, 0.9},
		{"coatcheck-full", "fiberv3", login, memory, 0, 0.9},
		{own, "fiberv2", login, redis, 0, 0.9},
	}
	for _, other := range []string{"actix", "axum", "rustapi"} {
		all = append(all, budget{"coatcheck-full", other, login, memory, 0, 1})
	}
	for _, other := range []string{"fiberv3", "scs", "axum"} {
		all = append(all, budget{own, other, login, redis, 0, 1})
	}
	for _, store := range []string{memory, redis} {
		for _, other := range []string{"fiberv2", "fiberv3", "scs", "gorilla", "express", "fastify", "actix", "axum", "rustapi"} {
			all = append(all, budget{own, other, refresh, store, 0, 1})
		}
	}
	return all
}

// budgets compares what was found with what is allowed. A row that was not measured has no line.
func (r *result) budgets() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-58s %14s %14s\n", "budget: this / that", "rate, least", "CPU, most")
	for _, x := range budgets() {
		rate, ok := r.paired(x.peer, x.other, x.scenario, x.store, func(s *sample) float64 { return s.RPS })
		cpu, ok2 := r.paired(x.peer, x.other, x.scenario, x.store, func(s *sample) float64 { return s.CPU })
		if !ok || !ok2 {
			continue
		}
		verdict := ""
		switch {
		case x.rate > rate || x.cpu > 0 && cpu > x.cpu:
			verdict = "MISSED"
		case x.rate > 0 || x.cpu > 0:
			verdict = "met"
		}
		fmt.Fprintf(&b, "%-58s %14s %14s  %s\n", fmt.Sprintf("%s / %s, %s, %s", x.peer, x.other, x.scenario, x.store),
			wanted(rate, x.rate), wanted(cpu, x.cpu), verdict)
	}
	return b.String()
}

// wanted is a figure and, where there is one, its limit.
func wanted(figure, limit float64) string {
	if limit == 0 {
		return fmt.Sprintf("%.3f     -", figure)
	}
	return fmt.Sprintf("%.3f  %.2f", figure, limit)
}
