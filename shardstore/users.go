package shardstore

import (
	"bytes"
	"context"
	"math"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
)

// List implements coatcheck.Store. It shows the sessions as they were at one moment.
func (s *Store) List(_ context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if user == "" { // sessions without a user are in no index
		return nil
	}
	var rec coatcheck.Record
	for _, c := range s.shard(coatcheck.TagOf(user)).copiesOf([]byte(user), now.UnixMilli()) {
		if rec.Read(c.key, c.bytes) != nil {
			continue // Load reports a damaged record, and removes it
		}
		if !yield(&rec) {
			return nil
		}
	}
	return nil
}

// storedRecord is a copy of a session's record.
type storedRecord struct {
	key   coatcheck.Key
	bytes []byte
}

// copiesOf returns the user's records. It takes the lock itself, and what it returns needs none.
func (sh *shard) copiesOf(user []byte, now int64) []storedRecord {
	o := sh.owner(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var found []storedRecord
	for _, n := range sh.livingOf(o, now) {
		s := sh.at(n)
		found = append(found, storedRecord{s.key(), bytes.Clone(s.payload())})
	}
	return found
}

// EndUser implements coatcheck.Store.
func (s *Store) EndUser(_ context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	if err := s.checkOpen(); err != nil {
		return 0, err
	}
	if user == "" || len(user) > coatcheck.MaxUserID { // such a user has no session, and their logins look at no mark
		return endNobody(keep)
	}
	ended, upTo, err := s.endUser(user, keep, mark, now, until.UnixMilli())
	return ended, s.awaitSync(upTo, err)
}

func (s *Store) endUser(user string, keep coatcheck.Key, mark bool, now time.Time, until int64) (ended int, upTo uint64, err error) {
	nowMS := now.UnixMilli()
	sh := s.shard(coatcheck.TagOf(user))
	o := sh.owner([]byte(user))
	sh.mu.Lock()
	defer sh.unlock()
	if keep != (coatcheck.Key{}) {
		if n := sh.living(keep, nowMS); n == 0 || string(sh.at(n).user()) != user {
			return 0, 0, coatcheck.ErrNotFound
		}
	}
	all := sh.livingOf(o, math.MinInt64) // those that have expired, too, so that a clock that is set back does not revive them
	ending := slices.DeleteFunc(all, func(n ref) bool { return sh.at(n).key() == keep })
	if len(ending) == 0 && !mark {
		return 0, 0, nil
	}
	left, markEnds := s.newMark(), now.Add(coatcheck.MarkLife).UnixMilli()

	for _, n := range ending {
		sh.frame.end(sh.at(n).key(), until)
	}
	if mark {
		sh.frame.mark(markEnds, left, user)
	}
	if upTo, err = sh.frame.write(); err != nil {
		return 0, 0, err
	}
	for _, n := range ending {
		if sh.at(n).ends() <= nowMS {
			sh.discard(n)
			continue
		}
		sh.end(n, nowMS, until)
		ended++
	}
	if mark {
		sh.leaveMark(o, left, markEnds)
	}
	return ended, upTo, nil
}

// endNobody is EndUser of a user who cannot have a session.
func endNobody(keep coatcheck.Key) (int, error) {
	if keep != (coatcheck.Key{}) {
		return 0, coatcheck.ErrNotFound
	}
	return 0, nil
}
