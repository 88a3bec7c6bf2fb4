package server

import (
	"errors"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"

	dto "github.com/prometheus/client_model/go"
)

// metrics counts sessions and logins. Labels are constants of this file and nothing else: no user, session, address or path
// (LOG-01, OPS-04).
type metrics struct {
	created, rotated, renewed    prometheus.Counter
	conflicts, dropped, notNoted prometheus.Counter
	wrong, reused, duplicate     prometheus.Counter
	tooOld                       prometheus.Counter
	devices                      *prometheus.CounterVec
	damaged, crossSite           prometheus.Counter
	ended                        map[string]prometheus.Counter // by reason; never changes
	logins                       *prometheus.CounterVec
	loginsOK                     prometheus.Counter // of logins
	store                        *storeMetrics

	all []prometheus.Collector
}

// The reasons why a session ended. Stores that see sessions expire add idle and absolute.
const (
	endedLogout   = "logout"
	endedRevoked  = "revoked"
	endedLimit    = "limit"
	endedReuse    = "reuse"
	endedReplaced = "replaced"
)

const (
	endedName = "coatcheck_sessions_ended_total"
	endedHelp = "Sessions that ended, by reason: logout, revoked (by their user elsewhere, or an administrator), limit, reuse, replaced (by a login), idle, absolute."
)

// SessionsEnded describes the counter of sessions that ended for a reason. It is for the collector of a store that knows
// reasons which the server does not.
func SessionsEnded(reason string) *prometheus.Desc {
	return prometheus.NewDesc(endedName, endedHelp, nil, prometheus.Labels{"reason": reason})
}

func newMetrics() *metrics {
	m := &metrics{ended: make(map[string]prometheus.Counter), store: newStoreMetrics()}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "coatcheck_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.created = counter("sessions_created_total", "Sessions that began.")
	m.rotated = counter("sessions_rotated_total", "Tokens that were exchanged for a new one of the same session.")
	m.renewed = counter("sessions_renewed_total", "Idle expiries that were pushed out.")
	m.conflicts = counter("swap_conflicts_total", "Writes that were done again because a parallel request was faster.")
	m.dropped = counter("writes_dropped_total", "Writes that were refused because the session had ended or no longer admitted the token.")
	m.notNoted = counter("notes_failed_total", "Renewals and first uses of a token that could not be written and were left to the next request.")
	m.wrong = counter("wrong_secrets_total", "Tokens of a known session with a secret that was never its previous one.")
	m.reused = counter("token_reuse_total", "Requests with a token that had been exchanged before and was no longer admitted.")
	m.tooOld = counter("bound_tokens_too_old_total",
		"Requests, other than to GET /auth/watch, with a token of a device-bound session that came too long after the device's last proof: perhaps a copy.")
	m.duplicate = counter("duplicate_cookies_total", "Requests with several live sessions or too many candidates, which were anonymous.")
	m.damaged = counter("damaged_records_total", "Stored records that could not be read and were deleted.")
	m.crossSite = counter("cross_site_refused_total", "Unsafe requests of other sites that were refused.")
	for _, reason := range []string{endedLogout, endedRevoked, endedLimit, endedReuse, endedReplaced} {
		m.ended[reason] = prometheus.NewCounter(prometheus.CounterOpts{Name: endedName, Help: endedHelp, ConstLabels: prometheus.Labels{"reason": reason}})
		m.all = append(m.all, m.ended[reason])
	}
	m.logins = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_logins_total",
		Help: "Logins by outcome, as the audit log has it; account and address are what too many failures throttled.",
	}, []string{"outcome"})
	outcomes := slices.Clone(loginOutcomes)
	for _, p := range providerProblems {
		outcomes = append(outcomes, p.Code)
	}
	for _, outcome := range outcomes {
		m.logins.WithLabelValues(outcome) // so that each outcome is there from the start, and its first failure is an increase
	}
	m.loginsOK = m.logins.WithLabelValues(outcomeOK)
	m.devices = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_dbsc_requests_total",
		Help: "Requests of devices, by route (register, refresh) and outcome: ok; challenge (a refresh that was told what to sign); refused (a " +
			"wrong or old proof); bound (already); gone (no such session); throttled; unavailable.",
	}, []string{"route", "outcome"})
	for _, route := range []middleware.DeviceRoute{middleware.DeviceRegister, middleware.DeviceRefresh} {
		for _, outcome := range middleware.DeviceOutcomes(route) {
			m.devices.WithLabelValues(string(route), string(outcome))
		}
	}
	m.all = append(m.all, m.logins, m.devices)
	m.all = append(m.all, m.store.collectors()...)
	return m
}

// The outcomes of a login, in the audit log and in metrics.
const (
	outcomeOK          = "ok"
	outcomeRefused     = "refused"
	outcomeRevoked     = "revoked"
	outcomeStoreFull   = "store_full"
	outcomeBusy        = "busy"
	outcomeUnavailable = "unavailable"
	outcomeClaims      = "claims_too_large"
	outcomeAccount     = "account"
	outcomeAddress     = "address"
)

var loginOutcomes = []string{
	outcomeOK, outcomeRefused, outcomeRevoked, outcomeStoreFull, outcomeBusy, outcomeUnavailable, outcomeClaims, outcomeAccount, outcomeAddress,
}

// session counts what happened to a request's session.
func (m *metrics) session(r *coatcheck.Report) {
	m.created.Add(float64(r.Created))
	m.rotated.Add(float64(r.Rotated))
	m.renewed.Add(float64(r.Renewed))
	m.conflicts.Add(float64(r.Conflicts))
	m.dropped.Add(float64(r.Dropped))
	m.notNoted.Add(float64(r.NotNoted))
	m.wrong.Add(float64(r.WrongSecret))
	m.damaged.Add(float64(r.Damaged))
	m.ended[endedLogout].Add(float64(r.Ended))
	m.ended[endedReplaced].Add(float64(r.Replaced))
	m.ended[endedLimit].Add(float64(r.LimitEnded))
	if !r.TooOld.Key.IsZero() {
		m.tooOld.Inc()
	}
	if r.Duplicate {
		m.duplicate.Inc()
	}
	if r.Reused.Key != (coatcheck.Key{}) {
		m.reused.Inc()
	}
	if r.Reused.Revoked {
		m.ended[endedReuse].Inc()
	}
}

// revoked counts sessions that were ended, but not by their own requests.
func (m *metrics) revoked(n int) { m.ended[endedRevoked].Add(float64(n)) }

func (m *metrics) device(route middleware.DeviceRoute, outcome middleware.DeviceOutcome) {
	m.devices.WithLabelValues(string(route), string(outcome)).Inc()
}

func (m *metrics) login(outcome string) { m.logins.WithLabelValues(outcome).Inc() }

// gatherer returns what /metrics shows: the server's own, what the configuration adds, the process and the Go runtime.
func (s *Server) gatherer(more []prometheus.Collector) (prometheus.Gatherer, error) {
	registry := prometheus.NewRegistry()
	watchers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_watchers", Help: "Clients that wait for the end of their session (GET /auth/watch).",
	}, func() float64 { return float64(s.manager.Watchers()) })
	all := slices.Concat(s.metrics.all, more, []prometheus.Collector{
		watchers,
		s.requests, s.readyMetrics(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	})
	var errs []error
	for _, c := range all {
		errs = append(errs, registry.Register(c))
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := registry.Gather()
		// The Go version would show an attacker which vulnerabilities to try (OPS-04).
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "go_info" }), err
	}), errors.Join(errs...)
}

// metricsPage answers a scrape. Metrics that cannot be read are left out and do not fail the others.
func metricsPage(from prometheus.Gatherer) fiber.Handler {
	page := fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return func(c *fiber.Ctx) error {
		page(c.Context())
		return nil
	}
}
