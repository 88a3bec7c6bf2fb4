package perminute_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/internal/perminute"
)

var now = time.Unix(1_800_000_000, 0)

func TestCounts(t *testing.T) {
	c := perminute.New[string](3, 10)
	for range 3 {
		assert.Zero(t, c.Wait("a", now))
		assert.Zero(t, c.Allow("a", now))
	}
	assert.Equal(t, time.Minute, c.Allow("a", now))
	assert.Equal(t, time.Second, c.Allow("a", now.Add(59*time.Second)))
	assert.Equal(t, time.Second, c.Wait("a", now.Add(59*time.Second)))
	assert.Zero(t, c.Wait("b", now), "another key")
	assert.Zero(t, c.Wait("a", now.Add(time.Minute)))
	assert.Zero(t, c.Wait("a", now.Add(-time.Hour)), "a clock that was set back")
	assert.Zero(t, c.Allow("a", now.Add(time.Minute)))
	assert.Zero(t, c.Allow("a", now.Add(time.Minute)), "a new minute")
	for range 5 {
		c.Add("b", now)
	}
	assert.Equal(t, time.Minute, c.Wait("b", now))
}

// The memory has a bound, and however many keys have used it up, one more may have its events, and no more than those.
func TestCountsWhenFull(t *testing.T) {
	c := perminute.New[int](6, 1000)
	for key := range 1100 {
		assert.Zero(t, c.Allow(key, now))
	}
	assert.Equal(t, 1000, c.Len())
	for range 6 {
		assert.Zero(t, c.Allow(-1, now))
	}
	assert.Equal(t, time.Minute, c.Allow(-1, now))
}
