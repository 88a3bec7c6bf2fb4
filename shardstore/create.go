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
	e, err := newEntry(rec)
	if err != nil {
		return 0, err
	}
	c, err := s.create(e, opt, now)
	for errors.Is(err, coatcheck.ErrFull) && s.makeRoom(now) { // again, if another Create took the room that was made
		c, err = s.create(e, opt, now)
	}
	if err != nil {
		return 0, err
	}
	if opt.Replaced != nil && (c.replaced == nil || opt.Replaced.Read(opt.Replace, c.replaced) != nil) {
		opt.Replaced.Header = coatcheck.Header{}
	}
	return c.pushedOut, nil
}

// newEntry returns a copy of the record as an entry of no shard yet.
func newEntry(rec *coatcheck.Record) (*entry, error) {
	switch {
	case rec.Key == (coatcheck.Key{}) || rec.Version == 0 || rec.Version != coatcheck.EncodedVersion(rec.Bytes()):
		return nil, errNoRecord
	case len(rec.User()) > 0 && rec.Key.Tag() != coatcheck.TagOf(rec.UserID()):
		return nil, errTag
	}
	return &entry{
		deadline: deadline{at: coatcheck.EncodedExpiry(rec.Bytes())},
		key:      rec.Key,
		user:     rec.UserID(),
		created:  rec.CreatedAt,
		bytes:    bytes.Clone(rec.Bytes()),
	}, nil
}

// creation is what a Create brought about beside the new session.
type creation struct {
	replaced  []byte // the record that was replaced, nil if none was
	pushedOut int    // sessions that the user's limit ended
}

// create decides first and acts then, so that a refusal leaves the shard as it was.
func (s *Store) create(e *entry, opt coatcheck.CreateOptions, now time.Time) (creation, error) {
	nowMS, until := now.UnixMilli(), opt.Until.UnixMilli()
	sh := s.shard(e.key.Tag())
	sh.mu.Lock()
	defer sh.mu.Unlock()

	if e.user != "" {
		if m := sh.markOf(e.user, nowMS); m != 0 && m != opt.Mark {
			return creation{}, coatcheck.ErrRevoked
		}
	}
	if sh.standing(e.key, nowMS) != nil {
		return creation{}, coatcheck.ErrExists
	}
	replaced := sh.living(opt.Replace, nowMS)
	if replaced != nil && (replaced.user != e.user || e.user == "") { // in this shard by chance
		replaced = nil
	}
	oldest := sh.beyondLimit(e.user, opt.Limit, replaced, nowMS)
	if !s.admit(replaced != nil || len(oldest) > 0) {
		return creation{}, coatcheck.ErrFull
	}

	var c creation
	if replaced != nil {
		c.replaced = replaced.bytes
		sh.end(replaced, nowMS, until)
	}
	for _, old := range oldest {
		sh.end(old, nowMS, until)
	}
	c.pushedOut = len(oldest)
	sh.insert(e)
	return c, nil
}

// beyondLimit returns the sessions that end so that one more keeps the user within the limit, replaced not counting: the
// oldest, never the new one.
func (sh *shard) beyondLimit(user string, limit int, replaced *entry, now int64) []*entry {
	if limit <= 0 || user == "" || len(sh.users[user]) < limit {
		return nil
	}
	live := slices.DeleteFunc(sh.users.living(user, now), func(e *entry) bool { return e == replaced })
	excess := len(live) + 1 - limit
	if excess <= 0 {
		return nil
	}
	slices.SortFunc(live, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.created, b.created), bytes.Compare(a.key[:], b.key[:]))
	})
	return live[:excess]
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
