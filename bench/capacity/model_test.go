package main

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Loads whose answer is known without the model.
func TestPredict(t *testing.T) {
	c := Constants{Hit: 10, Miss: Cost{Commands: 3}, Swap: Cost{Commands: 10}, Login: Cost{Commands: 20}, Logout: Cost{Commands: 15}, Invalidation: 100}
	base := Load{Sessions: 1000, Every: 1, Nodes: 1, Reached: 1, Primaries: 1, RenewEvery: 99 * time.Second, CacheTTL: time.Hour}

	p := c.Predict(base)
	assert.InDelta(t, 1000, p.Requests, 1e-6)
	assert.InDelta(t, 10, p.Renewals, 1e-6, "each session is renewed every 100 s")
	assert.InDelta(t, 10, p.Misses, 0.01, "the one node misses once after each write")
	assert.InDelta(t, 10, p.Invalidations, 0.01)
	assert.InDelta(t, 10*3+10*10, p.Commands, 0.1)
	assert.InDelta(t, 1000, p.Tracked, 20)

	spread := base
	spread.Nodes, spread.Reached = 4, 4
	p = c.Predict(spread)
	assert.InDelta(t, 40, p.Misses, 0.1, "each of four nodes")
	assert.InDelta(t, 40, p.Invalidations, 0.1)

	short := base
	short.CacheTTL = 12380 * time.Millisecond
	assert.InDelta(t, 100, c.Predict(short).Misses, 5, "once in nine seconds, about three quarters of the time, and the wait for the next request")

	always := base
	always.RenewEvery = 0
	p = c.Predict(always)
	assert.InDelta(t, 1000, p.Renewals, 1e-6)
	assert.LessOrEqual(t, p.Misses, 1000.0)
}

// Every accepted load has a finite prediction.
func TestPredictIsFinite(t *testing.T) {
	c := Constants{Hit: 1, Miss: Cost{1, 1, 1, 1, 1}, Swap: Cost{1, 1, 1, 1, 1}, Login: Cost{1, 1, 1, 1, 1}, Logout: Cost{1, 1, 1, 1, 1}}
	accepted := 0
	for _, every := range []float64{0.01, 30, 86400} {
		for _, reached := range []int{1, 64} {
			for _, renew := range []time.Duration{0, time.Second, time.Hour} {
				for _, ttl := range []time.Duration{time.Millisecond, time.Minute, 24 * time.Hour} {
					for _, rate := range []float64{0, 1, 1000} {
						l := Load{
							Sessions: 1e4, Every: every, Nodes: 64, Reached: reached, Primaries: 3, RenewEvery: renew, CacheTTL: ttl,
							Logins: rate, Logouts: rate, Refreshes: rate,
						}
						if l.validate() != nil {
							continue
						}
						accepted++
						v := reflect.ValueOf(c.Predict(l))
						for i := range v.NumField() {
							f := v.Field(i).Float()
							require.False(t, math.IsNaN(f) || math.IsInf(f, 0) || f < 0, "%s of %+v: %v", v.Type().Field(i).Name, l, f)
						}
					}
				}
			}
		}
	}
	assert.Greater(t, accepted, 50)
	assert.Error(t, Load{}.validate())
}

// What is no load is refused, in place of an answer that is no number, or none at all.
func TestCommandRefuses(t *testing.T) {
	for _, args := range []string{"-sessions NaN", "-sessions Inf", "-logins NaN", "-logouts NaN", "-refreshes Inf", "-refreshes NaN", "-sessions 0", "1e6", "-nodes 2 again"} {
		assert.Error(t, command(strings.Fields(args)), args)
	}
	assert.NoError(t, command([]string{"-sessions", "1e6"}))
}
