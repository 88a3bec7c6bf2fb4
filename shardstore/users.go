package shardstore

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck"
)

// users is the index of a shard's sessions by the whole user ID: users who share a Tag share a shard, not an index entry.
// A user whose last session goes, goes too.
type users map[string][]*entry

func (u users) add(e *entry) {
	if e.user == "" {
		return
	}
	list := u[e.user]
	e.slot = len(list)
	u[e.user] = append(list, e)
}

// remove puts the user's last session into the gap, so that it costs the same however many there are.
func (u users) remove(e *entry) {
	if e.user == "" {
		return
	}
	list := u[e.user]
	last := len(list) - 1
	list[e.slot] = list[last]
	list[e.slot].slot = e.slot
	list[last] = nil
	if last == 0 {
		delete(u, e.user)
		return
	}
	u[e.user] = list[:last]
}

// living returns the user's sessions that live at now, in a slice of its own.
func (u users) living(user string, now int64) []*entry {
	var live []*entry
	for _, e := range u[user] {
		if now < e.at {
			live = append(live, e)
		}
	}
	return live
}

// List implements coatcheck.Store. It shows the sessions as they were at one moment.
func (s *Store) List(_ context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	if err := s.usable(); err != nil {
		return err
	}
	if user == "" { // sessions without a user are in no index
		return nil
	}
	var rec coatcheck.Record
	for _, e := range s.shard(coatcheck.TagOf(user)).snapshot(user, now.UnixMilli()) {
		if rec.Read(e.key, e.bytes) != nil {
			continue // Load is where a damaged record is told of, and removed
		}
		if !yield(&rec) {
			return nil
		}
	}
	return nil
}

// stored is a session's record, apart from the shard it was found in.
type stored struct {
	key   coatcheck.Key
	bytes []byte
}

// snapshot returns the user's records. It takes the lock itself, and what it returns needs none: bytes are never written
// into.
func (sh *shard) snapshot(user string, now int64) []stored {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var found []stored
	for _, e := range sh.users.living(user, now) {
		found = append(found, stored{e.key, e.bytes})
	}
	return found
}

// EndUser implements coatcheck.Store.
func (s *Store) EndUser(_ context.Context, user string, keep coatcheck.Key, now, until time.Time) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if user == "" {
		return endNobody(keep)
	}
	nowMS := now.UnixMilli()
	sh := s.shard(coatcheck.TagOf(user))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if keep != (coatcheck.Key{}) {
		if e := sh.living(keep, nowMS); e == nil || e.user != user {
			return 0, coatcheck.ErrNotFound
		}
	}
	ended := 0
	for _, e := range sh.users.living(user, nowMS) {
		if e.key != keep {
			sh.end(e, nowMS, until.UnixMilli())
			ended++
		}
	}
	sh.leaveMark(user, s.newMark(), now.Add(coatcheck.MarkLife).UnixMilli())
	return ended, nil
}

// endNobody is EndUser without a user: no session is indexed under none, and a login without one looks at no mark.
func endNobody(keep coatcheck.Key) (int, error) {
	if keep != (coatcheck.Key{}) {
		return 0, coatcheck.ErrNotFound
	}
	return 0, nil
}
