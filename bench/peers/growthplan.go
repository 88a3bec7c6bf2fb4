package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// The kinds of growth.
const (
	bySessions    = "sessions"
	byConnections = "connections"
	byCores       = "cores"
	byHotSession  = "hot session"
	byHotUser     = "hot user"
)

// growthKinds has a table for each kind, whose first row the others are compared with; column is the heading of the first column.
var growthKinds = []struct{ name, title, column string }{
	{bySessions, "Resident sessions", "sessions"},
	{byConnections, "Connections", "connections"},
	{byCores, "Cores of the server", "cores"},
	{byHotSession, "One hot session", "requests"},
	{byHotUser, "One hot user: logins", "logins"},
}

// spreadOver is how many sessions make requests at most: what wrk's script bears on every machine.
const spreadOver = 20_000

// perUserLimit is how many sessions a user may have by default; beyond them a login ends the oldest.
const perUserLimit = 100

// growthRow is one server under one load.
type growthRow struct {
	Kind        string `json:"kind"`
	Title       string `json:"title"`
	Scenario    string `json:"scenario"`
	Cores       int    `json:"cores"`
	Connections int    `json:"connections"`
	Resident    int    `json:"resident"`   // sessions before the load begins
	Requesting  int    `json:"requesting"` // sessions that make requests, in turn
	Users       int    `json:"users"`      // whose the resident sessions are, and who log in, in turn

	Empty   float64         `json:"empty_mib"`  // resident memory of the server just started,
	Filled  float64         `json:"filled_mib"` // and with the sessions, before the load
	Filling *filling        `json:"filling"`    // of the last server
	Rounds  []*growthSample `json:"rounds"`
}

// mostUsers is how many users have IDs of the same length, so that all answers have.
const mostUsers = 9_999_999

// plan is the rows to measure. Those that do not vary the cores have as many of them as the machine bears, because contention for
// one session or one user shows only there.
func (g *growthSettings) plan(cores []int) []*growthRow {
	most := cores[len(cores)-1]
	var rows []*growthRow
	add := func(kind, title string, change func(*growthRow)) {
		w := &growthRow{Kind: kind, Title: title, Scenario: me, Cores: most, Connections: g.connections, Resident: g.sessions}
		change(w)
		w.Users = cmp.Or(w.Users, min(w.Resident, mostUsers))
		w.Requesting = cmp.Or(w.Requesting, min(w.Resident, spreadOver))
		rows = append(rows, w)
	}
	for _, n := range g.residents {
		add(bySessions, thousands(n), func(w *growthRow) { w.Resident = n })
	}
	for _, n := range g.crowds {
		add(byConnections, thousands(n), func(w *growthRow) { w.Connections = n })
	}
	for _, n := range cores {
		add(byCores, strconv.Itoa(n), func(w *growthRow) { w.Cores = n })
	}
	add(byHotSession, "in turn by "+thousands(min(g.sessions, spreadOver))+" sessions", func(*growthRow) {})
	add(byHotSession, "all by one session", func(w *growthRow) { w.Requesting = 1 })
	hotUser := func(title string, users int) {
		add(byHotUser, title, func(w *growthRow) { w.Scenario, w.Users, w.Resident = login, users, users*perUserLimit })
	}
	hotUser("of "+thousands(g.users)+" users in turn", g.users)
	hotUser("of one user", 1)
	return rows
}

// feasible splits numbers of cores, the fewest first, into those with which a server and its load can run on this machine, and the
// others. It is an error if there are none of the first kind.
func feasible(cores []int, share func(int) (process.CPUs, error)) (can, cannot []int, err error) {
	for _, n := range slices.Compact(slices.Sorted(slices.Values(cores))) {
		if _, failed := share(n); failed != nil {
			cannot, err = append(cannot, n), cmp.Or(err, failed)
			continue
		}
		can = append(can, n)
	}
	if len(can) > 0 {
		err = nil
	}
	return can, cannot, err
}

// affordable returns the rows whose connections the descriptors of a process allow, and why the others are left out.
func affordable(rows []*growthRow, descriptors int) (kept []*growthRow, without []skipped) {
	for _, w := range rows {
		if need := w.Connections + descriptorsBeside; need > descriptors {
			reason := fmt.Sprintf("it needs %s descriptors in a process, and this machine allows %s", thousands(need), thousands(descriptors))
			without = append(without, skipped{w.Kind + " " + w.Title, "", reason})
			continue
		}
		kept = append(kept, w)
	}
	return kept, without
}

// descriptorsBeside is how many descriptors the server and wrk need at most beside those of the connections.
const descriptorsBeside = 256

// name is what the row is called in messages and in the names of files.
func (w *growthRow) name() string { return strings.ReplaceAll(w.Kind+" "+w.Title, " ", "-") }

// numbersFlag is a flag of several whole numbers, separated by commas, each from low to high.
type numbersFlag struct {
	into      *[]int
	low, high int
}

func (n numbersFlag) String() string {
	if n.into == nil {
		return "" // the flag package makes a zero value
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n.into), " ", ","), "[]")
}

func (n numbersFlag) Set(s string) error {
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || v < n.low || v > n.high {
			return fmt.Errorf("%s: each must be a number from %d to %d", part, n.low, n.high)
		}
		all = append(all, v)
	}
	*n.into = all
	return nil
}
