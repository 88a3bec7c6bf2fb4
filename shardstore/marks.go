package shardstore

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Mark implements coatcheck.Store.
func (s *Store) Mark(_ context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	if err := s.checkOpen(); err != nil {
		return 0, err
	}
	if user == "" {
		return 0, nil
	}
	sh := s.shard(coatcheck.TagOf(user))
	o := sh.owner([]byte(user))
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.markOf(o, now.UnixMilli()), nil
}

// newMark returns a mark that this store never returned before. The first one was random, so a mark from before a restart
// does not come again either.
func (s *Store) newMark() coatcheck.Mark {
	for {
		if m := s.lastMark.Add(1); m != 0 {
			return coatcheck.Mark(m)
		}
	}
}

// markOf returns the mark that stands for the owner, zero if none does.
func (sh *shard) markOf(o owner, now int64) coatcheck.Mark {
	if o.none() {
		return 0
	}
	if n := sh.findOwner(&sh.marks, o); n != 0 && now < sh.at(n).ends() {
		return sh.at(n).mark()
	}
	return 0
}

// leaveMark puts a mark in the place of the owner's last one.
func (sh *shard) leaveMark(o owner, value coatcheck.Mark, until int64) {
	if n := sh.findOwner(&sh.marks, o); n != 0 {
		sh.remove(n)
	}
	payload := appendMark(make([]byte, 0, markHead+len(o.id)), until, value, o.id)
	n := sh.slots.take(len(payload))
	sh.at(n).fill(mark, payload)
	sh.marks.add(o.hash, n)
	sh.wheel.add(n)
}
