package shardstore

import (
	"errors"
	"fmt"
	"time"
)

// Sweep is one round of the janitor.
func (s *Store) Sweep() { s.sweep() }

// SweepOnce is one hold of the first shard's lock.
func (s *Store) SweepOnce(now time.Time) (more bool) { return s.shards[0].sweep(now.UnixMilli()) }

// Hold takes a shard's lock, and returns what lets it go.
func (s *Store) Hold(shard int) (letGo func()) {
	s.shards[shard].mu.Lock()
	return s.shards[shard].mu.Unlock
}

// Break makes the next look at a shard's queue panic, and returns what mends it.
func (s *Store) Break(shard int) (mend func()) {
	sh := &s.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	items := sh.ends.items
	sh.ends.items = heapOf[*entry]{nil}
	return func() { sh.ends.items = items }
}

// Sizes is how much a store holds.
type Sizes struct{ Sessions, Tombstones, Users, Indexed, Marks int }

// Sizes counts what is there, and returns which of the invariants at type shard do not hold.
func (s *Store) Sizes() (n Sizes, err error) {
	var errs []error
	for i := range s.shards {
		errs = append(errs, s.shards[i].count(&n))
	}
	if n.Sessions != s.Len() {
		errs = append(errs, fmt.Errorf("%d sessions, the count is %d", n.Sessions, s.Len()))
	}
	return n, errors.Join(errs...)
}

func (sh *shard) count(n *Sizes) error {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	indexed := 0
	for key, e := range sh.entries {
		check(e.key == key, "an entry at another key")
		if e.isTombstone() {
			n.Tombstones++
			continue
		}
		n.Sessions++
		if e.user != "" {
			indexed++
			check(e.slot < len(sh.users[e.user]) && sh.users[e.user][e.slot] == e, "a session that is not where the index has it")
		}
	}
	for user, list := range sh.users {
		check(len(list) > 0, "a user without sessions: "+user)
		n.Indexed += len(list)
		indexed -= len(list)
	}
	check(indexed == 0, "the index holds more or less than the sessions")
	n.Users += len(sh.users)
	n.Marks += len(sh.marks)
	check(len(sh.ends.items) == len(sh.entries) && inOrder(sh.ends.items), "the queue of entries")
	check(len(sh.markEnds.items) == len(sh.marks) && inOrder(sh.markEnds.items), "the queue of marks")
	return errors.Join(errs...)
}

func inOrder[T item](h heapOf[T]) bool {
	for i, it := range h {
		if it.due().pos != i || h.Less(i, (i-1)/2) {
			return false
		}
	}
	return true
}
