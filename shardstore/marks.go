package shardstore

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck"
)

// mark is a coatcheck.Mark and when it goes.
type mark struct {
	deadline
	user  string
	value coatcheck.Mark
}

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
	return sh.markOf(user, now.UnixMilli()), nil
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
func (sh *shard) markOf(user string, now int64) coatcheck.Mark {
	if m := sh.marks[user]; m != nil && now < m.at {
		return m.value
	}
	return 0
}

// leaveMark puts a mark in the place of the user's last one.
func (sh *shard) leaveMark(user string, value coatcheck.Mark, until int64) {
	if m := sh.marks[user]; m != nil {
		m.value = value
		sh.markEnds.move(m, until)
		return
	}
	m := &mark{deadline: deadline{at: until}, user: user, value: value}
	sh.marks[user] = m
	sh.markEnds.add(m)
}

func (sh *shard) removeMark(m *mark) {
	delete(sh.marks, m.user)
	sh.markEnds.remove(m)
}
