package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// scrape returns the families that the server shows, and the page.
func (p *process) scrape(t *testing.T) (families map[string]bool, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+"/metrics", http.NoBody)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	families = make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(string(text), -1) {
		families[m[1]] = true
	}
	return families, string(text)
}

var (
	metricName = regexp.MustCompile(`\b(?:coatcheck|go|process)_[a-z0-9_]+`)
	ofSeries   = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// A running server shows every metric that the dashboard, the alerts and docs/operations.md name; and the page and the dashboard name every
// metric of ours.
func TestMetricsThatAreNamed(t *testing.T) {
	t.Parallel()
	memory := start(t, "--data-dir", t.TempDir())
	redis := start(t, "--store", redistest.Start(t).URL())
	shown := make(map[string]bool)
	for _, p := range []*process{memory, redis} {
		_, _, cookie := p.ask(t, "POST", "/auth/login", "", `{"user_id":"user-42"}`)
		assert.Equal(t, "user-42", p.whose(t, cookie))
		families, page := p.scrape(t)
		maps.Copy(shown, families)
		assert.NotContains(t, page, "user-42")
		assert.NotContains(t, page, "go1.", "which Go")
		assert.Contains(t, page, "\ncoatcheck_build_info{version=\"v1.2.3-test\"} 1\n")
	}
	withTLS := certtest.NewFiles(t)
	cert, key, _ := certtest.New(t).Issue(t, time.Now().Add(time.Hour))
	withTLS.Write(t, cert, key)
	families, _ := start(t, withTLS.Flags()...).scrape(t)
	maps.Copy(shown, families)
	for _, file := range []string{"deploy/grafana-dashboard.json", "deploy/prometheus-alerts.yml", "docs/operations.md"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		names := metricName.FindAllString(string(text), -1)
		assert.Greater(t, len(names), 10, file)
		for i, name := range names {
			if !shown[name] {
				names[i] = ofSeries.ReplaceAllString(name, "")
			}
			assert.True(t, shown[names[i]], "%s names %s, which no server shows", file, name)
		}
		if file != "deploy/prometheus-alerts.yml" {
			for name := range shown {
				assert.True(t, !strings.HasPrefix(name, "coatcheck_") || slices.Contains(names, name), "%s does not tell of %s", file, name)
			}
		}
	}
}

const alertRules = "../../deploy/prometheus-alerts.yml"

func TestDashboardAndAlerts(t *testing.T) {
	panels(t)
	text, err := os.ReadFile(alertRules)
	require.NoError(t, err)
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &alerts))
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for _, g := range alerts.Groups {
		require.NotEmpty(t, g.Rules)
		for _, r := range g.Rules {
			checkRates(t, r.Expr)
			assert.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
			assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
			assert.Contains(t, string(page), "`"+r.Alert+"`", "docs/operations.md says what to do about it")
		}
	}
}

// panels returns the dashboard's expressions, as Grafana sends them.
func panels(t *testing.T) (expressions []string) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	for _, p := range dashboard.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			checkRates(t, target.Expr)
			expressions = append(expressions, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	return expressions
}

// checkRates finds what promtool accepts and only a server would show to be empty or nonsense.
func checkRates(t *testing.T, expr string) {
	t.Helper()
	require.NotEmpty(t, expr)
	for _, m := range regexp.MustCompile(`(?:rate|increase)\s*\(\s*(\w+)`).FindAllStringSubmatch(expr, -1) {
		assert.Regexp(t, `_(total|bucket)$`, m[1], "a rate is of a counter")
	}
}

func TestMetricsOfMemoryStore(t *testing.T) {
	t.Parallel()
	logIn := func(p *process) {
		for range 3 {
			p.ask(t, "POST", "/auth/login", "", `{"user_id":"user-42"}`)
		}
	}
	lasting := start(t, "--data-dir", t.TempDir())
	logIn(lasting)
	_, page := lasting.scrape(t)
	assert.Contains(t, page, "\ncoatcheck_sessions 3\n")
	assert.Contains(t, page, "\ncoatcheck_store_writes_refused 0\n")
	assert.Regexp(t, `\ncoatcheck_memory_journal_bytes [1-9]`, page)

	brief := start(t, "--ttl=1s", "--rotation-grace=100ms", "--data-dir", t.TempDir())
	logIn(brief)
	require.Eventually(t, func() bool {
		_, page = brief.scrape(t)
		return strings.Contains(page, "\n"+`coatcheck_sessions_ended_total{reason="idle"} 3`+"\n") && strings.Contains(page, "\ncoatcheck_sessions 0\n")
	}, patience, 20*time.Millisecond)
	assert.Regexp(t, `\ncoatcheck_memory_janitor_seconds_total [0-9.e-]*[1-9]`, page)
}
