package redisstore

import (
	"sync/atomic"
	"time"
)

// Stats counts what a Store has done since it was made.
type Stats struct {
	// Hits are Loads that the cache answered, Misses all others.
	Hits, Misses uint64
	// Invalidations are cached records that Redis invalidated.
	Invalidations uint64
	// Flushes is how often the cache was emptied, because a connection was lost or made.
	Flushes uint64
	// CachedRecords and CachedBytes are what the cache holds now.
	CachedRecords, CachedBytes int
	// Errors are calls that ended in coatcheck.ErrUnavailable.
	Errors uint64
	// RoundTrips are calls to Redis, each try by itself, and RoundTripTime how long they took together. Reads that fill the
	// cache are not among them: no request waits for those.
	RoundTrips    uint64
	RoundTripTime time.Duration
}

// counters are written by the goroutine that does what they count.
type counters struct {
	misses     atomic.Uint64
	errors     atomic.Uint64
	roundTrips atomic.Uint64
	tripTime   atomic.Int64
}

func (c *counters) roundTrip(began time.Time) {
	c.roundTrips.Add(1)
	c.tripTime.Add(int64(time.Since(began)))
}

// Stats returns the counts. Each count is exact, but they are not all of one moment.
func (s *Store) Stats() Stats {
	st := Stats{
		Misses:        s.stats.misses.Load(),
		Errors:        s.stats.errors.Load(),
		RoundTrips:    s.stats.roundTrips.Load(),
		RoundTripTime: time.Duration(s.stats.tripTime.Load()),
	}
	if s.cache != nil {
		s.cache.addTo(&st)
	}
	return st
}
