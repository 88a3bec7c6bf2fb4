package servertest

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
)

var metricsRules = []rule{
	{name: "requests by route and status", transport: true, check: checkRequestMetrics},
	{name: "what becomes of sessions", config: func(cfg *server.Config) { cfg.Policy.MaxPerUser = 2 }, check: checkSessionMetrics},
	{name: "reuse", config: func(cfg *server.Config) { cfg.Policy.RevokeOnReuse = true }, check: checkReuseMetrics},
	{name: "logins by outcome", config: scripted, transport: true, check: checkLoginMetrics},
	{name: "store failures", config: withMode(believing), check: checkStoreMetrics},
	{name: "no user, session, version or secret", config: scripted, check: checkMetricsTellNothing},
	{name: "collectors of the caller's", unserved: true, transport: true, check: checkCollectors},
	{name: "profiles", transport: true, check: checkProfiles},
}

// metrics is a scrape: the value of each series by its name and labels, as Prometheus writes them. The value of a histogram
// is its count.
type metrics map[string]float64

func (h *harness) scrape() metrics {
	h.Helper()
	resp := h.adminDo("GET", "/metrics")
	require.Equal(h, 200, resp.Status, resp.Body)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(resp.Body))
	require.NoError(h, err)
	found := make(metrics)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := make([]string, len(m.GetLabel()))
			for i, l := range m.GetLabel() {
				labels[i] = l.GetName() + "=" + quote(l.GetValue())
			}
			series := name
			if len(labels) > 0 {
				series += "{" + strings.Join(labels, ",") + "}"
			}
			found[series] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return found
}

// grown returns how much the series have grown while f ran; it leaves out those that have not changed.
func (h *harness) grown(prefixes []string, f func()) metrics {
	h.Helper()
	before := h.scrape()
	f()
	after := h.scrape()
	grown := make(metrics)
	for series, n := range after {
		for _, prefix := range prefixes {
			if strings.HasPrefix(series, prefix) && n != before[series] {
				grown[series] = n - before[series]
			}
		}
	}
	return grown
}

func checkRequestMetrics(h *harness) {
	token := h.Login(h.User())
	requests := map[string]string{
		"GET /auth/me": `"GET /auth/me",code="200"`, "HEAD /auth/me": `"GET /auth/me",code="200"`, "POST /auth/refresh": `"POST /auth/refresh",code="200"`,
		"POST /auth/login": `"POST /auth/login",code="415"`, "GET /auth/login": `"GET /auth/login",code="200"`, "GET /auth/sessions": `"GET /auth/sessions",code="401"`,
		"DELETE /auth/sessions": `"DELETE /auth/sessions",code="401"`, "DELETE /auth/sessions/x": `"DELETE /auth/sessions/{id}",code="401"`,
		"DELETE /auth/sessions/x/y": `"none",code="404"`, "DELETE /auth/sessions/": `"none",code="404"`, "GET /auth/verify": `"/auth/verify",code="401"`,
		"PUT /auth/verify": `"/auth/verify",code="401"`, "PROPFIND /auth/verify": `"/auth/verify",code="401"`, "GET /Auth/me": `"none",code="404"`,
		"GET /auth/me/": `"none",code="404"`, "GET /" + token: `"none",code="404"`, "GET /" + strings.Repeat("x", 9000): `"none",code="431"`,
		"GET /auth/me?x=1": `"GET /auth/me",code="200"`, "POST /auth/logout": `"POST /auth/logout",code="204"`, "GET /openapi.yaml": `"GET /openapi.yaml",code="200"`,
	}
	for route, series := range requests {
		method, path, _ := strings.Cut(route, " ")
		_, err := h.Wire.Send(request{Method: method, Path: path}) // one scrape for each: two requests in one scrape would hide a mix-up
		require.NoError(h, err)
		grown := h.grown([]string{"coatcheck_http_requests_total"}, func() {
			_, err := h.Wire.Send(request{Method: method, Path: path})
			require.NoError(h, err)
		})
		// The labels come in the order of their names.
		label, code, _ := strings.Cut(series, ",")
		assert.Equal(h, metrics{"coatcheck_http_requests_total{" + code + ",route=" + label + "}": 1}, grown, "%.50s", route)
	}
	timed := h.scrape()[`coatcheck_http_request_duration_seconds{route="GET /auth/me"}`]
	assert.Positive(h, timed)
	_, err := h.Wire.Send(request{Method: "GET", Path: "/auth/me"}) // a request that was refused above may have ended the connection
	require.NoError(h, err)
	assert.Eventually(h, func() bool { return h.scrape()["coatcheck_http_connections"] == 1 }, patience, 5*time.Millisecond, "the one that this test uses")
}

var sessionSeries = []string{
	"coatcheck_sessions_created", "coatcheck_sessions_ended", "coatcheck_sessions_rotated", "coatcheck_sessions_renewed", "coatcheck_swap", "coatcheck_writes",
	"coatcheck_wrong", "coatcheck_token", "coatcheck_duplicate", "coatcheck_damaged", "coatcheck_cross", "coatcheck_notes",
}

func checkSessionMetrics(h *harness) {
	user := h.User()
	created := "coatcheck_sessions_created_total"
	ended := func(reason string) string { return `coatcheck_sessions_ended_total{reason="` + reason + `"}` }
	var a, b string
	for _, step := range []struct {
		what string
		do   func()
		want metrics
	}{
		{"login", func() { a = h.Login(user) }, metrics{created: 1}},
		{"a read", func() { h.Me(a) }, metrics{}},
		{"a login in its place", func() { a = h.Login(user, h.Cookie(a)) }, metrics{created: 1, ended("replaced"): 1}},
		{"refresh", func() { a = h.Refresh(a) }, metrics{"coatcheck_sessions_rotated_total": 1}},
		{"renewal", func() { h.Clock.Step(renewEvery); h.Me(a) }, metrics{"coatcheck_sessions_renewed_total": 1}},
		{"the limit", func() { b = h.Login(user); b = h.Login(user); a = b }, metrics{created: 2, ended("limit"): 1}},
		{"wrong secret", func() { h.Me(h.WrongSecret(a)) }, metrics{"coatcheck_wrong_secrets_total": 1}},
		{"two live ones", func() { h.Get("/auth/me", h.Cookie(a, h.Login(h.User()))) }, metrics{created: 1, "coatcheck_duplicate_cookies_total": 1}},
		{"another site", func() { h.Post("/auth/logout", "Sec-Fetch-Site: cross-site") }, metrics{"coatcheck_cross_site_refused_total": 1}},
		{"logout", func() { h.Post("/auth/logout", h.Cookie(a)) }, metrics{ended("logout"): 1}},
		{"revoke one", func() { b = h.Login(user); h.adminDo("DELETE", "/admin/users/"+user+"/sessions/"+h.HandleOf(b)) }, metrics{created: 1, ended("revoked"): 1}},
		{"revoke all", func() { h.adminDo("DELETE", "/admin/users/"+user+"/sessions") }, metrics{ended("revoked"): 1}},
		{"a write too late", func() {
			b = h.Login(user)
			h.Store.Once(httpcontract.OpSwap, func() { h.adminDo("DELETE", "/admin/users/"+user+"/sessions") })
			h.Post("/auth/refresh", h.Cookie(b))
		}, metrics{created: 1, ended("revoked"): 1, "coatcheck_writes_dropped_total": 1}},
		{"a conflict", func() {
			b = h.Login(user)
			h.Store.Once(httpcontract.OpSwap, func() { h.Clock.Step(renewEvery); h.Me(b) })
			b = h.Refresh(b)
		}, metrics{created: 1, "coatcheck_sessions_renewed_total": 1, "coatcheck_sessions_rotated_total": 1, "coatcheck_swap_conflicts_total": 1}},
		{"a renewal that fails", func() {
			h.Clock.Step(renewEvery)
			h.Store.Failing(errLost, httpcontract.OpSwap)
			h.Me(b)
			h.Store.On(nil)
		}, metrics{"coatcheck_notes_failed_total": 1}},
	} {
		assert.Equal(h, step.want, h.grown(sessionSeries, step.do), step.what)
	}
}

func checkReuseMetrics(h *harness) {
	old := h.Login(h.User())
	next := h.Refresh(old)
	h.Me(next)
	h.Clock.Step(grace + 1)
	assert.Equal(h, metrics{"coatcheck_token_reuse_total": 1, `coatcheck_sessions_ended_total{reason="reuse"}`: 1},
		h.grown(sessionSeries, func() { h.Me(old) }))
}

func checkLoginMetrics(h *harness) {
	for user, outcome := range map[string]string{"refused": "refused", "down": "unavailable", h.User(): "ok"} {
		assert.Equal(h, metrics{`coatcheck_logins_total{outcome="` + outcome + `"}`: 1},
			h.grown([]string{"coatcheck_logins_total"}, func() { h.TryLogin(user) }), user)
	}
}

func checkStoreMetrics(h *harness) {
	token := h.Login(h.User())
	series := []string{"coatcheck_store_errors_total"}
	h.Store.Failing(errLost)
	assert.Equal(h, metrics{`coatcheck_store_errors_total{operation="load"}`: 1}, h.grown(series, func() { h.Get("/auth/me", h.Cookie(token)) }))
	assert.Equal(h, metrics{`coatcheck_store_errors_total{operation="mark"}`: 1}, h.grown(series, func() { h.TryLogin(h.User()) }))
	assert.Equal(h, metrics{`coatcheck_store_errors_total{operation="ping"}`: 1}, h.grown(series, func() { h.adminDo("GET", "/readyz") }))
	h.Store.On(nil)
	assert.Equal(h, metrics{}, h.grown(series, func() { h.Get("/auth/me", h.Cookie(madeUp())) }), "a session that is not found is no error")
	assert.Equal(h, metrics{`coatcheck_store_operation_duration_seconds{operation="end"}`: 1},
		h.grown([]string{"coatcheck_store_operation"}, func() { h.Post("/auth/logout", h.Cookie(token)) }))
}

// OPS-04, LOG-01: whatever clients send, it adds no series. Every answer is searched for tokens anyway.
func checkMetricsTellNothing(h *harness) {
	checkNoSecrets(h)
	page := h.adminDo("GET", "/metrics", "Accept: text/plain").Body
	for _, text := range append(h.Canaries, "go1.", "go_info", "127.0.0.1", "version=") {
		assert.False(h, strings.Contains(page, text), text)
	}
	assert.NotRegexp(h, `user-[A-Z2-7]{26}`, strings.Join(seriesOf(page), "\n"))
	before := len(seriesOf(page))
	for range 50 {
		h.TryLogin("refused " + h.User())
		h.Get("/"+h.User(), h.Cookie(madeUp()))
		h.Do("DELETE", "/auth/sessions/"+madeUp())
	}
	after := len(seriesOf(h.adminDo("GET", "/metrics").Body))
	assert.LessOrEqual(h, after, before+5, "series must not grow with what clients send")
}

// seriesOf returns the lines of a scrape that are the server's own.
func seriesOf(page string) []string {
	return slices.DeleteFunc(strings.Split(page, "\n"), func(line string) bool { return !strings.HasPrefix(line, "coatcheck_") })
}

func checkCollectors(h *harness) {
	mine := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mine"})
	mine.Set(42)
	h.serve(func(cfg *server.Config) { cfg.Collectors = []prometheus.Collector{mine} })
	assert.Equal(h, 42.0, h.scrape()["mine"])
	twice := prometheus.NewGauge(prometheus.GaugeOpts{Name: "coatcheck_sessions_created_total"})
	_, err := server.New(h.Store, h.config(func(cfg *server.Config) { cfg.Collectors = []prometheus.Collector{twice} }))
	assert.ErrorContains(h, err, "coatcheck_sessions_created_total")
}

func checkProfiles(h *harness) {
	assert.Contains(h, h.adminDo("GET", "/debug/pprof/").Body, "\nheap?debug=1\n")
	assert.Equal(h, 200, h.adminDo("GET", "/debug/pprof/heap").Status)
	assert.Equal(h, 200, h.adminDo("GET", "/debug/pprof/trace?seconds=0.01").Status)
	stacks := h.adminDo("GET", "/debug/pprof/goroutine?debug=2").Body
	assert.Contains(h, stacks, "goroutine profile: total", "stacks without arguments")
	for path, want := range map[string]answer{
		"nothing": {Status: 404, Code: "not_found", Cookie: ""}, "cmdline": {Status: 404, Code: "not_found", Cookie: ""}, "symbol": {Status: 404, Code: "not_found", Cookie: ""},
		"profile?seconds=0": {Status: 400, Code: "malformed_query", Cookie: ""}, "profile?seconds=301": {
			Status: 400, Code: "malformed_query",
			Cookie: "",
		}, "trace?seconds=NaN": {Status: 400, Code: "malformed_query", Cookie: ""},
	} {
		assert.Equal(h, want, h.Answer(h.adminDo("GET", "/debug/pprof/"+path)), path)
	}
}
