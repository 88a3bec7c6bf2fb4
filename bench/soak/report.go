package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// The part of the page between these lines is generated.
const (
	begins = "<!-- soak: made by `make soak-report` -->"
	ends   = "<!-- soak: end -->"
)

// writeReport puts results into the page, and their plots beside it.
func writeReport(page string, files []string) error {
	var b strings.Builder
	for _, file := range files {
		var r result
		if err := report.ReadJSON(file, &r); err != nil {
			return err
		}
		plot := "reliability-soak-" + r.Store + ".svg"
		if err := r.plot(filepath.Join(filepath.Dir(page), plot)); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s\n![What was sampled, over time](%s)\n", r.markdown(), plot)
	}
	return report.Replace(page, begins, ends, b.String())
}

// column is a series of the samples.
func (r *result) column(i int) (at, values []float64) {
	for _, s := range r.Samples {
		at, values = append(at, s.At), append(values, s.Values[i])
	}
	return at, values
}

// judged is the series that the verdict uses: the column, but for sessions what the column would be at the run's mean load. The number
// of open sessions follows the number of logins in the last minutes, so it falls when the machine is slow for a while.
func (r *result) judged(nth int) (at, values []float64) {
	at, values = r.column(nth)
	if nth != countSeries {
		return at, values
	}
	_, rates := r.column(rateSeries)
	mean := average(rates)
	from := 0
	for i := range at {
		for at[i]-at[from] > rules.ttl.Seconds() {
			from++
		}
		if recent := average(rates[from : i+1]); recent > 0 {
			values[i] *= mean / recent
		}
	}
	return at, values
}

func average(values []float64) (mean float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	return mean
}

func (r *result) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("\n**%s**, %s, %s UTC: %d requests by %d visitors, %d wrong answers.",
		r.title(), r.Length, r.Date.Format("2006-01-02 15:04"), r.Requests, r.Visitors, r.Wrong)
	if r.Outage[1] > 0 {
		p("Redis was away for %.1f s, and %d requests got 503.", r.Outage[1]-r.Outage[0], r.Refused)
	}
	p("%s after the last of them %.0f %s were left.\n", r.LeftOver, r.Left, r.name(countSeries))
	p("| | median | growth in the second half | allowed | |")
	p("| --- | ---: | ---: | ---: | --- |")
	for i, s := range series {
		t, err := trendOf(r.judged(i))
		switch {
		case err != nil:
			p("| %s | | | | %v |", r.name(i), err)
		case s.allow == nil:
			p("| %s, %s | %.2f | | | not judged |", r.name(i), s.unit, t.Median)
		default:
			verdict := "steady"
			if t.grows(*s.allow) {
				verdict = "**grows**"
			}
			p("| %s | %.1f | %+.2f | %.1f | %s |", strings.TrimSuffix(r.name(i)+", "+s.unit, ", "), t.Median, t.Growth, s.allow.of(t), verdict)
		}
	}
	return b.String()
}

// name is that of a series; in Redis the keys are counted: sessions, tombstones, indexes and marks, see redis.keys.
func (r *result) name(nth int) string {
	if nth == countSeries && r.Store == "redis" {
		return "keys in Redis"
	}
	return series[nth].name
}

func (r *result) title() string {
	if r.Store == "redis" {
		return "Redis"
	}
	return "The memory store"
}

// verdict returns everything that is wrong with the run.
func (r *result) verdict() error {
	var errs []error
	if r.Wrong > 0 {
		errs = append(errs, fmt.Errorf("%d wrong answers, among them:\n%s", r.Wrong, strings.Join(r.Faults, "\n")))
	}
	if r.Left > 0 {
		errs = append(errs, fmt.Errorf("%.0f %s are left %s after the last request", r.Left, r.name(countSeries), r.LeftOver))
	}
	for _, d := range deeds {
		if r.Deeds[d.name] == 0 {
			errs = append(errs, fmt.Errorf("no visitor did this: %s", d.name))
		}
	}
	for i, s := range series {
		if s.allow == nil {
			continue
		}
		t, err := trendOf(r.judged(i))
		if err == nil && t.grows(*s.allow) {
			err = fmt.Errorf("grew by %.2f %s, from a median of %.2f; %.2f is allowed", t.Growth, s.unit, t.Median, s.allow.of(t))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
