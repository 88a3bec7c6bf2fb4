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
)

// sampleResult is a measurement of three rounds, made up.
func sampleResult() *result {
	r := &result{
		Date:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine:  machine{CPU: "A <CPU>", Cores: 2, Kernel: "6.1", Load: "0.10"},
		Versions: map[string]string{"Go": "1.26"},
		Settings: runSettings{Rounds: 3, Seconds: 5, Connections: 64},
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
			r.add(name, me, memory, &sample{RPS: rps * speed, P50: 600, P99: 2500, CPU: cpu, RSS: 10, Ratio: rps / 100_000, Busy: 0.99})
		}
		add("coatcheck", 96_000, 10)
		add(ceiling, 100_000, 9.5)
		add("scs", 30_000, 30)
	}
	return r
}

func TestMedian(t *testing.T) {
	assert.InDelta(t, 0, median(nil), 0)
	assert.InDelta(t, 2, median([]float64{3, 1, 2}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 3, 1, 2}), 0)
}

func TestRatiosAreOfOneRound(t *testing.T) {
	r := sampleResult()
	got, ok := r.paired("coatcheck", "scs", me, memory)
	require.True(t, ok)
	assert.InDelta(t, 3.2, got, 1e-9)
	assert.InDelta(t, 0.96, r.row("coatcheck", me, memory).Median.Ratio, 1e-9)
	_, ok = r.paired("coatcheck", "scs", me, redis)
	assert.False(t, ok, "that was not measured")
}

func TestTable(t *testing.T) {
	r := sampleResult()
	assert.Equal(t, "| server | requests/s | of the ceiling | p50 | p99 | CPU per request | peak memory |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"+
		"| ceiling | 100,000 | 1.000 | 600 µs | 2.5 ms | 9.5 µs | 10 MiB |\n"+
		"| **coatcheck** | 96,000 | 0.960 | 600 µs | 2.5 ms | 10.0 µs | 10 MiB |\n"+
		"| scs | 30,000 | 0.300 | 600 µs | 2.5 ms | 30.0 µs | 10 MiB |\n", r.table(me, memory))
	assert.Empty(t, r.table(login, memory))
	for _, s := range r.row("scs", me, memory).Rounds {
		s.Busy, s.Foreign = 0.5, 0.4
	}
	r.add("scs", me, memory, &sample{RPS: 30_000, Busy: 0.5, Foreign: 0.4})
	assert.Contains(t, r.table(me, memory), "| 30,000 \\* |")
	assert.Contains(t, r.table(me, memory), "Not a quiet machine")
}

func TestBudgets(t *testing.T) {
	text := sampleResult().budgets()
	assert.Regexp(t, `coatcheck / ceiling, memory +0\.95 +0\.960 +0\.950 +met`, text)
	assert.Regexp(t, `coatcheck / scs, memory +3\.00 +3\.200 +3\.000 +met`, text)
	assert.NotContains(t, text, "express", "it was not measured")
}

func TestChartIsXMLWithABarForEach(t *testing.T) {
	svg := sampleResult().chart(me, memory)
	bars := 0
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	assert.Equal(t, 3, bars)
	assert.Contains(t, svg, `class="own"`)
}

func TestReportFromJSON(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, sampleResult().write(file("result.json")))
	require.NoError(t, os.WriteFile(file("README.md"), []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600))
	args := []string{"report", "-table", file("t.md"), "-chart", file("c.svg"), "-readme", file("README.md"), file("result.json")}
	for range 2 { // a second time changes nothing
		require.NoError(t, run(t.Context(), args))
		readme, err := os.ReadFile(file("README.md"))
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(readme), "before\n"+beginMark+"\n![GET /auth/me: requests per second, by server](c.svg)\n\n| server |"))
		assert.Contains(t, string(readme), "\n[All tables](t.md): ")
		assert.True(t, strings.HasSuffix(string(readme), "\n"+endMark+"after\n"))
		assert.Contains(t, string(readme), "Measured on 2026-01-02; A <CPU>, 2 cores")
		assert.NotContains(t, string(readme), "old\n")
	}
	table, err := os.ReadFile(file("t.md"))
	require.NoError(t, err)
	assert.Contains(t, string(table), "- axum memory: cargo is not installed")
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
	text := r.document()
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
	cookies, err := c.logins(250)
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
	for _, args := range [][]string{{"-rounds", "101"}, {"-seconds", "61"}, {"-connections", "0"}, {"-resident", "99999999"}} {
		assert.Error(t, run(t.Context(), append([]string{"measure"}, args...)), args)
	}
}
