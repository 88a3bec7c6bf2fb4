package shardstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Create implements coatcheck.Store.
func (s *Store) Create(_ context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := s.checkOpen(); err != nil {
		return 0, err
	}
	if err := checkNew(rec); err != nil {
		return 0, err
	}
	ended, upTo, err := s.create(rec, opt, now)
	for errors.Is(err, coatcheck.ErrFull) && s.makeRoom(now) { // another Create may have taken the room that was made
		ended, upTo, err = s.create(rec, opt, now)
	}
	return ended, s.awaitSync(upTo, err)
}

// checkNew refuses a record that only a defect of the caller can produce.
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

// create decides first, then writes to the journal, and changes the shard only when the write succeeded, so that a refusal
// leaves the shard as it was. It returns how many sessions the user's limit ended, and up to where the journal must be
// synced.
func (s *Store) create(rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (ended int, upTo uint64, err error) {
	nowMS, until := now.UnixMilli(), opt.Until.UnixMilli()
	sh := s.shard(rec.Key.Tag())
	o, hash := sh.owner(rec.User()), sh.hash(rec.Key[:])
	sh.mu.Lock()
	defer sh.unlock()

	if m := sh.markOf(o, nowMS); m != 0 && m != opt.Mark && opt.Mark != coatcheck.AnyMark {
		return 0, 0, coatcheck.ErrRevoked
	}
	if sh.standing(rec.Key, hash, nowMS) != 0 {
		return 0, 0, coatcheck.ErrExists
	}
	var buf [4]ref // on the stack: hardly any login ends more sessions
	replaced := sh.replacedBy(o, opt.Replace, nowMS)
	ending := sh.appendBeyondLimit(buf[:0], o, opt.Limit, replaced, nowMS)
	ended = len(ending)
	if replaced != 0 {
		ending = append(ending, replaced)
	}
	if !s.takePlace(len(ending) > 0) {
		return 0, 0, coatcheck.ErrFull
	}

	for _, n := range ending {
		sh.frame.end(sh.at(n).key(), until)
	}
	sh.frame.put(rec.Key, rec.Bytes())
	if upTo, err = sh.frame.write(); err != nil {
		s.givePlace()
		return 0, 0, err
	}

	sh.handBack(replaced, opt)
	for _, n := range ending {
		sh.end(n, nowMS, until)
	}
	sh.insert(rec.Key, hash, rec.Bytes())
	return ended, upTo, nil
}

// replacedBy returns the session that a Create of the owner replaces; 0 is none. A session of another user may stand in this
// shard by chance, and is left alone.
func (sh *shard) replacedBy(o owner, key coatcheck.Key, now int64) ref {
	if o.none() || key == (coatcheck.Key{}) {
		return 0
	}
	n := sh.living(key, now)
	if n == 0 || !bytes.Equal(sh.at(n).user(), o.id) {
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
