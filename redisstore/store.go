// Package redisstore keeps sessions in Redis, shared by every node, and the records in use in this process's memory, from
// where Redis takes them back when they change.
//
// It works with one Redis (6.2 or newer), with Sentinel and with Cluster. Its keys, with the Tag in braces so that all of
// a user's stand in one Cluster slot:
//
//	coatcheck:{<tag>}:s:<key>    a record's bytes, or the tombstone's; goes when the session ends
//	coatcheck:{<tag>}:u:<user>   ZSET: the user's sessions by expiry; a member is the creation time (ms, 12 hex digits) and the key
//	coatcheck:{<tag>}:m:<user>   what the end of all the user's sessions left: the mark and its end, 8 bytes each; of a user at
//	                             the limit, instead, 16 zeros and the index entries of his oldest sessions, for a minute
//	coatcheck:{<tag>}:r:<nonce>  the answer of a script, for five seconds, in case it has to be asked for again
//
// <user> is the first 16 bytes of the user ID's SHA-256 in base64url.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Store is a coatcheck.Store in Redis. Make one with New and stop it with Close.
//
// A method that changed something returns when this node's next Load will see it. Errors that are none of package
// coatcheck's sentinels for what was asked are coatcheck.ErrUnavailable: then what was asked may have been done or not.
type Store struct {
	client  rueidis.Client
	prefix  string
	timeout time.Duration
	wait    int
	log     *slog.Logger
	dialer  *dialer

	cache    *cache // nil: no cache
	noCache  error  // why there is none, where one was asked for
	cacheTTL time.Duration
	fills    chan struct{} // holds one for each fill under way; Close fills it up

	stats  counters
	closed atomic.Bool // written by Close

	born     time.Time
	clockAge atomic.Int64 // how old the store was when Redis' clock was looked at last; written by watchClock
}

var _ coatcheck.Store = (*Store)(nil)

// Errors that only a defect of the caller brings about. A store refuses what would make its index of users lie.
var (
	errNoRecord = errors.New("redisstore: not a record that was written")
	errUser     = errors.New("redisstore: the session is of another user")
	errTag      = errors.New("redisstore: the key's tag is not its user's")
	errVersion  = errors.New("redisstore: the new version does not follow the old one")
)

// New connects to Redis and looks at how it is set up. It returns coatcheck.ErrUnavailable when that cannot be done within
// ctx, and all mistakes in the options.
func New(ctx context.Context, opt Options) (*Store, error) {
	s, found, err := newStore(ctx, opt)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		f.warn(s.log)
	}
	if err := s.tryOut(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newStore is New without trying it out, and with what it found instead of a log.
func newStore(ctx context.Context, opt Options) (*Store, []Finding, error) {
	opt, err := opt.withDefaults()
	conn, urlErr := opt.client()
	if err := errors.Join(err, urlErr); err != nil {
		return nil, nil, err
	}
	s := &Store{
		born:    time.Now(),
		prefix:  opt.Prefix,
		timeout: opt.Timeout,
		wait:    opt.WaitReplicas,
		log:     opt.Logger,
	}
	if err := s.connect(ctx, opt, conn); err != nil {
		return nil, nil, unavailable("connecting", err)
	}
	return s, s.inspect(ctx, conn), nil
}

func (s *Store) usable() error {
	if s.closed.Load() {
		return fmt.Errorf("redisstore: closed: %w", coatcheck.ErrUnavailable)
	}
	return nil
}

// Shared implements coatcheck.Store: all nodes on one Redis see the same sessions.
func (*Store) Shared() bool { return true }

// Ping implements coatcheck.Store. It reads a key that does not exist; in a Cluster with a part of it down it tries
// others, since most sessions can be served then. Every ten minutes it looks at Redis' clock, too, and warns of a wrong one.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	var err error
	for range 3 {
		tag := coatcheck.TagOf("")
		if _, err = s.get(ctx, s.key(tag, kindRecord, "ping")); err == nil || s.client.Mode() != rueidis.ClientModeCluster {
			break
		}
	}
	if err == nil {
		s.watchClock(ctx)
	}
	return err
}

// Close implements coatcheck.Store. It returns when nothing that the store started runs any more.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.client.Close()
	s.dialer.close()
	if s.cache != nil {
		for range cap(s.fills) {
			s.fills <- struct{}{}
		}
		s.cache.flush()
	}
	return nil
}
