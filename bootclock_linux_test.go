package coatcheck_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A manager that nobody gave a clock measures logins by the one that also counts while the machine sleeps (CASES A5). Only where
// the machine has slept since it started does this tell it from CLOCK_MONOTONIC.
func TestLoginsAreMeasuredSinceBoot(t *testing.T) {
	boot := func() time.Duration {
		var now unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
		return time.Duration(now.Nano())
	}
	m := newWorld(t).m
	before := boot()
	got := m.SinceBoot()
	assert.GreaterOrEqual(t, got, before)
	assert.LessOrEqual(t, got, boot())
}
