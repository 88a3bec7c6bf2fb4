package shardstore

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck"
)

// maxSwept is how many slots are looked at in one hold of a shard's lock, so that nobody waits long when a million sessions
// expire in one second. Each costs a handful of cache misses; taking the lock again costs nothing beside them.
const maxSwept = 64

// janitor removes what is over, every so often, until the store is closed.
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

// swept is what the janitor has done. Written by whoever sweeps.
type swept struct {
	idle, absolute atomic.Uint64 // sessions that expired
	rounds         atomic.Uint64
	took           atomic.Int64 // nanoseconds in all
	upTo           atomic.Int64 // Unix milliseconds: what was over then is gone
}

// count counts a session that expired.
func (w *swept) count(idle bool) {
	if idle {
		w.idle.Add(1)
	} else {
		w.absolute.Add(1)
	}
}

// sweep removes all that is over by the janitor's clock.
func (s *Store) sweep() {
	defer s.survive()
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

// sweepShard has a net of its own: what is wrong with one shard must not keep the others from being swept.
func (s *Store) sweepShard(sh *shard, now int64) {
	defer s.survive()
	for sh.sweep(now) || sh.tidy() {
		select {
		case <-s.stop:
			return
		default:
		}
	}
	sh.trim()
}

// survive keeps a panic of the janitor from ending the process: sessions that are not swept cost memory, a process that
// ends costs all of them.
func (s *Store) survive() {
	if p := recover(); p != nil {
		s.log.Error("shardstore: the janitor panicked and goes on",
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
}

// sweep looks at up to maxSwept slots that are over or have been renewed since they came to stand where they do, and
// reports whether there may be more. It takes the lock itself, once: what it looks at is removed in the same hold, so
// nothing can be renewed in between.
func (sh *shard) sweep(now int64) (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range maxSwept {
		n := sh.wheel.due(now)
		switch {
		case n == 0:
			return false
		case sh.at(n).ends() <= now:
			if s := sh.at(n); s.is(session) {
				sh.swept.count(coatcheck.Encoded(s.payload()).IdleFirst())
			}
			sh.remove(n)
		default:
			sh.wheel.remove(n)
			sh.wheel.add(n)
		}
	}
	return true
}

// tidy moves what is left of a slab that is one of too many, so that the slab can go, and reports whether there may be
// more such slabs. It takes the lock itself, for one slab, and moves no more than sweep does.
func (sh *shard) tidy() (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.dumping {
		return false
	}
	id := sh.slots.sparse()
	if id == 0 {
		return false
	}
	sh.slots.close(id) // so that nothing moves to where it stands
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

// trim gives memory back. It takes the lock itself.
func (sh *shard) trim() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.slots.trim()
	for _, t := range [...]*table{&sh.keys, &sh.users, &sh.marks} {
		t.shrink()
	}
}
