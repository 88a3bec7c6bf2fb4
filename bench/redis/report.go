package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report prints a table: for each operation the median of what a round measured.
func report(w io.Writer, b *bench, rounds []round) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	// Flush returns the first error of these.
	_, _ = fmt.Fprintln(tw, "operation\tCPU, µs\ttimes a SET\tat most\tcommands (calls and µs for each operation)")
	for _, op := range b.list {
		cpu := median(rounds, func(r round) float64 { return r[op.name].cpu })
		times := median(rounds, func(r round) float64 { return r[op.name].cpu / r[set].cpu })
		budget := ""
		if op.budget > 0 {
			budget = fmt.Sprintf("%g", op.budget)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%.2f\t%.1f\t%s\t%s\n", op.name, cpu, times, budget, commands(rounds, op.name))
	}
	return tw.Flush()
}

// commands lists what a script calls behind it: Redis counts those commands too, and their time within the script's.
func commands(rounds []round, op string) string {
	var list []string
	names := slices.SortedFunc(maps.Keys(rounds[0][op].commands), func(a, b string) int {
		return -cmp.Compare(rounds[0][op].commands[a].usec, rounds[0][op].commands[b].usec)
	})
	for _, name := range names {
		calls := median(rounds, func(r round) float64 { return r[op].commands[name].calls })
		usec := median(rounds, func(r round) float64 { return r[op].commands[name].usec })
		if calls >= 0.005 {
			list = append(list, fmt.Sprintf("%s %.3g (%.2f)", name, calls, usec))
		}
	}
	return strings.Join(list, ", ")
}

func median(rounds []round, of func(round) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
