package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A visitor is polite while others come and go too, and for a millisecond after anybody woke.
func TestPoliteVisitors(t *testing.T) {
	p := new(porch)
	one, other := &visitor{porch: p}, &visitor{porch: p}
	const tick = politeFor / 4
	for i := range time.Duration(3) {
		one.wakes((100 + i) * tick)
		assert.False(t, one.polite((100+i)*tick), "nobody else is there")
	}
	now := 200 * tick
	other.wakes(now)
	one.wakes(now + 1)
	assert.True(t, one.polite(now+2))
	assert.True(t, one.polite(now+politeFor))
	assert.False(t, one.polite(now+1+politeFor), "who sleeps must be looked for")
	assert.True(t, other.polite(now+2))
	assert.False(t, other.polite(now+1+politeFor))

	other.wakes(now + 2*politeFor)
	assert.True(t, one.polite(now+2*politeFor+tick), "the other one woke, so it was looked for")
	for range 2 {
		now += 10 * politeFor
		one.wakes(now)
	}
	assert.False(t, one.polite(now), "the other one came no more")
}
