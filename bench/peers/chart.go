package main

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	chartWidth  = 860
	labelWidth  = 330
	valueWidth  = 90
	barHeight   = 20
	rowHeight   = 30
	chartTop    = 30
	panelTop    = 54
	chartBottom = 10
)

// chart is a bar chart of requests per second as SVG, with a panel for each number of cores, the fastest server on top, coatcheck
// in colour, the twins that do no session work in grey. Each panel has a scale of its own. It follows the reader's light or dark
// scheme.
func (all results) chart(scenario, store string) string {
	var panels strings.Builder
	y := chartTop
	for _, r := range all {
		r.panel(&panels, &y, scenario, store)
	}
	if panels.Len() == 0 {
		return ""
	}
	height := y + chartBottom
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Requests per second, by server">
<style>
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .own { fill: #0969da } .peer { fill: #9aa4af } .twin { fill: #d1d9e0 }
  .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 }
    .own { fill: #4493f8 } .peer { fill: #6e7681 } .twin { fill: #3d444d }
  }
</style>
<text class="title" x="8" y="24">GET /auth/me with a live session: requests per second</text>
%s</svg>
`, chartWidth, height, chartWidth, height, panels.String())
}

// panel draws one number of cores from y on, and moves y below it.
func (r *result) panel(b *strings.Builder, y *int, scenario, store string) {
	rows := r.owner(scenario, store).sorted(scenario, store)
	if len(rows) == 0 {
		return
	}
	widest := float64(chartWidth - labelWidth - valueWidth)
	fmt.Fprintf(b, "<text class=\"strong\" x=\"8\" y=\"%d\">The server on %s</text>\n", *y+22, coresInWords(r.Settings.cores()))
	fmt.Fprintf(b, "<text class=\"note\" x=\"8\" y=\"%d\">more is better; light grey bars do no session work</text>\n", *y+40)
	*y += panelTop
	for _, w := range rows {
		class, weight := "peer", ""
		switch {
		case isOwn(w.Peer):
			class, weight = "own", ` class="strong"`
		case r.isTwin(w.Peer):
			class = "twin"
		}
		length := widest * w.Median.RPS / rows[0].Median.RPS
		fmt.Fprintf(b, "<text%s x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n",
			weight, labelWidth-10, *y+15, html.EscapeString(r.title(w.Peer)))
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"3\"/>\n", class, labelWidth, *y, length, barHeight)
		fmt.Fprintf(b, "<text%s x=\"%.1f\" y=\"%d\">%s</text>\n", weight, labelWidth+length+8, *y+15, thousands(int(w.Median.RPS)))
		*y += rowHeight
	}
	o := r.owner(scenario, store)
	fmt.Fprintf(b, "<text class=\"note\" x=\"8\" y=\"%d\">%s, %s, %d connections, rounds: %d</text>\n", *y+12,
		html.EscapeString(o.Machine.CPU), o.Date.Format("2006-01-02"), o.Settings.Connections, o.Settings.Rounds)
	*y += rowHeight
}

func (r *result) isTwin(name string) bool {
	for _, p := range r.Peers {
		if p.Name == name {
			return p.Twin
		}
	}
	return false
}

func isOwn(name string) bool { return strings.HasPrefix(name, own) }
