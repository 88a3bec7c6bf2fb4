package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
)

// storeMetrics holds how long the store's operations took, and how many failed. Load is not timed: it takes no longer than
// reading the clock twice, and one call more is 2 % of a request's work in process. Its failures are counted where they
// appear, in observer.Opened; the duration of requests to /auth/me shows the rest, and a store on another machine counts its
// requests itself.
type storeMetrics struct {
	duration *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	timed    [operations]prometheus.Observer
	failed   [operations]prometheus.Counter
}

func newStoreMetrics() *storeMetrics {
	m := &storeMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coatcheck_store_operation_duration_seconds",
			Help:    "Time that the store's operations took; a load is part of its request's time.",
			Buckets: durationBuckets,
		}, []string{"operation"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_store_errors_total",
			Help: "Operations that the store could not do, which are answered 503. What is not found is no error.",
		}, []string{"operation"}),
	}
	for op := range operations {
		if m.failed[op] = m.errors.WithLabelValues(op.String()); op != OpLoad {
			m.timed[op] = m.duration.WithLabelValues(op.String())
		}
	}
	return m
}

func (m *storeMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.errors}
}

// around returns the store with its operations timed.
func (m *storeMetrics) around(store coatcheck.Store) coatcheck.Store {
	if store == nil {
		return nil // NewManager returns the error
	}
	return &observedStore{Store: store, observer: m}
}

// Begin implements StoreObserver.
func (*storeMetrics) Begin(ctx context.Context, _ Operation) context.Context { return ctx }

// Done implements StoreObserver.
func (m *storeMetrics) Done(_ context.Context, op Operation, began time.Time, err error) {
	m.timed[op].Observe(time.Since(began).Seconds())
	m.count(op, err)
}

func (m *storeMetrics) count(op Operation, err error) {
	if StoreFailed(err) {
		m.failed[op].Inc()
	}
}

// loadFailed is called when a request's session could not be opened. After a reuse the operation that failed was End, which
// counted it.
func (m *metrics) loadFailed(r *coatcheck.Report, err error) {
	if r.Reused.Key.IsZero() {
		m.store.count(OpLoad, err)
	}
}
