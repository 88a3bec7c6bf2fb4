package main

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of a row in the chart of growth, in pixels: a bar for the rate and a thin one for the 99th percentile below it.
const (
	rateHeight      = 16
	p99Height       = 6
	growthRowHeight = 34
	growthValues    = 210
)

// chart is a bar chart as SVG with a panel for each kind of growth, in the order of the tables. The rates of a panel have a scale of
// their own, and its percentiles another. It follows the reader's light or dark scheme.
func (r *growthResult) chart() string {
	var panels strings.Builder
	y := chartTop
	for _, kind := range growthKinds {
		if rows := r.of(kind.name); len(rows) > 0 {
			growthPanel(&panels, &y, kind.title, rows)
		}
	}
	fmt.Fprintf(&panels, "<text class=\"note\" x=\"8\" y=\"%d\">%s, %s, coatcheck %s, rounds: %d</text>\n", y+16,
		html.EscapeString(r.Machine.CPU), r.Date.Format("2006-01-02"), html.EscapeString(r.Version), r.Rounds)
	height := y + 24 + chartBottom
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Requests per second and 99th percentile, by what grows">
<style>
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .rate { fill: #0969da } .p99 { fill: #9aa4af }
  .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 }
    .rate { fill: #4493f8 } .p99 { fill: #6e7681 }
  }
</style>
<text class="title" x="8" y="24">What it costs to grow: requests per second (blue), 99th percentile (grey)</text>
%s</svg>
`, chartWidth, height, chartWidth, height, panels.String())
}

// growthPanel draws one kind from y on, and moves y below it.
func growthPanel(b *strings.Builder, y *int, title string, rows []*growthRow) {
	fastest, slowest := 0.0, 0.0
	for _, w := range rows {
		fastest, slowest = max(fastest, w.median(rateOf)), max(slowest, w.median(p99Of))
	}
	widest := float64(chartWidth - labelWidth - growthValues)
	length := func(value, most float64) float64 { return widest * value / max(most, 1) }
	fmt.Fprintf(b, "<text class=\"strong\" x=\"8\" y=\"%d\">%s</text>\n", *y+22, html.EscapeString(title))
	*y += panelTop - 20
	for _, w := range rows {
		rate, p99 := w.median(rateOf), w.median(p99Of)
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-10, *y+14, html.EscapeString(w.Title))
		fmt.Fprintf(b, "<rect class=\"rate\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"3\"/>\n", labelWidth, *y, length(rate, fastest), rateHeight)
		fmt.Fprintf(b, "<rect class=\"p99\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"3\"/>\n",
			labelWidth, *y+rateHeight+1, length(p99, slowest), p99Height)
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%s <tspan class=\"note\">p99 %s, %.0f MiB</tspan></text>\n", float64(labelWidth)+max(length(rate, fastest), length(p99, slowest))+8,
			*y+14, thousands(int(rate)), micros(p99), w.median(func(s *growthSample) float64 { return s.Resident }))
		*y += growthRowHeight
	}
	*y += 8
}
