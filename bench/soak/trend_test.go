package main

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// samplesOf is n samples, two seconds apart, of f at the share of the time that has passed.
func samplesOf(n int, f func(share float64, i int) float64) (at, values []float64) {
	for i := range n {
		at = append(at, float64(2*i))
		values = append(values, f(float64(i)/float64(n-1), i))
	}
	return at, values
}

// A verdict must fail on a leak, or it is worth nothing, and must not fail on noise, or people ignore it.
func TestTrend(t *testing.T) {
	limit := allowance{share: 0.1, floor: 1}
	for name, tt := range map[string]struct {
		f    func(r *rand.Rand) func(share float64, i int) float64
		want bool
	}{
		"a constant": {func(*rand.Rand) func(float64, int) float64 {
			return func(float64, int) float64 { return 100 }
		}, false},
		"noise": {func(r *rand.Rand) func(float64, int) float64 {
			return func(float64, int) float64 { return 100 + 20*r.NormFloat64() }
		}, false},
		"a sawtooth, as a collector's": {func(r *rand.Rand) func(float64, int) float64 {
			return func(_ float64, i int) float64 { return 100 + float64(i%17)*2 + r.NormFloat64() }
		}, false},
		"a random walk that returns": {func(r *rand.Rand) func(float64, int) float64 {
			x := 0.0
			return func(float64, int) float64 { x = 0.9*x + r.NormFloat64(); return 100 + x }
		}, false},
		"growth until the middle": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 + 80*min(share, 0.5) + r.NormFloat64() }
		}, false},
		"a peak in the second half": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 {
				if share > 0.8 && share < 0.9 {
					return 300
				}
				return 100 + r.NormFloat64()
			}
		}, false},
		"falling": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 - 60*share + r.NormFloat64() }
		}, false},
		"growth below what is allowed": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 + 10*share + r.NormFloat64() }
		}, false},
		"a leak": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 + 40*share + r.NormFloat64() }
		}, true},
		"a leak under noise": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 + 60*share + 20*r.NormFloat64() }
		}, true},
		"a leak under a sawtooth": {func(*rand.Rand) func(float64, int) float64 {
			return func(share float64, i int) float64 { return 100 + 60*share + float64(i%17)*2 }
		}, true},
		"a leak in steps": {func(*rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 { return 100 + 10*math.Floor(share*8) }
		}, true},
		"a leak with outliers": {func(r *rand.Rand) func(float64, int) float64 {
			return func(share float64, _ int) float64 {
				if r.IntN(10) == 0 {
					return 10
				}
				return 100 + 60*share
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				at, values := samplesOf(600, tt.f(rand.New(rand.NewPCG(seed, 0)))) //nolint:gosec // a test that repeats
				got, err := trendOf(at, values)
				require.NoError(t, err)
				assert.Equal(t, tt.want, got.grows(limit), "seed %d: %+v", seed, got)
			}
		})
	}
}

func TestTrendOfAStraightLine(t *testing.T) {
	at, values := samplesOf(101, func(share float64, _ int) float64 { return 1000 * share })
	got, err := trendOf(at, values)
	require.NoError(t, err)
	assert.InDelta(t, 500, got.Growth, 1e-6)
	assert.InDelta(t, 500, got.AtLeast, 1e-6)
	assert.InDelta(t, 750, got.Median, 1e-6)
	assert.True(t, got.grows(allowance{floor: 499}))
	assert.False(t, got.grows(allowance{floor: 501}))
	assert.False(t, got.grows(allowance{share: 0.7}))
}

func TestTrendNeedsSamples(t *testing.T) {
	at, values := samplesOf(minSamples-1, func(share float64, _ int) float64 { return share })
	_, err := trendOf(at, values)
	require.Error(t, err)
	_, err = trendOf(make([]float64, minSamples), make([]float64, minSamples))
	assert.Error(t, err, "all at once")
}
