package login

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Ledger counts failures in buckets. Each method is atomic, so that nodes which share a ledger share the counts; in Redis
// each method is one script. A bucket's name is a digest, the same on every node, and does not reveal the account or
// address. Rule defines the arithmetic. The signatures hold standard types only, so that a store can have a Ledger without
// importing this package. A Ledger is safe for concurrent use.
type Ledger interface {
	// Reserve counts a failure of the bucket in advance and returns 0; or counts nothing and returns how long the next
	// attempt has to wait.
	Reserve(ctx context.Context, bucket [16]byte, now time.Time) (wait time.Duration, err error)
	// Wait is Reserve without the counting: it returns how long the next attempt has to wait, and 0 if Reserve would count now. It
	// writes nothing, but that times in the future may move back, as Reserve moves them.
	Wait(ctx context.Context, bucket [16]byte, now time.Time) (wait time.Duration, err error)
	// GiveBack takes one counted failure back.
	GiveBack(ctx context.Context, bucket [16]byte) error
	// Reset forgets the bucket's failures.
	Reset(ctx context.Context, bucket [16]byte) error
}

// Rule is how many failures a bucket may have. A bucket keeps two times: when it will have forgotten all failures, and when
// the last one was counted. Both are of the wall clock, because nodes share them; Reserve moves them back when it finds the
// last failure in the future, because the clock that counted it was ahead.
type Rule struct {
	// Forget is how long it takes to forget one failure; several are forgotten one after the other.
	Forget time.Duration
	// Delays[n-1] is how long no attempt is accepted after the n-th failure; the last delay holds for all further failures.
	Delays []time.Duration
}

// delays are the delays of both rules: four failures are free, the tenth locks.
var delays = []time.Duration{0, 0, 0, 0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, Lock}

// Lock is how long an account, or a client's address, is locked after ten failures.
const Lock = 15 * time.Minute

// AccountRule forgets slowly: after a lock one attempt in fifteen minutes is accepted, until no attempt came for longer or
// one succeeds.
func AccountRule() Rule { return Rule{Forget: Lock, Delays: delays} }

// AddressRule forgets quickly: while a lock lasts, all failures that led to it are forgotten. Many users can share an
// address, and a success of one does not reset the failures of the others.
func AddressRule() Rule { return Rule{Forget: Lock / 10, Delays: delays} }

// tally is what a bucket keeps, in nanoseconds since 1970.
type tally struct {
	empty int64 // when all failures will be forgotten
	last  int64 // when the last one was counted
}

// failures returns how many are not forgotten at the time.
func (r Rule) failures(t tally, at int64) int64 {
	forget := int64(r.Forget)
	return max(0, t.empty-at+forget-1) / forget
}

// follow returns the tally as the clock that shows now has it. If the last failure lies in the future, the clock was ahead
// then and has been set right: the failures stay, and their times move back with the clock, so that no lock lasts for as
// long as the clock was ahead. More failures than there are delays are not remembered.
func (r Rule) follow(t tally, now int64) tally {
	if t.last > now {
		t.empty -= t.last - now
		t.last = now
	}
	t.empty = min(t.empty, t.last+int64(len(r.Delays))*int64(r.Forget))
	return t
}

// wait returns how long the next attempt has to wait; 0 if it need not.
func (r Rule) wait(t tally, now int64) time.Duration {
	n := r.failures(t, t.last)
	if n == 0 {
		return 0
	}
	delay := r.Delays[min(n, int64(len(r.Delays)))-1]
	return max(0, time.Duration(t.last+int64(delay)-now))
}

// locked reports whether the tally has the last delay, and this is not over.
func (r Rule) locked(t tally, now int64) bool {
	return r.failures(t, t.last) >= int64(len(r.Delays)) && r.wait(t, now) > 0
}

// count returns the tally with one failure more.
func (r Rule) count(t tally, now int64) tally {
	return r.follow(tally{empty: max(t.empty, now) + int64(r.Forget), last: now}, now)
}

const (
	ways = 8 // places in a set
	sets = 1 << 14
)

// MemoryLedger is the Ledger of one node. It always takes 4.4 MiB, and holds no pointers.
//
// A bucket has its place in one of the ways of its set. A random seed chooses the set, so that an attacker cannot aim at
// the set of another bucket. In a full set a new bucket takes the place with the fewest failures, but at most a single failure is
// lost by that: if that place has more, the new bucket starts with them, and so does the count that those without a place share. So
// a locked bucket stays locked, and two failures are never forgotten, whatever names an attacker sprays; displacing a single failure
// takes 16,000 to 131,000 other names. If names that failed twice fill the ledger, counts can be too high.
//
// Where all places of a set are locked, or one failure would lock them, new buckets share one count, which is never locked: otherwise
// whoever can have 100,000 buckets locked, as one with an IPv6 /48 can, would lock everybody else out. Such a bucket waits after each
// failure that shares the count, for the delay before the lock at most (of a rule that has none, for that of the lock), and what takes
// one failure of it back, or all, takes one of those that they share.
type MemoryLedger struct {
	rule Rule
	seed maphash.Seed
	sets []set
}

type set struct {
	mu     sync.Mutex
	places [ways]place // guarded by mu
	rest   tally       // guarded by mu: of all buckets that find no room
}

type place struct {
	bucket [16]byte
	tally
}

// NewMemoryLedger returns an empty ledger.
func NewMemoryLedger(rule Rule) *MemoryLedger { return newMemoryLedger(rule, sets) }

func newMemoryLedger(rule Rule, sets int) *MemoryLedger {
	return &MemoryLedger{rule: rule, seed: maphash.MakeSeed(), sets: make([]set, sets)}
}

// Reserve implements Ledger. It returns no error.
func (m *MemoryLedger) Reserve(_ context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	at := now.UnixNano()
	s := m.set(bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, t := s.look(m.rule, bucket, at)
	if wait := m.rule.wait(t, at); wait > 0 {
		return wait, nil
	}
	if p == nil {
		s.countTogether(m.rule, at)
		return 0, nil
	}
	if p.bucket != bucket { // the one that loses its place may find no other
		s.rest = tally{empty: max(s.rest.empty, t.empty), last: max(s.rest.last, t.last)}
	}
	*p = place{bucket: bucket, tally: m.rule.count(t, at)}
	return 0, nil
}

// Wait implements Ledger. It returns no error.
func (m *MemoryLedger) Wait(_ context.Context, bucket [16]byte, now time.Time) (time.Duration, error) {
	at := now.UnixNano()
	s := m.set(bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, t := s.look(m.rule, bucket, at)
	return m.rule.wait(t, at), nil
}

// GiveBack implements Ledger. It returns no error.
func (m *MemoryLedger) GiveBack(_ context.Context, bucket [16]byte) error {
	s := m.set(bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	m.giveBack(s, bucket)
	return nil
}

// Reset implements Ledger. It returns no error.
func (m *MemoryLedger) Reset(_ context.Context, bucket [16]byte) error {
	s := m.set(bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.find(bucket); p != nil {
		*p = place{}
		return nil
	}
	m.giveBack(s, bucket)
	return nil
}

func (m *MemoryLedger) giveBack(s *set, bucket [16]byte) {
	t := &s.rest // where the failure was counted if the bucket has no place
	if p := s.find(bucket); p != nil {
		t = &p.tally
	}
	t.empty -= int64(m.rule.Forget)
}

func (m *MemoryLedger) set(bucket [16]byte) *set {
	return &m.sets[maphash.Comparable(m.seed, bucket)%uint64(len(m.sets))]
}

// look returns the place at which the bucket's next failure would be counted, nil for the count that those without a place share, and
// the failures with which it would be counted. All tallies of the set follow the clock before.
func (s *set) look(rule Rule, bucket [16]byte, now int64) (*place, tally) {
	s.follow(rule, now)
	if p := s.find(bucket); p != nil {
		return p, p.tally
	}
	p := s.room(rule, now)
	switch {
	case p == nil:
		return nil, s.rest
	case rule.failures(p.tally, now) > 1:
		return p, p.tally
	}
	return p, tally{}
}

// follow makes the set's tallies follow the clock.
func (s *set) follow(rule Rule, now int64) {
	for i := range s.places {
		s.places[i].tally = rule.follow(s.places[i].tally, now)
	}
	s.rest = rule.follow(s.rest, now)
}

func (s *set) find(bucket [16]byte) *place {
	for i := range s.places {
		if s.places[i].bucket == bucket && s.places[i].empty != 0 {
			return &s.places[i]
		}
	}
	return nil
}

// room returns the place that will be empty first of those with which a new bucket may start, nil if there is none: its first failure
// must not lock it. That is so also where a lock is over, because not all failures that led to it are forgotten then.
func (s *set) room(rule Rule, now int64) *place {
	most := max(1, int64(len(rule.Delays))-2) // of one failure a new bucket takes over none
	var p *place
	for i := range s.places {
		other := &s.places[i]
		if rule.locked(other.tally, now) || rule.failures(other.tally, now) > most {
			continue
		}
		if p == nil || other.empty < p.empty {
			p = other
		}
	}
	return p
}

// countTogether counts a failure of a bucket for which there is no room.
func (s *set) countTogether(rule Rule, now int64) {
	s.rest = rule.count(s.rest, now)
	most := len(rule.Delays) - 1 // one failure less than locks
	if most == 0 || rule.Delays[most-1] == 0 {
		most++ // a rule without another delay would not limit them at all
	}
	s.rest.empty = min(s.rest.empty, now+int64(most)*int64(rule.Forget))
}
