package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/shardstore"
)

// storeCollector makes metrics of the store's own counters, because the server knows no store, and no store knows of metrics.
func storeCollector(store coatcheck.Store) prometheus.Collector {
	switch s := store.(type) {
	case *shardstore.Store:
		return &statsCollector[shardstore.Stats]{s.Stats, memoryReadings()}
	case *redisstore.Store:
		return &statsCollector[redisstore.Stats]{s.Stats, redisReadings()}
	default:
		panic("a store that openStore does not open")
	}
}

// statsCollector makes metrics of a store's statistics, which it reads once per scrape.
type statsCollector[S any] struct {
	stats    func() S
	readings []reading[S]
}

// reading is one metric of a store's statistics.
type reading[S any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(S) float64
}

func counterOf[S any](name, help string, of func(S) float64) reading[S] {
	return reading[S]{prometheus.NewDesc("coatcheck_"+name, help, nil, nil), prometheus.CounterValue, of}
}

func gaugeOf[S any](name, help string, of func(S) float64) reading[S] {
	return reading[S]{prometheus.NewDesc("coatcheck_"+name, help, nil, nil), prometheus.GaugeValue, of}
}

// Describe implements prometheus.Collector.
func (c *statsCollector[S]) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range c.readings {
		ch <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (c *statsCollector[S]) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, r := range c.readings {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.of(s))
	}
}

func memoryReadings() []reading[shardstore.Stats] {
	type stats = shardstore.Stats
	return []reading[stats]{
		gaugeOf("sessions", "Sessions in the memory store; those that expired since the janitor came by are among them.", func(s stats) float64 { return float64(s.Sessions) }),
		{server.SessionsEnded("idle"), prometheus.CounterValue, func(s stats) float64 { return float64(s.ExpiredIdle) }},
		{server.SessionsEnded("absolute"), prometheus.CounterValue, func(s stats) float64 { return float64(s.ExpiredAbsolute) }},
		counterOf("memory_janitor_sweeps_total", "How often the janitor came by.", func(s stats) float64 { return float64(s.Sweeps) }),
		counterOf("memory_janitor_seconds_total", "How long the janitor was at work.", func(s stats) float64 { return s.SweepTime.Seconds() }),
		gaugeOf("memory_janitor_lag_seconds", "How long something may be over and still take up memory; about a second when all is well.",
			func(s stats) float64 { return time.Since(s.SweptTo).Seconds() }),
		counterOf("memory_disk_failures_total", "Writes and syncs of --data-dir that failed.", func(s stats) float64 { return float64(s.Failures) }),
		gaugeOf("memory_journal_bytes", "Length of the journal in --data-dir.", func(s stats) float64 { return float64(s.JournalBytes) }),
		gaugeOf("memory_snapshot_bytes", "Length of the last snapshot in --data-dir.", func(s stats) float64 { return float64(s.SnapshotBytes) }),
		gaugeOf("memory_snapshot_timestamp_seconds", "When this process last took a snapshot, 0 if it has not.", func(s stats) float64 {
			if s.SnapshotAt.IsZero() {
				return 0
			}
			return float64(s.SnapshotAt.UnixMilli()) / 1000
		}),
	}
}

func redisReadings() []reading[redisstore.Stats] {
	type stats = redisstore.Stats
	return []reading[stats]{
		counterOf("redis_cache_hits_total", "Loads that the cache answered.", func(s stats) float64 { return float64(s.Hits) }),
		counterOf("redis_cache_misses_total", "Loads that Redis was asked for.", func(s stats) float64 { return float64(s.Misses) }),
		counterOf("redis_cache_invalidations_total", "Cached records that Redis took back.", func(s stats) float64 { return float64(s.Invalidations) }),
		counterOf("redis_cache_flushes_total", "How often the cache was emptied, because a connection was lost or made.", func(s stats) float64 { return float64(s.Flushes) }),
		gaugeOf("redis_cache_records", "Records in the cache.", func(s stats) float64 { return float64(s.CachedRecords) }),
		gaugeOf("redis_cache_bytes", "Bytes that the cache takes up.", func(s stats) float64 { return float64(s.CachedBytes) }),
		counterOf("redis_round_trips_total", "Calls to Redis, each try by itself.", func(s stats) float64 { return float64(s.RoundTrips) }),
		counterOf("redis_round_trip_seconds_total", "How long those took together.", func(s stats) float64 { return s.RoundTripTime.Seconds() }),
		counterOf("redis_errors_total", "Operations that Redis could not do in time.", func(s stats) float64 { return float64(s.Errors) }),
	}
}

// droppedLines is the metric of log lines that were dropped because the log's reader was too slow.
func droppedLines(dropped func() int64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_log_lines_dropped_total", Help: "Log lines, audit events among them, that were not read as fast as they were written, or could not be written.",
	}, func() float64 { return float64(dropped()) })
}

// refuser is a store that knows whether it takes writes.
type refuser interface {
	WritesRefused() (reason string, refused bool)
}

var (
	_ refuser = (*shardstore.Store)(nil)
	_ refuser = (*redisstore.Store)(nil)
)

// writesRefused returns what tells the server whether the store takes writes; nil: that is not known before a write fails.
func writesRefused(store coatcheck.Store) func() (reason string, refused bool) {
	if s, ok := store.(refuser); ok {
		return s.WritesRefused
	}
	return nil
}

// buildInfo is the metric of the program's version. The version of Go is not in it: it would say which holes to try.
func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coatcheck_build_info", Help: "1, with the version of the program.", ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	return g
}

// certificateEnd is the metric of when the certificate in use ends.
func certificateEnd(cert *certificate.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_certificate_expiry_timestamp_seconds", Help: "When the certificate that --tls-cert names ends.",
	}, func() float64 { return float64(cert.NotAfter().Unix()) })
}
