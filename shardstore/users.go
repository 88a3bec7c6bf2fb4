package shardstore

import (
	"context"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
)

// A user's sessions are a list, linked through their slots, whose first stands in shard.users. The whole user ID is
// compared: users who share a Tag share a shard, not a list. A user whose last session goes, goes too.

// firstOf returns the first of the user's sessions that the janitor has not fetched; 0 is none.
func (sh *shard) firstOf(user []byte) ref { return sh.findUser(&sh.users, user) }

// findUser returns the slot of a table of users; 0 is none.
func (sh *shard) findUser(t *table, user []byte) ref {
	return t.find(sh.hash(user), func(n ref) bool { return string(sh.at(n).user()) == string(user) })
}

func (sh *shard) addToUser(n ref) {
	s := sh.at(n)
	user := s.user()
	if len(user) == 0 {
		return
	}
	first := sh.firstOf(user)
	s.setRef(offNextUser, first)
	s.setRef(offPrevUser, 0)
	if first == 0 {
		sh.users.add(sh.hash(user), n)
		return
	}
	sh.at(first).setRef(offPrevUser, n)
	sh.users.set(sh.hash(user), first, n)
}

// removeFromUser costs the same however many sessions the user has.
func (sh *shard) removeFromUser(n ref) {
	s := sh.at(n)
	user := s.user()
	if len(user) == 0 {
		return
	}
	prev, next := s.ref(offPrevUser), s.ref(offNextUser)
	if next != 0 {
		sh.at(next).setRef(offPrevUser, prev)
	}
	switch {
	case prev != 0:
		sh.at(prev).setRef(offNextUser, next)
	case next != 0:
		sh.users.set(sh.hash(user), n, next)
	default:
		sh.users.remove(sh.hash(user), n)
	}
}

// renumberInUser tells a session's neighbours that it is number to now.
func (sh *shard) renumberInUser(n, to ref) {
	s := sh.at(n)
	user := s.user()
	if len(user) == 0 {
		return
	}
	if next := s.ref(offNextUser); next != 0 {
		sh.at(next).setRef(offPrevUser, to)
	}
	if prev := s.ref(offPrevUser); prev != 0 {
		sh.at(prev).setRef(offNextUser, to)
	} else {
		sh.users.set(sh.hash(user), n, to)
	}
}

// livingOf returns the user's sessions that live at now.
func (sh *shard) livingOf(user []byte, now int64) []ref {
	var live []ref
	for n := sh.firstOf(user); n != 0; n = sh.at(n).ref(offNextUser) {
		if now < sh.at(n).ends() {
			live = append(live, n)
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
	for _, c := range s.shard(coatcheck.TagOf(user)).copies(user, now.UnixMilli()) {
		if rec.Read(c.key, c.bytes) != nil {
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

// copies returns the user's records. It takes the lock itself, and what it returns needs none.
func (sh *shard) copies(user string, now int64) []stored {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var found []stored
	for _, n := range sh.livingOf([]byte(user), now) {
		s := sh.at(n)
		found = append(found, stored{s.key(), append([]byte(nil), s.payload()...)})
	}
	return found
}

// EndUser implements coatcheck.Store.
func (s *Store) EndUser(_ context.Context, user string, keep coatcheck.Key, now, until time.Time) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if user == "" || len(user) > coatcheck.MaxUserID { // nobody has such a name
		return endNobody(keep)
	}
	ended, upTo, err := s.endUser(user, keep, now, until.UnixMilli())
	return ended, s.settle(upTo, err)
}

func (s *Store) endUser(user string, keep coatcheck.Key, now time.Time, until int64) (ended int, upTo uint64, err error) {
	nowMS := now.UnixMilli()
	sh := s.shard(coatcheck.TagOf(user))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if keep != (coatcheck.Key{}) {
		if n := sh.living(keep, nowMS); n == 0 || string(sh.at(n).user()) != user {
			return 0, 0, coatcheck.ErrNotFound
		}
	}
	ending := slices.DeleteFunc(sh.livingOf([]byte(user), nowMS), func(n ref) bool { return sh.at(n).key() == keep })
	left, leaves := s.newMark(), now.Add(coatcheck.MarkLife).UnixMilli()

	for _, n := range ending {
		sh.pen.end(sh.at(n).key(), until)
	}
	sh.pen.leave(leaves, left, user)
	if upTo, err = sh.pen.write(); err != nil {
		return 0, 0, err
	}
	for _, n := range ending {
		sh.end(n, nowMS, until)
	}
	sh.leaveMark(user, left, leaves)
	return len(ending), upTo, nil
}

// endNobody is EndUser without a user: no session is indexed under none, and a login without one looks at no mark.
func endNobody(keep coatcheck.Key) (int, error) {
	if keep != (coatcheck.Key{}) {
		return 0, coatcheck.ErrNotFound
	}
	return 0, nil
}
