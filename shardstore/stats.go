package shardstore

import "time"

// Stats describes the state of a store.
type Stats struct {
	// Sessions is what Len returns.
	Sessions int
	// JournalBytes is how long the journal is, SnapshotBytes how long the last snapshot. 0 without Options.Dir.
	JournalBytes, SnapshotBytes int64
	// SnapshotAt is when this store last took a snapshot, the zero time if it took none.
	SnapshotAt time.Time
	// Refusing is why writes are refused at the moment, nil if they are not: a full disk, or one that failed.
	Refusing error
	// Failures is how many writes and syncs have failed.
	Failures uint64
	// ExpiredIdle and ExpiredAbsolute are how many sessions were removed because they had expired, counted by the expiry
	// that came first.
	ExpiredIdle, ExpiredAbsolute uint64
	// Sweeps is how many rounds the janitor has done, SweepTime how long they took together.
	Sweeps    uint64
	SweepTime time.Duration
	// SweptTo is the time of the last round, by the store's clock: what had expired then is gone.
	SweptTo time.Time
}

// Stats returns the state of the store.
func (s *Store) Stats() Stats {
	st := Stats{
		Sessions:    s.Len(),
		ExpiredIdle: s.swept.idle.Load(), ExpiredAbsolute: s.swept.absolute.Load(),
		Sweeps: s.swept.rounds.Load(), SweepTime: time.Duration(s.swept.took.Load()), SweptTo: time.UnixMilli(s.swept.upTo.Load()),
	}
	if s.disk == nil {
		return st
	}
	st.JournalBytes, st.SnapshotBytes = s.disk.journal.size(), s.disk.snapshotBytes.Load()
	if ms := s.disk.snapshotAt.Load(); ms != 0 {
		st.SnapshotAt = time.UnixMilli(ms)
	}
	if t := s.disk.journal.failure.Load(); t != nil {
		st.Refusing = t.err
	}
	st.Failures = s.disk.journal.failures.Load()
	return st
}

// WritesRefused reports whether writes are refused at the moment, because the disk of Options.Dir is full or failed, and why.
func (s *Store) WritesRefused() (reason string, refused bool) {
	if s.disk == nil {
		return "", false
	}
	t := s.disk.journal.failure.Load()
	if t == nil {
		return "", false
	}
	return t.err.Error(), true
}
