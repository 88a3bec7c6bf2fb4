package server

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A visitor is polite while others come and go too, and for some answers after anybody woke.
func TestPoliteVisitors(t *testing.T) {
	p := new(porch)
	one, other := &visitor{porch: p}, &visitor{porch: p}
	for range 3 {
		one.wakes()
		assert.False(t, one.polite(), "nobody else is there")
	}
	other.wakes()
	one.wakes()
	for range (politeFor - 1) / 2 {
		assert.True(t, one.polite())
		assert.True(t, other.polite())
	}
	one.polite()
	assert.False(t, one.polite(), "who sleeps must be looked for")
	assert.False(t, other.polite())

	other.wakes()
	assert.True(t, one.polite(), "the other one woke, so it was looked for")
	for range 2 {
		one.wakes()
	}
	assert.False(t, one.polite(), "the other one came no more")
}
