package server

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
)

// However many sessions have ended others in a minute, one more session may, and the memory has a bound.
func TestEndLimitWhenFull(t *testing.T) {
	l := endLimit{perMinute: endOthersPerMinute}
	now := time.Unix(1_800_000_000, 0)
	key := func(n int) (k coatcheck.Key) {
		binary.BigEndian.PutUint64(k[:], uint64(n+1))
		return k
	}
	for n := range endLimitSessions + 100 {
		assert.Zero(t, l.allow(key(n), now))
	}
	assert.Len(t, l.counts, endLimitSessions)

	last := key(endLimitSessions + 200)
	for range endOthersPerMinute {
		assert.Zero(t, l.allow(last, now))
	}
	assert.Equal(t, time.Minute, l.allow(last, now))
	assert.Equal(t, time.Second, l.allow(last, now.Add(59*time.Second)))
	assert.Zero(t, l.allow(last, now.Add(time.Minute)))
	assert.Zero(t, l.allow(last, now.Add(-time.Hour)), "a clock that went back")
}
