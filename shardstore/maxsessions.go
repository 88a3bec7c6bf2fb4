package shardstore

import "time"

// takePlace takes one of the places of Options.MaxSessions for a new session, and reports whether one was free. A Create
// that ends a session under the same lock uses the place of that session.
func (s *Store) takePlace(endsOne bool) bool {
	if s.max == 0 {
		return true
	}
	if endsOne {
		s.taken.Add(1)
		return true
	}
	for {
		n := s.taken.Load()
		if n >= s.max {
			return false
		}
		if s.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// givePlace gives back what takePlace took.
func (s *Store) givePlace() {
	if s.max != 0 {
		s.taken.Add(-1)
	}
}

// makeRoom removes expired sessions, shard by shard, until a place is free, and reports whether one is.
func (s *Store) makeRoom(now time.Time) bool {
	for i := range s.shards {
		for more := true; more && s.taken.Load() >= s.max; {
			more = s.shards[i].sweep(now.UnixMilli())
		}
	}
	return s.taken.Load() < s.max
}
