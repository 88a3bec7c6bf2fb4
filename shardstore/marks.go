package shardstore

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Mark implements coatcheck.Store.
func (s *Store) Mark(_ context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if user == "" {
		return 0, nil
	}
	sh := s.shard(coatcheck.TagOf(user))
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.markOf([]byte(user), now.UnixMilli()), nil
}

// newMark returns a mark that this store never returned before. Its start was random, so one from before a restart is
// not met again either.
func (s *Store) newMark() coatcheck.Mark {
	for {
		if m := s.lastMark.Add(1); m != 0 {
			return coatcheck.Mark(m)
		}
	}
}

// markOf returns the mark that stands for the user, zero if none.
func (sh *shard) markOf(user []byte, now int64) coatcheck.Mark {
	if n := sh.findUser(&sh.marks, user); n != 0 && now < sh.at(n).ends() {
		return sh.at(n).mark()
	}
	return 0
}

// leaveMark puts a mark in the place of the user's last one.
func (sh *shard) leaveMark(user string, value coatcheck.Mark, until int64) {
	if n := sh.findUser(&sh.marks, []byte(user)); n != 0 {
		sh.remove(n)
	}
	payload := appendMark(make([]byte, 0, markHead+len(user)), until, value, user)
	n := sh.slots.take(len(payload))
	sh.at(n).fill(mark, payload)
	sh.marks.add(sh.hash([]byte(user)), n)
	sh.wheel.add(n)
}
