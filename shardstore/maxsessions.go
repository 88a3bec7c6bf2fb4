package shardstore

import "time"

// admit takes a place for one session more and reports whether there was one. A Create that ends a session under the same
// lock brings its own place.
func (s *Store) admit(endsOne bool) bool {
	if s.max == 0 || endsOne {
		s.live.Add(1)
		return true
	}
	for {
		n := s.live.Load()
		if n >= s.max {
			return false
		}
		if s.live.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// makeRoom removes what has expired, shard by shard, until a place is free, and reports whether one is.
func (s *Store) makeRoom(now time.Time) bool {
	for i := range s.shards {
		for more := true; more && s.live.Load() >= s.max; {
			more = s.shards[i].sweep(now.UnixMilli())
		}
	}
	return s.live.Load() < s.max
}
