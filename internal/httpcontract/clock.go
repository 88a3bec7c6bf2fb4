package httpcontract

import (
	"sync/atomic"
	"time"
)

// The policy of the application under test, unless a rule asks for another: the contract's defaults.
const (
	TTL         = 30 * time.Minute
	RenewEvery  = 3 * time.Minute
	MaxLifetime = 12 * time.Hour
	Grace       = 10 * time.Second
)

// Clock is a clock that a test moves. Safe for concurrent use.
type Clock struct{ ms atomic.Int64 }

// NewClock returns a clock that stands at the real time.
func NewClock() *Clock {
	c := new(Clock)
	c.CatchUp()
	return c
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

// Step moves the clock forward by d, in whole milliseconds.
func (c *Clock) Step(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// CatchUp sets the clock to the real time again. Otherwise, after a rule that has taken long, a tombstone and the like in a
// store with a clock of its own would be over at once.
func (c *Clock) CatchUp() { c.ms.Store(time.Now().UnixMilli()) }

// RFC3339 is how the contract writes the clock's time, moved by d.
func (c *Clock) RFC3339(d time.Duration) string {
	return c.Now().Add(d).UTC().Format("2006-01-02T15:04:05.000Z")
}
