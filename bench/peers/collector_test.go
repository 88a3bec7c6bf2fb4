package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// twoCycles is a server's log: two collections among other lines, and the beginning of a third.
const twoCycles = `coatcheck listens on http://127.0.0.1:4711
gc 1 @2.033s 0%: 0.046+4.1+0.008 ms clock, 0.092+0.18/0.77/0.5+0.016 ms cpu, 3->4->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
{"time":"2026-11-27T09:46:06.260524904Z","level":"WARN","msg":"gc 7 @ is no line of the collector's"}
gc 2 @120.5s 1%: 0.02+100+3.5 ms clock, 0.04+0/90/10+7 ms cpu, 2048->2050->1024 MB, 2049 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)
gc 3 @121s 1%: 0.02+1`

func TestParseCycles(t *testing.T) {
	cycles, err := parseCycles([]byte(twoCycles))
	require.NoError(t, err)
	require.Len(t, cycles, 2)
	assert.InDelta(t, 4.154, cycles[0].whole, 1e-9)
	assert.InDelta(t, 0.046, cycles[0].longestPause, 1e-9)
	assert.InDelta(t, 1.558, cycles[0].cpu, 1e-9)
	assert.InDelta(t, 3.5, cycles[1].longestPause, 1e-9, "the pause at the end is the longer one")
	assert.InDelta(t, 107.04, cycles[1].cpu, 1e-9)
	_, err = parseCycles([]byte("gc 1 @2.033s 0%: another form\n"))
	assert.ErrorContains(t, err, "writes its collections in another way")
}

func TestCollectedBetween(t *testing.T) {
	text := []byte(twoCycles)
	second := strings.Index(twoCycles, "gc 2 ")
	whole, later := collectorTotals{logged: len(text), cycles: 2, pauses: 0.003574}, collectorTotals{logged: second, cycles: 1, pauses: 0.000054}
	c, err := collectorTotals{}.between(whole, text)
	require.NoError(t, err)
	assert.Equal(t, collected{Cycles: 2, Pauses: 3.574, CPU: 108.598, Longest: 103.52, Stopped: 3.5}, c)
	c, err = later.between(whole, text)
	require.NoError(t, err)
	assert.Equal(t, collected{Cycles: 1, Pauses: 3.52, CPU: 107.04, Longest: 103.52, Stopped: 3.5}, c, "the first was before")
	c, err = whole.between(whole, text)
	require.NoError(t, err)
	assert.Zero(t, c)

	_, err = collectorTotals{}.between(collectorTotals{logged: len(text), cycles: 9}, text)
	assert.EqualError(t, err, "the metrics count 9 collections and the log has 2", "a log without its lines is no collector without work")
	_, err = collectorTotals{}.between(collectorTotals{logged: len(text) + 1}, text)
	assert.ErrorContains(t, err, "has no part")
}

const metricsPage = `# HELP go_gc_duration_seconds A summary.
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="1"} 0.5
go_gc_duration_seconds_sum 0.00123
go_gc_duration_seconds_count 12
coatcheck_sessions 1e+07
coatcheck_sessions_created_total 3
`

func TestParseMetrics(t *testing.T) {
	found, err := parseMetrics(metricsPage, gcCount, gcSum, sessionCount)
	require.NoError(t, err)
	assert.Equal(t, map[string]float64{gcCount: 12, gcSum: 0.00123, sessionCount: 10_000_000}, found)
	_, err = parseMetrics(strings.ReplaceAll(metricsPage, gcSum, "x"), gcCount, gcSum)
	require.EqualError(t, err, "the server's /metrics has no go_gc_duration_seconds_sum")
	_, err = parseMetrics("go_gc_duration_seconds_count many\n", gcCount)
	require.ErrorContains(t, err, "metric go_gc_duration_seconds_count: ")
}

// turnAt is a turn in which other programs used so many cores.
func turnAt(foreign float64) *sample { return &sample{Foreign: foreign} }

func TestQuietest(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		turns   []*sample // nil: it fails
		best    float64
		used    int
		failure error
	}{
		"the first is quiet":          {[]*sample{turnAt(0.1), turnAt(0)}, 0.1, 1, nil},
		"the least disturbed":         {[]*sample{turnAt(0.9), turnAt(0.3), turnAt(0.5)}, 0.3, 3, nil},
		"one that failed is repeated": {[]*sample{nil, turnAt(0)}, 0, 2, nil},
		"a failure after one":         {[]*sample{turnAt(0.5), nil, nil}, 0.5, 3, nil},
		"all fail":                    {[]*sample{nil, nil, nil}, 0, 3, broken},
	} {
		t.Run(name, func(t *testing.T) {
			used := 0
			best, err := quietest(2, func() (*sample, error) {
				used++
				if one := tt.turns[used-1]; one != nil {
					return one, nil
				}
				return nil, broken
			})
			require.ErrorIs(t, err, tt.failure)
			assert.Equal(t, tt.used, used)
			if tt.failure == nil {
				assert.Equal(t, tt.best, best.Foreign)
			}
		})
	}
}
