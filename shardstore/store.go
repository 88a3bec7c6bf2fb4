// Package shardstore keeps sessions in this process's memory, in shards with a lock each.
//
// The shard is chosen by the Tag, so a user's sessions, the index of them and the user's mark stand under one lock, and
// every method of the Store is one critical section. A call holds the lock of at most one shard at a time, so there is no
// lock order to keep.
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

// Store is a coatcheck.Store in memory. It never waits for anything but a lock, so it does not look at contexts. Make one
// with New and stop it with Close.
type Store struct {
	shards []shard // never resized
	max    int64   // 0: no limit
	now    func() time.Time
	every  time.Duration
	log    *slog.Logger

	live     atomic.Int64  // sessions in all shards, expired ones that were not swept yet included; written under a shard's lock
	lastMark atomic.Uint64 // counts up from a random start, so that no mark is ever given twice; written by EndUser

	closing sync.Once
	closed  atomic.Bool   // written by Close
	stop    chan struct{} // closed by Close: the janitor goes home
	stopped chan struct{} // closed by the janitor when it has
}

var _ coatcheck.Store = (*Store)(nil)

// Errors that only a defect of the caller brings about. A store refuses what would make its index of users lie.
var (
	errNoRecord = errors.New("shardstore: not a record that was written")
	errUser     = errors.New("shardstore: the session is of another user")
	errTag      = errors.New("shardstore: the key's tag is not its user's")
	errVersion  = errors.New("shardstore: the new version does not follow the old one")
)

// New returns an empty store and starts its janitor. The zero Options work; a mistake in them is the only error.
func New(opt Options) (*Store, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		shards:  make([]shard, opt.Shards),
		max:     int64(opt.MaxSessions),
		now:     opt.Now,
		every:   opt.JanitorEvery,
		log:     opt.Logger,
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	for i := range s.shards {
		s.shards[i].init(&s.live, s.now().UnixMilli())
	}
	s.lastMark.Store(rand.Uint64())
	go s.janitor()
	return s, nil
}

// shard returns the shard of a tag. The tag's bits are a hash already, or random.
func (s *Store) shard(tag coatcheck.Tag) *shard {
	return &s.shards[int(binary.BigEndian.Uint32(tag[:]))&(len(s.shards)-1)]
}

func (s *Store) usable() error {
	if s.closed.Load() {
		return fmt.Errorf("shardstore: closed: %w", coatcheck.ErrUnavailable)
	}
	return nil
}

// Load implements coatcheck.Store. It does not allocate once rec's buffer has grown.
func (s *Store) Load(_ context.Context, key coatcheck.Key, _ coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	sh := s.shard(key.Tag())
	err := sh.read(key, now.UnixMilli(), rec)
	if errors.Is(err, coatcheck.ErrDamaged) {
		sh.dropDamaged(key)
	}
	return err
}

// Swap implements coatcheck.Store.
func (s *Store) Swap(_ context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := checkSize(len(rec.Bytes())); err != nil {
		return err
	}
	if v := coatcheck.EncodedVersion(rec.Bytes()); v != old+1 {
		return fmt.Errorf("%w: %d after %d", errVersion, v, old)
	}
	sh := s.shard(rec.Key.Tag())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.living(rec.Key, now.UnixMilli())
	if n == 0 {
		return coatcheck.ErrNotFound
	}
	switch stored := sh.at(n); {
	case coatcheck.EncodedVersion(stored.payload()) != old:
		if err := cur.Read(rec.Key, stored.payload()); err != nil {
			return err
		}
		return coatcheck.ErrConflict
	case !bytes.Equal(rec.User(), stored.user()):
		return errUser
	}
	sh.replace(n, rec.Bytes())
	return nil
}

// End implements coatcheck.Store.
func (s *Store) End(_ context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	sh := s.shard(key.Tag())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.living(key, now.UnixMilli())
	switch {
	case n == 0:
		return coatcheck.ErrNotFound
	case string(sh.at(n).user()) != user:
		return errUser
	}
	err := last.Read(key, sh.at(n).payload())
	sh.end(n, now.UnixMilli(), until.UnixMilli())
	return err
}

// Len returns how many sessions the store holds. Those that expired since the janitor last came by are among them.
func (s *Store) Len() int { return int(s.live.Load()) }

// Ping implements coatcheck.Store.
func (s *Store) Ping(context.Context) error { return s.usable() }

// Close implements coatcheck.Store. It returns when the janitor has stopped.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		close(s.stop)
	})
	<-s.stopped
	return nil
}
