package shardstore

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// maxSwept is how many entries go in one hold of a shard's lock, so that nobody waits long when a million sessions expire
// in one second.
const maxSwept = 256

// janitor removes what is over, every so often, until the store is closed.
func (s *Store) janitor() {
	defer close(s.stopped)
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

// sweep removes all that is over by the janitor's clock.
func (s *Store) sweep() {
	defer s.survive()
	now := s.now().UnixMilli()
	for i := range s.shards {
		s.sweepShard(&s.shards[i], now)
	}
}

// sweepShard has a net of its own: what is wrong with one shard must not keep the others from being swept.
func (s *Store) sweepShard(sh *shard, now int64) {
	defer s.survive()
	for sh.sweep(now) {
		select {
		case <-s.stop:
			return
		default:
		}
	}
}

// survive keeps a panic of the janitor from ending the process: sessions that are not swept cost memory, a process that
// ends costs all of them.
func (s *Store) survive() {
	if p := recover(); p != nil {
		s.log.Error("shardstore: the janitor panicked and goes on",
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}
}

// sweep removes up to maxSwept entries and marks that are over, and reports whether there may be more. It takes the lock
// itself, once: an entry is looked at and removed in one hold, so none can be renewed in between.
func (sh *shard) sweep(now int64) (more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range maxSwept {
		if e, ok := sh.ends.over(now); ok {
			sh.remove(e)
		} else if m, ok := sh.markEnds.over(now); ok {
			sh.removeMark(m)
		} else {
			return false
		}
	}
	return true
}
