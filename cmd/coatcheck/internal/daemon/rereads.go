package daemon

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// rereads is what /readyz and the metrics show of a reloader. It is safe for concurrent use.
type rereads struct {
	failures *prometheus.CounterVec
	failing  *prometheus.GaugeVec

	mu  sync.Mutex
	not map[string]bool // guarded by mu: the settings whose sources could not be re-read
}

func newRereads() *rereads {
	return &rereads{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_reload_failures_total",
			Help: "How often a file could not be read again, at a HUP, at a try after one, or by itself, by the setting that names it.",
		}, []string{"setting"}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "coatcheck_reload_failed",
			Help: "1 while a file could not be read again and what was read before is in effect, by the setting that names it.",
		}, []string{"setting"}),
		not: make(map[string]bool),
	}
}

func (r *rereads) collectors() []prometheus.Collector {
	return []prometheus.Collector{r.failures, r.failing}
}

// add makes the series of a setting appear, so that its first failure is an increase.
func (r *rereads) add(setting string) {
	r.failures.WithLabelValues(setting)
	r.failing.WithLabelValues(setting)
}

func (r *rereads) failed(setting string) {
	r.failures.WithLabelValues(setting).Inc()
	r.set(setting, true)
}

func (r *rereads) succeeded(setting string) { r.set(setting, false) }

func (r *rereads) set(setting string, failing bool) {
	value := 0.0
	if failing {
		value = 1
	}
	r.failing.WithLabelValues(setting).Set(value)
	r.mu.Lock()
	defer r.mu.Unlock()
	if failing {
		r.not[setting] = true
	} else {
		delete(r.not, setting)
	}
}

// any reports whether a source could not be re-read.
func (r *rereads) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.not) > 0
}
