package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/report"
	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// times returns n durations distributed like those of hashing: a minimum and a tail.
func times(r *rand.Rand, n int, floor float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = floor * (1 + 0.05*r.ExpFloat64())
	}
	return all
}

// judge must find a difference of a tenth and of a fiftieth, and must not call two samples of one distribution different.
func TestJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	false1 := 0
	for range 50 {
		v, err := judge(times(r, 1000, 25), times(r, 1000, 25))
		require.NoError(t, err)
		if !v.same() {
			false1++
		}
		v, err = judge(times(r, 1000, 25), times(r, 1000, 27.5))
		require.NoError(t, err)
		assert.False(t, v.same(), "a tenth: %+v", v)
		assert.InDelta(t, 0.1, v.delta(), 0.02)
		v, err = judge(times(r, 1000, 25), times(r, 1000, 25.5))
		require.NoError(t, err)
		assert.Less(t, v.p, minP, "a fiftieth shows in p, not in the medians")
	}
	assert.LessOrEqual(t, false1, 3, "of 50, at one in a hundred")
	_, err := judge(nil, []float64{1})
	assert.Error(t, err)
}

// A few attempts against the real program show that the measurement reaches it, that throttling does not answer, and that every
// reason occurs. A statement about the times needs more attempts.
func TestRefusals(t *testing.T) {
	program, err := testprogram.Shipped(t.TempDir())
	require.NoError(t, err)
	const n = 8
	lines, err := usersOf(n)
	require.NoError(t, err)
	target, err := startTarget(context.Background(), program, lines) // the test's context ends before the cleanup
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, target.stop()) })
	took, err := refusals(t.Context(), target.address, n)
	require.NoError(t, err)
	require.Len(t, took, len(reasons))
	for _, reason := range reasons {
		assert.Len(t, took[reason], n)
		assert.Greater(t, report.Quantile(took[reason], 0.01), 2.0, fmt.Sprintf("%s: faster than a hash can be computed", reason))
	}
}

// What it does not understand is refused, before a server is started; help is help.
func TestArguments(t *testing.T) {
	for args, says := range map[string]string{
		"": "timing or storm", "-n 5": "timing or storm", "strom": "timing or storm", "timing again": "only flags", "timing -n 0": "must be positive",
		"storm -rounds -1": "must be positive", "storm -window 0s": "must be positive", "storm -every -1s": "must be positive",
	} {
		assert.ErrorContains(t, run(strings.Fields(args)), says, args)
	}
	assert.NoError(t, run([]string{"-h"}))
	assert.NoError(t, run([]string{"storm", "-h"}))
}
