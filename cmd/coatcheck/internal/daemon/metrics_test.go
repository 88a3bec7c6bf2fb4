package daemon

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/shardstore"
)

// A disk that fails shows in the metrics.
func TestMetricsOfADiskThatFails(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&statsCollector[shardstore.Stats]{func() shardstore.Stats {
		return shardstore.Stats{Failures: 7}
	}, memoryReadings()})
	families, err := registry.Gather()
	require.NoError(t, err)
	found := make(map[string]float64)
	for _, f := range families {
		found[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
	}
	assert.Equal(t, 7.0, found["coatcheck_memory_disk_failures_total"])
}
