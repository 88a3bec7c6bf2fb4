package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// The part of the Markdown file between these lines is generated.
const (
	begins = "<!-- store: made by `make store-report` -->"
	ends   = "<!-- store: end -->"
)

// writeReport puts a result into the Markdown file and draws the plot.
func writeReport(from, table, plot string) error {
	var r result
	if err := report.ReadJSON(from, &r); err != nil {
		return err
	}
	if err := report.Replace(table, begins, ends, r.markdown()); err != nil {
		return err
	}
	return os.WriteFile(plot, []byte(r.svg()), 0o644) //nolint:gosec // a picture of the docs
}

func (r result) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("\nMeasured on %s, with %d sessions.\n", r.Machine, r.N)
	p("| store | record, bytes | bytes beside it | full GC, ms | Load, ns, 1 goroutine | 2 goroutines | Create, ns | Swap, ns | End, ns |")
	p("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, m := range r.Memory {
		p("| %s | %d | %.0f | %.1f | %.0f | %.0f | %.0f | %.0f | %.0f |",
			m.Subject, m.Bytes, m.Over, m.GC, m.Load1, m.Load2, m.Create, m.Swap, m.End)
	}
	p("\n| Load while | p50, µs | p99, µs | p99.9, µs | loads | expired meanwhile |")
	p("| --- | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range r.Storm {
		p("| %s | %.1f | %.1f | %.1f | %d | %d |", s.What, us(s.P50), us(s.P99), us(s.P999), s.Loads, s.Expired)
	}
	p("\n%d sessions, %.0f MiB on disk, were restored in %.2f s.\n", r.Restore.Sessions, r.Restore.MiB, r.Restore.Seconds)
	p("| POST /auth/login with | a second | of memory only |")
	p("| --- | ---: | ---: |")
	for _, l := range r.Login {
		p("| %s | %.0f | %.2f |", l.What, l.PerSecond, l.Ratio)
	}
	return b.String()
}

func us(ns int64) float64 { return float64(ns) / 1000 }

// svg draws a bar for each subject's full collection, on a scale of powers of ten.
func (r result) svg() string {
	const left, height, width = 130, 26, 420
	var rows []memory
	for _, m := range r.Memory {
		if m.Bytes == r.Memory[0].Bytes {
			rows = append(rows, m)
		}
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" width="640" height="%d" font-family="sans-serif" font-size="13">`, height*len(rows)+40)
	p(`<rect width="100%%" height="100%%" fill="white"/>`)
	p(`<text x="10" y="20">A full garbage collection over %d sessions, ms (each step to the right is twice as long)</text>`, r.N)
	for i, m := range rows {
		y, colour := 32+i*height, "#9aa5b1"
		if m.Subject == "coatcheck" {
			colour = "#2f7d4f"
		}
		bar := 0
		for ms := m.GC; ms > 0.25 && bar < width; ms /= 2 {
			bar += width / 16
		}
		p(`<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+17, m.Subject)
		p(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, left, y+3, max(bar, 2), height-6, colour)
		p(`<text x="%d" y="%d">%.1f</text>`, left+max(bar, 2)+6, y+17, m.GC)
	}
	p(`</svg>`)
	return b.String()
}
