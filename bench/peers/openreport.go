package main

import (
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// median is the median over the rounds of a figure.
func (w *openRow) median(figure func(*openSample) float64) float64 {
	var all []float64
	for _, s := range w.Rounds {
		all = append(all, figure(s))
	}
	return report.Median(all)
}

func (r *openResult) openRow(peer string, share float64) *openRow {
	for _, w := range r.Rates {
		if w.Peer == peer && w.Share == share {
			return w
		}
	}
	return nil
}

// pairedP99 is the median over the rounds of a row's 99th percentile over the ceiling's in the same round.
func (r *openResult) pairedP99(w *openRow) float64 {
	top := r.openRow(ceiling, w.Share)
	var ratios []float64
	for i, s := range w.Rounds {
		ratios = append(ratios, s.Latency.P99/top.Rounds[i].Latency.P99)
	}
	return report.Median(ratios)
}

// table is Markdown: a line for each server at each rate, with the generator's own error beside the latency.
func (r *openResult) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`GET /auth/me` at a fixed rate, the server on %s. The ceiling answers %s requests a second at most. Latency counts from when a "+
		"request was due; the generator was late by what the last columns say, which is part of the latency.\n\n",
		coresInWords(r.Settings.cores()), thousands(int(r.CeilingRPS)))
	b.WriteString("| rate | server | requests/s | p50 | p99 | p99.9 | p99, of the ceiling's | cores used | due without a free connection | generator late, p50 | p99 |\n")
	b.WriteString("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	foreign := 0.0
	for _, w := range r.Rates {
		name := r.title(w.Peer)
		if isOwn(w.Peer) {
			name = "**" + name + "**"
		}
		at := func(figure func(*openSample) float64) string { return micros(w.median(figure)) }
		fmt.Fprintf(&b, "| %.0f %% | %s | %s | %s | %s | %s | %.2f | %.2f | %.1f %% | %s | %s |\n", 100*w.Share, name,
			thousands(int(w.median(func(s *openSample) float64 { return float64(s.Requests) / s.Seconds }))),
			at(func(s *openSample) float64 { return s.Latency.P50 }),
			at(func(s *openSample) float64 { return s.Latency.P99 }),
			at(func(s *openSample) float64 { return s.Latency.P999 }),
			r.pairedP99(w),
			w.median(func(s *openSample) float64 { return s.Cores }),
			100*w.median(func(s *openSample) float64 { return s.Waited }),
			at(func(s *openSample) float64 { return s.Late.P50 }),
			at(func(s *openSample) float64 { return s.Late.P99 }))
		foreign = max(foreign, w.median(func(s *openSample) float64 { return s.Foreign }))
	}
	return b.String() + disturbed(foreign) + "\n" + r.conditions()
}
