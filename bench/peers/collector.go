package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// collected is what a server's garbage collector did within a time.
type collected struct {
	Cycles  int     `json:"cycles"`
	Pauses  float64 `json:"pauses_ms"` // in which nothing else ran, all together
	CPU     float64 `json:"cpu_ms"`    // of all threads; sweeping, which is a part of allocating, is not in it
	Longest float64 `json:"longest_cycle_ms"`
	Stopped float64 `json:"longest_pause_ms"`
}

// collectorTotals are figures since the server's start, from its metrics, and how much it has logged until then.
type collectorTotals struct {
	cycles, pauses float64 // pauses in seconds
	sessions       float64
	logged         int
}

// cycle is one collection, in milliseconds, as GODEBUG=gctrace=1 logs it.
type cycle struct {
	whole, longestPause, cpu float64
}

// between is what the collector did between two readings; text is the server's log. The metrics have the number of cycles and the
// pauses, but neither the collector's processor time nor its longest cycle: only the log has these.
func (before collectorTotals) between(after collectorTotals, text []byte) (collected, error) {
	if before.logged > after.logged || after.logged > len(text) {
		return collected{}, fmt.Errorf("a log of %d bytes has no part from %d to %d", len(text), before.logged, after.logged)
	}
	cycles, err := parseCycles(text[before.logged:after.logged])
	if err != nil {
		return collected{}, err
	}
	c := collected{Cycles: int(after.cycles - before.cycles), Pauses: digits((after.pauses - before.pauses) * 1000)}
	// A cycle may end between the two parts of a reading, at either end.
	if missing := c.Cycles - len(cycles); missing < -2 || missing > 2 {
		return collected{}, fmt.Errorf("the metrics count %d collections and the log has %d", c.Cycles, len(cycles))
	}
	for _, one := range cycles {
		c.CPU += one.cpu
		c.Longest, c.Stopped = max(c.Longest, digits(one.whole)), max(c.Stopped, one.longestPause)
	}
	c.CPU = digits(c.CPU)
	return c, nil
}

var (
	// cycleLine begins a line about a collection, cycleForm has what it says: three phases by the clock, and the processor time of
	// their parts. The first and the last phase are pauses.
	cycleLine = regexp.MustCompile(`^gc \d+ @`)
	cycleForm = regexp.MustCompile(`^gc \d+ @[\d.]+s \d+%: ([\d.]+)\+([\d.]+)\+([\d.]+) ms clock, ` +
		`([\d.]+)\+([\d.]+)/([\d.]+)/([\d.]+)\+([\d.]+) ms cpu, `)
)

// parseCycles reads the collections in a server's log, which has other lines as well. A last line without its end is left for later.
func parseCycles(text []byte) (cycles []cycle, err error) {
	for line := range bytes.Lines(text) {
		if !cycleLine.Match(line) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		fields := cycleForm.FindSubmatch(line)
		if fields == nil {
			return nil, fmt.Errorf("this version of Go writes its collections in another way: %s", line)
		}
		var ms [8]float64
		for i := range ms {
			if ms[i], err = strconv.ParseFloat(string(fields[i+1]), 64); err != nil {
				return nil, fmt.Errorf("%w: %s", err, line)
			}
		}
		cycles = append(cycles, cycle{
			whole: ms[0] + ms[1] + ms[2], longestPause: max(ms[0], ms[2]),
			cpu: ms[3] + ms[4] + ms[5] + ms[6] + ms[7],
		})
	}
	return cycles, nil
}

// The metrics of coatcheck's admin listener that are read.
const (
	gcCount      = "go_gc_duration_seconds_count"
	gcSum        = "go_gc_duration_seconds_sum"
	sessionCount = "coatcheck_sessions"
)

// parseMetrics returns the values of metrics without labels in Prometheus' text format. One that is missing is an error: in a
// table it would be a 0 that nobody measured.
func parseMetrics(text string, names ...string) (map[string]float64, error) {
	found := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		for _, wanted := range names {
			if name != wanted {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("metric %s: %w", name, err)
			}
			found[name] = v
		}
	}
	for _, name := range names {
		if _, ok := found[name]; !ok {
			return nil, fmt.Errorf("the server's /metrics has no %s", name)
		}
	}
	return found, nil
}

// readCollector reads a server's metrics at the admin address, and how long its log is.
func readCollector(admin, log string) (t collectorTotals, err error) {
	c, err := dial(admin)
	if err != nil {
		return t, err
	}
	defer c.close()
	a, err := c.do("GET", "/metrics", "", "")
	if err != nil {
		return t, err
	}
	found, err := parseMetrics(string(a.body), gcCount, gcSum, sessionCount)
	if err != nil {
		return t, fmt.Errorf("status %d: %w", a.status, err)
	}
	info, err := os.Stat(log)
	if err != nil {
		return t, err
	}
	return collectorTotals{found[gcCount], found[gcSum], found[sessionCount], int(info.Size())}, nil
}
