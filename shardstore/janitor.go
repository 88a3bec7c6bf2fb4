package shardstore

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// maxSwept is how many slots are swept or moved in one hold of a shard's lock, so that no request waits long when a million sessions
// expire in one second. Each slot costs a handful of cache misses; taking the lock again costs nothing beside them.
const maxSwept = 64

// janitor removes what has ended, once in every Options.JanitorEvery, until the store is closed.
func (s *Store) janitor() {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

// swept counts what was removed because it had ended. It is written by the janitor and by each operation that meets such a
// session.
type swept struct {
	idle, absolute atomic.Uint64 // sessions that expired
	rounds         atomic.Uint64
	took           atomic.Int64 // nanoseconds in all
	upTo           atomic.Int64 // Unix milliseconds: what had ended by then was removed
}

// count counts a session that expired.
func (w *swept) count(idle bool) {
	if idle {
		w.idle.Add(1)
	} else {
		w.absolute.Add(1)
	}
}

// sweep removes everything that has ended by the janitor's clock.
func (s *Store) sweep() {
	defer s.recoverPanic()
	defer func(began time.Time) {
		s.swept.took.Add(int64(time.Since(began)))
		s.swept.rounds.Add(1)
	}(time.Now())
	now := s.now().UnixMilli()
	for i := range s.shards {
		s.sweepShard(&s.shards[i], now)
	}
	s.swept.upTo.Store(now)
}

// sweepShard recovers by itself, so that a defect in one shard does not keep the others from being swept.
func (s *Store) sweepShard(sh *shard, now int64) {
	defer s.recoverPanic()
	for sh.sweep(now) || sh.compact() || sh.shrink() {
		select {
		case <-s.stop:
			return
		default:
		}
	}
	sh.trim()
}

// recoverPanic keeps a panic of the janitor from ending the process: sessions that are not swept cost memory, a process
// that ends loses all of them.
func (s *Store) recoverPanic() {
	if p := recover(); p != nil {
		s.log.Error("shardstore: the janitor panicked and goes on",
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
}

// sweep takes up to maxSwept slots that have ended, or belong in another bucket of the timer wheel, and reports whether
// there may be more. It takes the lock itself, once: a slot is removed in the hold in which it was visited, so no session is
// renewed in between.
func (sh *shard) sweep(now int64) (more bool) {
	sh.mu.Lock()
	defer sh.unlock()
	for range maxSwept {
		n := sh.wheel.due(now)
		switch {
		case n == 0:
			return false
		case sh.at(n).ends() <= now:
			sh.expire(n)
		default:
			sh.wheel.remove(n)
			sh.wheel.add(n)
		}
	}
	return true
}

// compact empties a slab of a class that has too many, so that the slab can be released, and reports whether there may be
// more such slabs. It takes the lock itself, for one slab, and moves no more slots than sweep visits.
func (sh *shard) compact() (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.snapshotting {
		return false
	}
	id := sh.slots.sparse()
	if id == 0 {
		return false
	}
	sh.slots.close(id) // so that nothing moves within the slab
	moved := 0
	sh.slots.each(id, func(n ref, s slot) {
		if moved < maxSwept {
			sh.move(n, len(s.payload()))
			moved++
		}
	})
	sh.slots.settle(id)
	return true
}

// shrink makes a table that is too large smaller, and reports whether there may be more to do. It takes the lock itself, and
// moves no more entries in one hold than a scan visits.
func (sh *shard) shrink() (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, t := range [...]*hashTable{&sh.keys, &sh.users, &sh.marks} {
		if t.shrink() {
			return true
		}
	}
	return false
}

// trim gives the memory of empty slabs back. It takes the lock itself.
func (sh *shard) trim() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.slots.trim()
}
