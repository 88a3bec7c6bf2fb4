package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
)

// operation is a method of the store.
type operation int

const (
	opLoad operation = iota
	opMark
	opCreate
	opSwap
	opEnd
	opList
	opEndUser
	opPing
	operations
)

var operationNames = [operations]string{"load", "mark", "create", "swap", "end", "list", "end_user", "ping"}

// storeMetrics is how long the store's operations took, and how many it could not do.
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
	for op, name := range operationNames {
		if m.failed[op] = m.errors.WithLabelValues(name); operation(op) != opLoad {
			m.timed[op] = m.duration.WithLabelValues(name)
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
		return nil // NewManager says so
	}
	return &timedStore{Store: store, metrics: m}
}

// timedStore is a store whose operations are timed and whose failures are counted. Not so Load, which is on the way of every
// request: it takes no longer than reading the clock twice, and one call more is 2 % of a request's work in process. Its
// failures are counted where they show, in observer.Opened; how long a request to /auth/me takes tells the rest, and a store
// that asks another machine counts that itself.
type timedStore struct {
	coatcheck.Store
	metrics *storeMetrics
}

// loadFailed is called when a request's session could not be opened. After a reuse it was End that failed, and counted that.
func (m *metrics) loadFailed(r *coatcheck.Report, err error) {
	if r.Reused.Key.IsZero() {
		m.store.count(opLoad, err)
	}
}

// done is called when an operation has returned.
func (m *storeMetrics) done(op operation, began time.Time, err error) {
	m.timed[op].Observe(time.Since(began).Seconds())
	m.count(op, err)
}

// answers are errors by which a store tells what it was asked.
var answers = []error{
	coatcheck.ErrNotFound, coatcheck.ErrEnded, coatcheck.ErrConflict, coatcheck.ErrRevoked, coatcheck.ErrFull, coatcheck.ErrDamaged,
}

// StoreFailed reports whether an error of a store's operation means that the store could not do it, and is no answer, such as
// that there is no such session. Nil is no failure.
func StoreFailed(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, coatcheck.ErrUnavailable) { // some join it with an answer
		return true
	}
	return !slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

func (m *storeMetrics) count(op operation, err error) {
	if StoreFailed(err) {
		m.failed[op].Inc()
	}
}

// Mark implements coatcheck.Store.
func (s *timedStore) Mark(ctx context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	began := time.Now()
	mark, err := s.Store.Mark(ctx, user, now)
	s.metrics.done(opMark, began, err)
	return mark, err
}

// Create implements coatcheck.Store.
func (s *timedStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	began := time.Now()
	ended, err := s.Store.Create(ctx, rec, opt, now)
	s.metrics.done(opCreate, began, err)
	return ended, err
}

// Swap implements coatcheck.Store.
func (s *timedStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	began := time.Now()
	err := s.Store.Swap(ctx, rec, old, now, cur)
	s.metrics.done(opSwap, began, err)
	return err
}

// End implements coatcheck.Store.
func (s *timedStore) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	began := time.Now()
	err := s.Store.End(ctx, key, user, now, until, last)
	s.metrics.done(opEnd, began, err)
	return err
}

// List implements coatcheck.Store.
func (s *timedStore) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	began := time.Now()
	err := s.Store.List(ctx, user, now, yield)
	s.metrics.done(opList, began, err)
	return err
}

// EndUser implements coatcheck.Store.
func (s *timedStore) EndUser(ctx context.Context, user string, keep coatcheck.Key, now, until time.Time) (int, error) {
	began := time.Now()
	ended, err := s.Store.EndUser(ctx, user, keep, now, until)
	s.metrics.done(opEndUser, began, err)
	return ended, err
}

// Ping implements coatcheck.Store.
func (s *timedStore) Ping(ctx context.Context) error {
	began := time.Now()
	err := s.Store.Ping(ctx)
	s.metrics.done(opPing, began, err)
	return err
}
