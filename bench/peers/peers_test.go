package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/bench/peers/internal/openload"
)

// sampleResult is a measurement of three rounds, made up.
func sampleResult() *result {
	r := &result{
		Date:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine:  report.Machine{CPU: "A <CPU>", Cores: 2, Kernel: "6.1", Load: "0.10"},
		Versions: map[string]string{"Go": "1.26"},
		Settings: runSettings{Rounds: 3, Seconds: 5, Connections: 64, CPUs: process.CPUs{Server: []int{0}, Load: []int{1}, Redis: 1}},
		Peers: []peerInfo{
			{Name: "coatcheck", Title: "coatcheck", Version: "v1"},
			{Name: ceiling, Title: "ceiling", Module: "fiber", Version: "v2", Twin: true},
			{Name: "scs", Title: "scs", Module: "scs", Version: "v2.9.0"},
		},
		Skipped: []skipped{{"axum", memory, "cargo is not installed"}},
	}
	for i := range 3 {
		// The machine is half as fast in the last round: ratios of one round do not show that.
		speed := []float64{1, 1.1, 0.5}[i]
		add := func(name string, rps, cpu float64) {
			r.add(name, me, memory, &sample{RPS: rps * speed, P50: 600, P99: 2500, CPU: cpu, RSS: 10, Ratio: rps / 100_000, Cores: 0.99})
		}
		add("coatcheck", 96_000, 10)
		add(ceiling, 100_000, 9.5)
		add("scs", 30_000, 30)
	}
	return r
}

func TestRatiosAreOfOneRound(t *testing.T) {
	r := sampleResult()
	rate := func(s *sample) float64 { return s.RPS }
	got, ok := r.paired("coatcheck", "scs", me, memory, rate)
	require.True(t, ok)
	assert.InDelta(t, 3.2, got, 1e-9)
	assert.InDelta(t, 0.96, r.row("coatcheck", me, memory).Median.Ratio, 1e-9)
	_, ok = r.paired("coatcheck", "scs", me, redis, rate)
	assert.False(t, ok, "that was not measured")
}

func TestTable(t *testing.T) {
	r := sampleResult()
	assert.Equal(t, "| server | requests/s | of the ceiling | p50 | p99 | CPU per request | cores used | peak memory |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"+
		"| ceiling | 100,000 | 1.000 | 600 µs | 2.5 ms | 9.5 µs | 0.99 | 10 MiB |\n"+
		"| **coatcheck** | 96,000 | 0.960 | 600 µs | 2.5 ms | 10.0 µs | 0.99 | 10 MiB |\n"+
		"| scs | 30,000 | 0.300 | 600 µs | 2.5 ms | 30.0 µs | 0.99 | 10 MiB |\n", r.table(me, memory))
	assert.Empty(t, r.table(login, memory))
	for _, s := range r.row("scs", me, memory).Rounds {
		s.Cores, s.Foreign = 0.5, 0.4
	}
	r.add("scs", me, memory, &sample{RPS: 30_000, Cores: 0.5, Foreign: 0.4})
	assert.Contains(t, r.table(me, memory), "| 30,000 \\* |")
	assert.Contains(t, r.table(me, memory), "Not a quiet machine")
}

func TestBudgets(t *testing.T) {
	r := sampleResult()
	r.add("actix", me, memory, &sample{RPS: 90_000, CPU: 9})
	r.add("actix", me, memory, &sample{RPS: 90_000, CPU: 9})
	assert.NotContains(t, r.budgets(), "actix", "it was measured in two rounds of three")
	r.add("actix", me, memory, &sample{RPS: 90_000, CPU: 9})
	assert.Regexp(t, `coatcheck / ceiling, me, memory +0\.960  0\.95 +1\.053  1\.05  met\n`, r.budgets())
	assert.Regexp(t, `coatcheck / actix, me, memory +1\.067     - +1\.111  1\.00  MISSED\n`, r.budgets(), "the CPU time is too much")
	for _, s := range r.row(ceiling, me, memory).Rounds {
		s.RPS *= 1.1
	}
	assert.Regexp(t, `coatcheck / ceiling, me, memory +0\.873  0\.95 .*  MISSED\n`, r.budgets(), "the rate is too low")
	assert.NotContains(t, r.budgets(), "coatcheck-spread", "it was not measured")
}

// onEight is sampleResult on a larger machine.
func onEight() *result {
	r := sampleResult()
	r.Settings.CPUs = process.CPUs{Server: []int{0, 1, 2, 3, 4, 5, 6, 7}, Load: []int{8, 9, 10, 11, 12, 13, 14, 15}, Redis: 16}
	for _, w := range r.Rows {
		w.Median.RPS *= 7
		w.Median.Cores = 7.5
	}
	return r
}

// rects are the bars of a chart, which has to be XML.
func rects(t *testing.T, svg string) (found []xml.StartElement) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			found = append(found, e)
		}
	}
}

func TestChartIsXMLWithABarForEach(t *testing.T) {
	assert.Empty(t, results{}.chart(me, memory))
	svg := results{sampleResult(), onEight()}.chart(me, memory)
	bars := len(rects(t, svg))
	assert.Equal(t, 6, bars)
	assert.Contains(t, svg, "The server on one core<")
	assert.Contains(t, svg, "The server on 8 cores<")
	assert.Contains(t, svg, ">672,000<")
	assert.Contains(t, svg, `class="own"`)
}

func TestReportFromJSON(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, report.WriteJSON(file("result.json"), sampleResult()))
	require.NoError(t, report.WriteJSON(file("eight.json"), onEight()))
	require.NoError(t, os.WriteFile(file("README.md"), []byte("before\n"+beginMark+"\nold\n"+endMark+"after\n"), 0o600))
	args := []string{"report", "-table", file("t.md"), "-chart", file("c.svg"), "-readme", file("README.md"), file("result.json")}
	for range 2 { // a second time changes nothing
		require.NoError(t, run(t.Context(), args))
		readme, err := os.ReadFile(file("README.md"))
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(readme), "before\n"+beginMark+"\n\n![GET /auth/me: requests per second, by server](c.svg)\n\n| server |"))
		assert.Contains(t, string(readme), "\n[All tables](t.md): ")
		assert.True(t, strings.HasSuffix(string(readme), "\n"+endMark+"after\n"))
		assert.Contains(t, string(readme), "Measured on 2026-01-02; A <CPU>, 2 cores, Linux 6.1, load average 0.10 at the start; CPU 0 the server, 1 the load, 1 Redis.")
		assert.NotContains(t, string(readme), "old\n")
	}
	table, err := os.ReadFile(file("t.md"))
	require.NoError(t, err)
	assert.Contains(t, string(table), "- axum memory: cargo is not installed")
	require.NoError(t, run(t.Context(), append(args, file("eight.json"))))
	readme, err := os.ReadFile(file("README.md"))
	require.NoError(t, err)
	assert.Regexp(t, `(?s)\nOn one core:\n\n\| server.*CPU 0 the server.*\nOn 8 cores:\n\n\| server.*CPU 0 to 7 the server, 8 to 15 the load, 16 Redis`, string(readme))
	table, err = os.ReadFile(file("t.md"))
	require.NoError(t, err)
	assert.Contains(t, string(table), "\n## GET /auth/me with a live session, in memory, on one core\n")
	assert.Contains(t, string(table), "\n## GET /auth/me with a live session, in memory, on 8 cores\n")
	assert.Contains(t, string(table), "| 672,000 |")
	require.NoError(t, os.WriteFile(file("README.md"), []byte("no marks"), 0o600))
	assert.ErrorContains(t, run(t.Context(), args), "has no lines")
}

// A part that was measured again, with its own date.
func TestReportOfSeveral(t *testing.T) {
	r, later := sampleResult(), sampleResult()
	r.add("coatcheck", login, memory, &sample{RPS: 7})
	later.Date = later.Date.AddDate(0, 0, 1)
	for _, w := range later.Rows {
		w.Median.RPS = 5
	}
	r.replace(later)
	text := results{r}.document()
	assert.Equal(t, 3, strings.Count(text, "| 5 |"), "all rows of the table are the later ones")
	assert.NotContains(t, text, "100,000")
	assert.Contains(t, text, "| 7 \\* |", "what was not measured again stays")
	assert.Contains(t, text, "Measured on 2026-01-03")
	assert.Equal(t, 2, strings.Count(text, "Measured on"))
}

// fake is a server as the peers are, with one mistake.
func fake(mistake string) http.Handler {
	sessions, made := map[string]bool{}, 0 // cookie to refreshed
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie := ""
		if c, err := r.Cookie("s"); err == nil {
			cookie = c.Value
		}
		refreshed, live := sessions[cookie]
		begin := func(value bool) {
			made++
			cookie = fmt.Sprintf("%d", made)
			sessions[cookie], refreshed, live = value, value, true
			w.Header().Set("Set-Cookie", "s="+cookie+"; Path=/")
		}
		switch {
		case r.URL.Path == "/auth/login":
			begin(false)
		case r.URL.Path == "/auth/refresh" && live && mistake != "refresh":
			delete(sessions, cookie)
			begin(true)
		case r.URL.Path == "/auth/logout":
			if mistake != "logout" {
				delete(sessions, cookie)
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		v := view{}
		if live && mistake != "me" {
			user := userID(1)
			v = view{Authenticated: true, UserID: &user, Refreshed: refreshed, SessionID: &cookie}
		}
		if mistake == "status" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_ = json.NewEncoder(w).Encode(v) // the client is gone
	})
}

func TestWalkFindsMistakes(t *testing.T) {
	for mistake, want := range map[string]string{
		"":        "",
		"me":      "login: {",
		"refresh": "refresh: {",
		"logout":  "me after logout: {",
		"status":  "status 500",
	} {
		t.Run("mistake "+mistake, func(t *testing.T) {
			srv := httptest.NewServer(fake(mistake))
			defer srv.Close()
			answers, err := walk(srv.Listener.Addr().String())
			if want != "" {
				require.ErrorContains(t, err, want)
				return
			}
			require.NoError(t, err)
			assert.Contains(t, string(answers["GET /auth/me"].body), `"user_id":"user-0000001"`)
			assert.Len(t, answers, 3, "what the twins answer")
		})
	}
}

func TestLoginsAndCheckLive(t *testing.T) {
	srv := httptest.NewServer(fake(""))
	defer srv.Close()
	address := srv.Listener.Addr().String()
	c, err := dial(address)
	require.NoError(t, err)
	defer c.close()
	cookies, err := c.logins(250, 250)
	require.NoError(t, err)
	require.Len(t, cookies, 250)
	require.NoError(t, checkLive(address, cookies))
	assert.ErrorContains(t, checkLive(address, append(cookies, "s=dead")), "session 251 of 251")
}

func TestEssenceIgnoresDateAndOrder(t *testing.T) {
	a := []byte("HTTP/1.1 200 OK\r\nDate: Mon\r\nA: 1\r\nB: 2\r\n\r\nbody")
	b := []byte("HTTP/1.1 200 OK\r\nB: 2\r\nA: 1\r\nDate: Tue\r\n\r\nbody")
	assert.Equal(t, essence(a), essence(b))
	assert.NotEqual(t, essence(a), essence(bytes.Replace(b, []byte("B: 2"), []byte("B: 3"), 1)))
}

func TestMeasureRefusesWhatWouldNotEnd(t *testing.T) {
	for _, args := range [][]string{
		{"-rounds", "101"}, {"-seconds", "61"}, {"-connections", "0"}, {"-resident", "99999999"}, {"-cores", "0"}, {"-sessions", "10"},
	} {
		for _, command := range []string{"measure", "layers", "open"} {
			err := run(t.Context(), append([]string{command}, args...))
			require.ErrorContains(t, err, args[0]+" "+args[1]+": it must be from ", command)
		}
	}
}

func TestTooFewCores(t *testing.T) {
	err := run(t.Context(), []string{"measure", "-cores", "512", "-connections", "512", "-work", t.TempDir()})
	require.ErrorContains(t, err, "the server on 512 cores and the load on as many others need 1024 cores, and this machine gives")
}

func TestChosenPeers(t *testing.T) {
	names := func(peers []*peer) (all []string) {
		for _, p := range peers {
			all = append(all, p.name)
		}
		return all
	}
	some, err := chosen(&settings{peers: list{"axum", "coatcheck-spread", "actix"}, resident: 1000})
	require.NoError(t, err)
	assert.Equal(t, []string{"coatcheck", "coatcheck-spread", "ceiling", "actix", "axum"}, names(some))
	assert.Equal(t, "coatcheck, spread over 1,000", some[1].title)
	all, err := chosen(&settings{})
	require.NoError(t, err)
	assert.Len(t, all, len(allPeers()))
	_, err = chosen(&settings{peers: list{"actix", "nobody"}})
	assert.EqualError(t, err, "there is no peer called nobody")
}

// Every server's source is in servers/NAME, and there is nothing there that no peer is built from.
func TestServersAreInTheirDirectories(t *testing.T) {
	used := map[string]bool{"floor": true} // of the layers
	for _, p := range allPeers() {
		if p.directory != "" {
			used[p.directory] = true
		}
	}
	entries, err := os.ReadDir("servers")
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			assert.True(t, used[e.Name()], "servers/%s", e.Name())
			delete(used, e.Name())
		}
	}
	assert.Empty(t, used)
}

// openSampleOf is a turn with that 99th percentile, in microseconds.
func openSampleOf(p99 float64) *openSample {
	return &openSample{
		Result: openload.Result{
			Requests: 3000, Seconds: 1, Waited: 0.001, Latency: openload.Quantiles{P50: 80, P99: p99, P999: 1500, Max: 2000},
			Late: openload.Quantiles{P50: 0.4, P99: 12},
		},
		Cores: 0.6,
	}
}

func TestOpenTable(t *testing.T) {
	r := &openResult{result: sampleResult(), CeilingRPS: 10_000}
	for _, peer := range []string{own, ceiling} {
		w := &openRow{Peer: peer, Share: 0.3, Wanted: 3000}
		for i := range 3 {
			// After the first round everything is twice as slow, which a ratio within a round does not show.
			p99 := []float64{400, 800, 800}[i]
			if peer == own {
				p99 *= 1.1
			}
			w.Rounds = append(w.Rounds, openSampleOf(p99))
		}
		r.Rates = append(r.Rates, w)
	}
	text := r.table()
	assert.Contains(t, text, "\n| 30 % | **coatcheck** | 3,000 | 80 µs | 880 µs | 1.5 ms | 1.10 | 0.60 | 0.1 % | 0 µs | 12 µs |\n")
	assert.Contains(t, text, "\n| 30 % | ceiling | 3,000 | 80 µs | 800 µs | 1.5 ms | 1.00 | 0.60 | 0.1 % | 0 µs | 12 µs |\n")
	assert.Contains(t, text, "The ceiling answers 10,000 requests a second at most.")
	assert.NotContains(t, text, "Not a quiet machine")
	r.Rates[0].Rounds[0].Foreign, r.Rates[0].Rounds[1].Foreign = 0.3, 0.3
	assert.Contains(t, r.table(), "other programs used up to 0.30 cores")
}

func TestMarkNamesTheCores(t *testing.T) {
	assert.Equal(t, "<!-- layers: begin, generated by make layers -->", mark("layers", "make layers", 1))
	assert.Equal(t, "<!-- layers: begin, generated by make layers CORES=8 -->", mark("layers", "make layers", 8))
}
