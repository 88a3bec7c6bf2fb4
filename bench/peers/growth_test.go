package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// shareOf shares the CPUs of a machine that has so many.
func shareOf(cpus int) func(int) (process.CPUs, error) {
	return func(n int) (process.CPUs, error) {
		if 2*n > cpus {
			return process.CPUs{}, errors.New("too few")
		}
		return process.CPUs{Server: make([]int, n), Load: make([]int, n)}, nil
	}
}

func TestCoresThatTheMachineHas(t *testing.T) {
	for name, tt := range map[string]struct {
		cpus              int
		asked, can, canot []int
	}{
		"two CPUs":                 {2, []int{1, 2, 4, 8}, []int{1}, []int{2, 4, 8}},
		"sixteen":                  {16, []int{1, 2, 4, 8}, []int{1, 2, 4, 8}, nil},
		"in any order, and double": {8, []int{8, 4, 1, 4}, []int{1, 4}, []int{8}},
	} {
		t.Run(name, func(t *testing.T) {
			can, cannot, err := feasible(tt.asked, shareOf(tt.cpus))
			require.NoError(t, err)
			assert.Equal(t, tt.can, can)
			assert.Equal(t, tt.canot, cannot)
		})
	}
	_, _, err := feasible([]int{1}, shareOf(1))
	assert.EqualError(t, err, "too few")
}

func growthOf(args ...string) (*growthSettings, error) {
	g := &growthSettings{residents: []int{1000, 300_000}, crowds: []int{64, 1000}, coreCounts: []int{1, 2}}
	return g, g.parse(args, new(growthPages))
}

func TestGrowthPlan(t *testing.T) {
	g, err := growthOf("-work", t.TempDir(), "-users", "500", "-resident", "1000,10000000", "-connections", "64,10000")
	require.NoError(t, err)
	rows := g.plan([]int{1, 4})
	got := map[string]*growthRow{}
	first := map[string]string{}
	for _, w := range rows {
		got[w.name()] = w
		if first[w.Kind] == "" {
			first[w.Kind] = w.Title
		}
	}
	require.Len(t, rows, 10)
	require.Len(t, got, 10, "the names are file names, so no two rows have the same")
	assert.Equal(t, map[string]string{
		bySessions: "1,000", byConnections: "64", byCores: "1", byHotSession: "in turn by 20,000 sessions", byHotUser: "of 500 users in turn",
	}, first, "what the others are compared with")

	few, many := got["sessions-1,000"], got["sessions-10,000,000"]
	assert.Equal(t, [4]int{1000, 1000, 1000, 256}, [4]int{few.Resident, few.Users, few.Requesting, few.Connections})
	assert.Equal(t, [4]int{10_000_000, 9_999_999, 20_000, 4}, [4]int{many.Resident, many.Users, many.Requesting, many.Cores})
	assert.Len(t, userID(many.Users), len(userID(1)), "answers have the same length")
	assert.Equal(t, 10_000, got["connections-10,000"].Connections)
	assert.Equal(t, 1, got["cores-1"].Cores)
	assert.Equal(t, 1, got["hot-session-all-by-one-session"].Requesting)
	for title, users := range map[string]int{"of-500-users-in-turn": 500, "of-one-user": 1} {
		w := got["hot-user-"+title]
		assert.Equal(t, [4]int{users, users * 100, 4, 256}, [4]int{w.Users, w.Resident, w.Cores, w.Connections}, "each user is at the limit")
		assert.Equal(t, login, w.Scenario)
	}
	kept, without := affordable(rows, 10_000)
	assert.Len(t, kept, 9)
	assert.Equal(t, []skipped{{"connections 10,000", "", "it needs 10,256 descriptors in a process, and this machine allows 10,000"}}, without)
}

func TestGrowthRefusesWhatWouldNotEnd(t *testing.T) {
	for _, args := range [][]string{
		{"-resident", "1000,99999999"},
		{"-connections", "10"},
		{"-cores", "0"},
		{"-resident", ""},
		{"-cores", "1;2"},
		{"-rounds", "101"},
		{"-seconds", "0"},
		{"-users", "1"},
		{"-warmup", "61"},
		{"-retries", "11"},
		{"more"},
	} {
		_, err := growthOf(append([]string{"-work", t.TempDir()}, args...)...)
		require.Error(t, err, args)
	}
}

func TestKeeperSpreads(t *testing.T) {
	for _, tt := range []struct {
		want, of int
		kept     string
	}{{3, 9, "3 6 9"}, {1, 4, "4"}, {4, 4, "1 2 3 4"}, {2, 5, "3 5"}} {
		k := keeper{want: tt.want, of: tt.of}
		for i := 1; i <= tt.of; i++ {
			k.offer(i, string(rune('0'+i)))
		}
		assert.Equal(t, tt.kept, strings.Join(k.cookies, " "))
	}
}

// turnOf is a turn at a rate, in which the collector used a hundredth of the processor time.
func turnOf(rate, p99 float64) *growthSample {
	s := &growthSample{sample: sample{RPS: rate, P50: 500, P99: p99, CPU: 10, Cores: 1, Requests: int64(rate)}, Resident: 100, Open: 256}
	s.Collector = collected{Cycles: 2, CPU: rate / 10_000, Stopped: 0.25}
	return s
}

func sampleGrowth() *growthResult {
	r := &growthResult{
		Machine: report.Machine{CPU: "A <CPU>", Cores: 2, Kernel: "6.1", Load: "0.10"}, Go: "1.26.8", Wrk: "4.1.0", Version: "v1", Rounds: 3,
		Seconds: 3, Connections: 256, Sessions: 20_000, WithoutCores: []int{2, 4, 8},
		Skipped: []skipped{{"connections 10,000", "", "it needs more"}},
	}
	made := &filling{2_097_152, 20, 20_971.52, collected{Cycles: 9, CPU: 209.7152, Longest: 12, Stopped: 0}}
	for _, kind := range growthKinds {
		base := &growthRow{Kind: kind.name, Title: "base", Cores: 1, Connections: 256, Empty: 20, Filled: 80, Filling: made}
		more := &growthRow{Kind: kind.name, Title: "more", Cores: 1, Connections: 1024, Empty: 20, Filled: 80, Filling: made}
		// After the first round everything is half as fast, which a ratio within a round does not show.
		for _, rate := range []float64{100_000, 50_000, 50_000} {
			base.Rounds, more.Rounds = append(base.Rounds, turnOf(rate, 800)), append(more.Rounds, turnOf(rate*0.8, 1600))
		}
		r.Rows = append(r.Rows, base, more)
	}
	return r
}

func TestGrowthTables(t *testing.T) {
	r := sampleGrowth()
	text := r.tables()
	assert.Contains(t, text, "### One hot user: logins\n\n| logins | requests/s |")
	assert.Contains(t, text, "\n| base | 50,000 | 1.00 | 500 µs | 800 µs | 1.00 | 10.0 µs | 1.00 | 100 MiB | 2 | 1.00 % | 250 µs |\n")
	assert.Contains(t, text, "\n| more | 40,000 | 0.80 | 500 µs | 1.6 ms | 2.00 | 10.0 µs | 1.00 | 100 MiB | 2 | 1.00 % | 250 µs |\n")
	assert.Contains(t, text, "\n| base | 104,857 | 10.0 µs | 9 | 1.00 % | 12 ms | none | 20 MiB | 80 MiB | 30 |\n", "60 MiB of two million")
	assert.Contains(t, text, "\nMore memory than before the load, for each connection: 80.0 KiB with base, 20.0 KiB with more.\n")
	assert.Contains(t, text, "\nIn the middle of a turn only 256 of the more connections were open: ")
	assert.Contains(t, text, "\n2, 4 and 8 cores are left out: ")
	assert.Contains(t, text, "\nThe row of connections 10,000 is left out: it needs more.\n")
	assert.NotContains(t, text, "Not a quiet machine")
	for _, once := range []string{"are left out:", "is left out:", "More memory", "made by logins", "Measured on"} {
		assert.Equal(t, 1, strings.Count(text, once), once)
	}
	for _, s := range r.Rows[1].Rounds {
		s.Foreign = 0.3
	}
	assert.Contains(t, r.tables(), "other programs used up to 0.30 cores")
	assert.Empty(t, new(growthResult).table(byCores, "cores"))
}

func TestNothingCollectedIsSaidSo(t *testing.T) {
	r := sampleGrowth()
	for _, s := range r.Rows[0].Rounds {
		s.Collector = collected{}
	}
	assert.Contains(t, r.table(bySessions, "sessions"), "| 100 MiB | 0 | 0 | none |\n")
}

func TestGrowthChart(t *testing.T) {
	svg := sampleGrowth().chart()
	bars := map[string][]string{}
	for _, e := range rects(t, svg) {
		bars[e.Attr[0].Value] = append(bars[e.Attr[0].Value], e.Attr[3].Value)
	}
	require.Len(t, bars["rate"], 10)
	require.Len(t, bars["p99"], 10)
	assert.Equal(t, []string{"320.0", "256.0"}, bars["rate"][:2], "the widest bar is the greatest of its panel")
	assert.Equal(t, []string{"160.0", "320.0"}, bars["p99"][:2])
	assert.Contains(t, svg, "A &lt;CPU&gt;")
}

func TestGrowthReport(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, report.WriteJSON(file("growth.json"), sampleGrowth()))
	require.NoError(t, os.WriteFile(file("p.md"), []byte("before\n"+growthBegin+"\nold\n"+growthEnd+"\nafter\n"), 0o600))
	args := []string{"growth-report", "-page", file("p.md"), "-chart", file("c.svg"), file("growth.json")}
	for range 2 { // a second time changes nothing
		require.NoError(t, run(t.Context(), args))
		page, err := os.ReadFile(file("p.md"))
		require.NoError(t, err)
		want := "before\n" + growthBegin + "\n\n![Requests per second and the 99th percentile, by what grows](c.svg)\n\n" +
			sampleGrowth().tables() + "\n" + growthEnd + "\nafter\n"
		assert.Equal(t, want, string(page))
	}
	svg, err := os.ReadFile(file("c.svg"))
	require.NoError(t, err)
	assert.Equal(t, sampleGrowth().chart(), string(svg))
	assert.ErrorContains(t, run(t.Context(), []string{"growth-report"}), "wants the JSON file")
}

// The page of the docs has the marks between which the command writes.
func TestGrowthPageHasTheMarks(t *testing.T) {
	page, err := os.ReadFile("../../docs/growth.md")
	require.NoError(t, err)
	assert.Contains(t, string(page), "\n"+growthBegin+"\n")
	assert.Contains(t, string(page), "\n"+growthEnd+"\n")
}

// A row that fails is named, and the ratios are those of the same round.
func TestKeepLeavesFailedRowsOut(t *testing.T) {
	m := &growthMeasurement{found: new(growthResult)}
	rows := sampleGrowth().of(byCores)
	m.keep([]*grown{{row: rows[0]}, {row: rows[1]}, {row: &growthRow{Kind: byCores, Title: "8"}, failed: errors.New("it broke")}})
	assert.Equal(t, rows, m.found.Rows)
	assert.Equal(t, 0.8, rows[1].Rounds[0].Ratio)
	assert.Equal(t, 0.8, rows[1].Rounds[2].Ratio)
	assert.Contains(t, m.found.table(byCores, "cores"), "\nThe row of cores 8 is left out: it broke.\n")
}

// The ratio is that within the rounds, not that of the medians, which may come from different rounds.
func TestPairedIsWithinARound(t *testing.T) {
	var base, more growthRow
	for i, rate := range []float64{100, 50, 20} {
		base.Rounds = append(base.Rounds, turnOf(rate, 800))
		more.Rounds = append(more.Rounds, turnOf([]float64{90, 10, 18}[i], 800))
	}
	assert.InDelta(t, 0.9, more.paired(&base, rateOf), 1e-9)
}
