package shardstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Store is a coatcheck.Store in memory. It never waits for anything but a lock and its disk, so it ignores contexts. New
// makes one, and Close stops it.
type Store struct {
	// Every operation reads these fields, and none but closed is written once New has returned.
	shards []shard     // never resized
	disk   *disk       // nil: nothing is kept on disk
	max    int64       // 0: no limit
	name   uint64      // random, for the cursors of Scan
	closed atomic.Bool // written by Close
	now    func() time.Time
	every  time.Duration
	log    *slog.Logger
	stop   chan struct{} // closed by Close: the janitor and the goroutines that keep the disk return

	_ [cacheLines]byte // so that writes to what follows do not take the lines above from the other cores

	taken    atomic.Int64  // places of Options.MaxSessions that are taken; 0 without a limit
	lastMark atomic.Uint64 // counts up from a random start, so that no mark is ever given twice; written by EndUser
	swept    swept

	closing  sync.Once
	running  sync.WaitGroup
	closeErr error // written by Close, before its Once is done
}

var _ coatcheck.Store = (*Store)(nil)

// These errors are caused by a defect of the caller only. The store refuses what would make its list of a user's sessions
// wrong.
var (
	errNoRecord = errors.New("shardstore: not a record that was written")
	errUser     = errors.New("shardstore: the session is of another user")
	errCreated  = errors.New("shardstore: the session was created at another time")
	errTag      = errors.New("shardstore: the key's tag is not its user's")
	errVersion  = errors.New("shardstore: the new version does not follow the old one")
)

// New returns a store and starts its janitor. The store is empty unless Options.Dir holds what an earlier one left. The zero
// Options work; an error is a mistake in the Options, or a folder that cannot be used or read.
func New(opt Options) (*Store, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	s := newStore(opt)
	if opt.Dir != "" {
		if err := s.openDisk(opt); err != nil {
			return nil, err
		}
		s.running.Go(s.syncPeriodically)
		s.running.Go(s.snapshotWhenDue)
	}
	s.running.Go(s.janitor)
	return s, nil
}

// newStore returns an empty store in memory, without a janitor and without a disk.
func newStore(opt Options) *Store {
	s := &Store{
		shards: make([]shard, opt.Shards),
		max:    int64(opt.MaxSessions),
		name:   rand.Uint64(),
		now:    opt.Now,
		every:  opt.JanitorEvery,
		log:    opt.Logger,
		stop:   make(chan struct{}),
	}
	var taken *atomic.Int64
	if s.max != 0 {
		taken = &s.taken
	}
	now := s.now().UnixMilli()
	for i := range s.shards {
		s.shards[i].init(taken, &s.swept, now)
	}
	s.lastMark.Store(rand.Uint64())
	return s
}

// shard returns the shard of a tag, whose bits are a hash already, or random.
func (s *Store) shard(tag coatcheck.Tag) *shard {
	return &s.shards[int(binary.BigEndian.Uint32(tag[:]))&(len(s.shards)-1)]
}

// checkOpen returns an error once the store is closed.
func (s *Store) checkOpen() error {
	if s.closed.Load() {
		return fmt.Errorf("shardstore: closed: %w", coatcheck.ErrUnavailable)
	}
	return nil
}

// Load implements coatcheck.Store. It does not allocate once rec's buffer has grown.
func (s *Store) Load(_ context.Context, key coatcheck.Key, _ coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	sh := s.shard(key.Tag())
	err := sh.read(key, now.UnixMilli(), rec)
	switch {
	case errors.Is(err, coatcheck.ErrDamaged):
		sh.dropDamaged(key)
	case errors.Is(err, errExpired):
		sh.dropExpired(key, now.UnixMilli())
		return coatcheck.ErrNotFound
	}
	return err
}

// Swap implements coatcheck.Store.
func (s *Store) Swap(_ context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if err := checkSize(len(rec.Bytes())); err != nil {
		return err
	}
	if v := coatcheck.Encoded(rec.Bytes()).Version(); v != old+1 {
		return fmt.Errorf("%w: %d after %d", errVersion, v, old)
	}
	upTo, err := s.shard(rec.Key.Tag()).swap(rec, old, now.UnixMilli(), cur)
	return s.awaitSync(upTo, err)
}

// swap takes the lock itself.
func (sh *shard) swap(rec *coatcheck.Record, old uint64, now int64, cur *coatcheck.Record) (upTo uint64, err error) {
	sh.mu.Lock()
	defer sh.unlock()
	n := sh.living(rec.Key, now)
	if n == 0 {
		return 0, coatcheck.ErrNotFound
	}
	switch stored := sh.at(n); {
	case coatcheck.Encoded(stored.payload()).Version() != old:
		if err := cur.Read(rec.Key, stored.payload()); err != nil {
			return 0, err
		}
		return 0, coatcheck.ErrConflict
	case !bytes.Equal(rec.User(), stored.user()):
		return 0, errUser
	case coatcheck.Encoded(rec.Bytes()).Created() != coatcheck.Encoded(stored.payload()).Created():
		return 0, errCreated
	}
	sh.frame.put(rec.Key, rec.Bytes())
	if upTo, err = sh.frame.write(); err != nil {
		return 0, err
	}
	sh.replace(n, rec.Bytes())
	return upTo, nil
}

// End implements coatcheck.Store.
func (s *Store) End(_ context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	upTo, err := s.shard(key.Tag()).endBy(key, user, now.UnixMilli(), until.UnixMilli(), last)
	return s.awaitSync(upTo, err)
}

// endBy takes the lock itself.
func (sh *shard) endBy(key coatcheck.Key, user string, now, until int64, last *coatcheck.Record) (upTo uint64, err error) {
	sh.mu.Lock()
	defer sh.unlock()
	n := sh.living(key, now)
	switch {
	case n == 0:
		return 0, coatcheck.ErrNotFound
	case string(sh.at(n).user()) != user:
		return 0, errUser
	}
	unread := last.Read(key, sh.at(n).payload())
	if errors.Is(unread, coatcheck.ErrNewer) { // the record stays for the release that can read it
		return 0, unread
	}
	sh.frame.end(key, until)
	if upTo, err = sh.frame.write(); err != nil {
		return 0, err
	}
	sh.end(n, now, until)
	return upTo, unread
}

// awaitSync returns when what an operation wrote is synced as far as Options.FsyncEvery requires before the answer. The
// caller holds no lock, so that many operations wait for one fsync.
func (s *Store) awaitSync(upTo uint64, err error) error {
	if s.disk == nil || upTo == 0 || !s.disk.syncEachAnswer {
		return err
	}
	return errors.Join(err, s.disk.journal.sync(upTo))
}

// Len returns how many sessions the store holds, including expired ones that were not removed yet. It visits every shard.
func (s *Store) Len() int {
	n := int64(0)
	for i := range s.shards {
		n += s.shards[i].sessions.Load()
	}
	return int(n)
}

// Shared implements coatcheck.Store: the sessions are in this process.
func (*Store) Shared() bool { return false }

// Ping implements coatcheck.Store.
func (s *Store) Ping(context.Context) error { return s.checkOpen() }

// Close implements coatcheck.Store. It returns when the janitor has stopped and everything that belongs on disk is there.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		close(s.stop)
		s.running.Wait()
		if s.disk != nil {
			s.closeErr = s.closeDisk()
		}
	})
	return s.closeErr
}
