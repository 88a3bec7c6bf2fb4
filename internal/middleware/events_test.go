package middleware

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

// Whatever the clock does, a kind of event has its lines within a minute, and not more.
func TestLinesAMinute(t *testing.T) {
	for _, step := range []time.Duration{-4 * 365 * 24 * time.Hour, -time.Hour, time.Minute, time.Hour, 4 * 365 * 24 * time.Hour} {
		var out bytes.Buffer
		now := time.UnixMilli(1_900_000_000_000)
		e := NewEvents(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
		flood := func() (lines int) {
			before := strings.Count(out.String(), "\n")
			for range 1000 {
				e.Write(netip.Addr{}, slog.LevelWarn, eventDuplicate, "anonymous")
			}
			return strings.Count(out.String(), "\n") - before
		}
		assert.Equal(t, linesPerMinute, flood(), step)
		assert.Zero(t, flood(), step)
		now = now.Add(step)
		assert.Equal(t, linesPerMinute, flood(), step)
		assert.Contains(t, out.String(), "omitted=1940")
		now = now.Add(-step + 2*time.Minute)
		assert.Equal(t, linesPerMinute, flood(), step)
	}
}

// Proofs that fail before it is known for which session hide neither one another nor those of sessions.
func TestProofsWithoutASession(t *testing.T) {
	var out bytes.Buffer
	now := time.UnixMilli(1_900_000_000_000)
	e := NewEvents(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	lines := func() int { return strings.Count(out.String(), "event="+eventNotProved+" ") }
	for range 3 {
		e.Device(new(coatcheck.Request), DeviceRegister, DeviceRefused)
	}
	assert.Equal(t, 3, lines())
	for range 1000 {
		e.Device(new(coatcheck.Request), DeviceRegister, DeviceRefused)
	}
	assert.Equal(t, linesPerMinute, lines())
	e.Write(netip.Addr{}, slog.LevelWarn, eventNotProved, "refused")
	assert.Equal(t, linesPerMinute+1, lines())
}

// However many other tokens are reused, a session's reuse is in the log; the memory for that has a bound.
func TestReuseIsNotPushedOut(t *testing.T) {
	now := time.UnixMilli(1_900_000_000_000)
	e := NewEvents(slog.New(slog.DiscardHandler), func() time.Time { return now })
	for range reuseMax + 1000 {
		assert.True(t, e.mayReport(report{eventReuse, coatcheck.NewToken(coatcheck.Tag{}).Key()}))
	}
	assert.LessOrEqual(t, len(e.reported), reuseMax)
	key := report{eventReuse, coatcheck.NewToken(coatcheck.Tag{}).Key()}
	assert.True(t, e.mayReport(key))
	assert.False(t, e.mayReport(key), "once a minute")
}
