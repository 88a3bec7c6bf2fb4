package shardstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Create implements coatcheck.Store.
func (s *Store) Create(_ context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if err := checkNew(rec); err != nil {
		return 0, err
	}
	ended, upTo, err := s.create(rec, opt, now)
	for errors.Is(err, coatcheck.ErrFull) && s.makeRoom(now) { // again, if another Create took the room that was made
		ended, upTo, err = s.create(rec, opt, now)
	}
	return ended, s.settle(upTo, err)
}

// checkNew refuses a record that only a defect of the caller can have made.
func checkNew(rec *coatcheck.Record) error {
	switch {
	case rec.Key == (coatcheck.Key{}) || rec.Version == 0 || rec.Version != coatcheck.Encoded(rec.Bytes()).Version():
		return errNoRecord
	case len(rec.User()) > 0 && rec.Key.Tag() != coatcheck.TagOf(rec.UserID()):
		return errTag
	default:
		return checkSize(len(rec.Bytes()))
	}
}

// create decides first, writes then, and acts when that went well, so that a refusal leaves the shard as it was. It
// returns how many sessions the user's limit ended, and up to where the journal must be synced.
func (s *Store) create(rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (ended int, upTo uint64, err error) {
	nowMS, until := now.UnixMilli(), opt.Until.UnixMilli()
	sh := s.shard(rec.Key.Tag())
	sh.mu.Lock()
	defer sh.mu.Unlock()

	if err := sh.admits(rec, opt, nowMS); err != nil {
		return 0, 0, err
	}
	replaced := sh.replacedBy(rec, opt, nowMS)
	oldest := sh.beyondLimit(rec.User(), opt.Limit, replaced, nowMS)
	ending := oldest
	if replaced != 0 {
		ending = append(ending, replaced)
	}
	if !s.admit(len(ending) > 0) {
		return 0, 0, coatcheck.ErrFull
	}

	for _, n := range ending {
		sh.pen.end(sh.at(n).key(), until)
	}
	sh.pen.put(rec.Key, rec.Bytes())
	if upTo, err = sh.pen.write(); err != nil {
		s.live.Add(-1) // the place that was taken
		return 0, 0, err
	}

	sh.handBack(replaced, opt)
	for _, n := range ending {
		sh.end(n, nowMS, until)
	}
	sh.insert(rec.Key, rec.Bytes())
	return len(oldest), upTo, nil
}

// admits refuses a login that was revoked, and a key that is taken.
func (sh *shard) admits(rec *coatcheck.Record, opt coatcheck.CreateOptions, now int64) error {
	if len(rec.User()) > 0 {
		if m := sh.markOf(rec.User(), now); m != 0 && m != opt.Mark {
			return coatcheck.ErrRevoked
		}
	}
	if sh.standing(rec.Key, now) != 0 {
		return coatcheck.ErrExists
	}
	return nil
}

// replacedBy returns the session of the same user that a Create replaces; 0 is none. Another user's may stand in this
// shard by chance.
func (sh *shard) replacedBy(rec *coatcheck.Record, opt coatcheck.CreateOptions, now int64) ref {
	n := sh.living(opt.Replace, now)
	if n == 0 || len(rec.User()) == 0 || !bytes.Equal(sh.at(n).user(), rec.User()) {
		return 0
	}
	return n
}

// handBack reads the session that is about to be replaced into opt.Replaced.
func (sh *shard) handBack(replaced ref, opt coatcheck.CreateOptions) {
	if opt.Replaced == nil {
		return
	}
	if replaced == 0 || opt.Replaced.Read(opt.Replace, sh.at(replaced).payload()) != nil {
		opt.Replaced.Header = coatcheck.Header{}
	}
}

// beyondLimit returns the sessions that end so that one more keeps the user within the limit, replaced not counting: the
// oldest, never the new one.
func (sh *shard) beyondLimit(user []byte, limit int, replaced ref, now int64) []ref {
	if limit <= 0 || len(user) == 0 || !sh.has(user, limit) {
		return nil
	}
	live := slices.DeleteFunc(sh.livingOf(user, now), func(n ref) bool { return n == replaced })
	excess := len(live) + 1 - limit
	if excess <= 0 {
		return nil
	}
	slices.SortFunc(live, func(m, n ref) int {
		a, b := sh.at(m), sh.at(n)
		return cmp.Or(
			cmp.Compare(coatcheck.Encoded(a.payload()).Created(), coatcheck.Encoded(b.payload()).Created()),
			bytes.Compare(a[:offNext], b[:offNext]))
	})
	return live[:excess]
}

// has reports whether the user has so many sessions, expired ones included, without looking at more of them.
func (sh *shard) has(user []byte, many int) bool {
	n := sh.firstOf(user)
	for ; n != 0 && many > 1; many-- {
		n = sh.at(n).ref(offNextUser)
	}
	return n != 0
}

// admit takes a place for one session more and reports whether there was one. A Create that ends a session under the same
// lock brings its own place.
func (s *Store) admit(endsOne bool) bool {
	if s.max == 0 || endsOne {
		s.live.Add(1)
		return true
	}
	for {
		n := s.live.Load()
		if n >= s.max {
			return false
		}
		if s.live.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// makeRoom removes what has expired, shard by shard, until a place is free, and reports whether one is.
func (s *Store) makeRoom(now time.Time) bool {
	for i := range s.shards {
		for more := true; more && s.live.Load() >= s.max; {
			more = s.shards[i].sweep(now.UnixMilli())
		}
	}
	return s.live.Load() < s.max
}
