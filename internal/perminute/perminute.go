// Package perminute counts how often something happens in a minute.
package perminute

import (
	"sync"
	"time"
)

// Counts counts events by a key, each key up to a limit a minute, in bounded memory. Safe for concurrent use.
type Counts[K comparable] struct {
	limit, keys int

	mu     sync.Mutex
	counts map[K]minute // guarded by mu
}

// minute is how many events there were in the minute that began then.
type minute struct {
	began time.Time
	n     int
}

// New returns Counts that allow a key limit events a minute, and that remember so many keys.
func New[K comparable](limit, keys int) *Counts[K] {
	return &Counts[K]{limit: limit, keys: keys, counts: make(map[K]minute)}
}

// Wait returns how long it is until the key may have another event, 0 if it may now. It counts none.
func (c *Counts[K]) Wait(key K, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wait(c.current(key, now), now)
}

// Add counts an event of the key, even over the limit.
func (c *Counts[K]) Add(key K, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, c.current(key, now))
}

// Allow is Add where Wait returns 0, and else counts nothing.
func (c *Counts[K]) Allow(key K, now time.Time) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.current(key, now)
	if wait = c.wait(m, now); wait == 0 {
		c.add(key, m)
	}
	return wait
}

// Len returns the number of keys that are remembered.
func (c *Counts[K]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.counts)
}

// current returns the key's minute, which begins now if the last one is over, or if the clock was set back to before it.
func (c *Counts[K]) current(key K, now time.Time) minute {
	m := c.counts[key]
	if passed := now.Sub(m.began); passed >= time.Minute || passed < 0 {
		return minute{began: now}
	}
	return m
}

func (c *Counts[K]) wait(m minute, now time.Time) time.Duration {
	if m.n < c.limit {
		return 0
	}
	return m.began.Add(time.Minute).Sub(now)
}

func (c *Counts[K]) add(key K, m minute) {
	if _, known := c.counts[key]; !known && len(c.counts) >= c.keys {
		for other := range c.counts { // a full map must neither free this key from its limit nor keep it from its events
			delete(c.counts, other)
			break
		}
	}
	m.n++
	c.counts[key] = m
}
