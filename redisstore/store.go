// Package redisstore keeps sessions in Redis, shared by every node, and caches the records in use in this process's memory;
// Redis invalidates a cached record when it changes.
//
// It works with one Redis (6.2 or newer), with Sentinel and with Cluster. Its keys, with the Tag in braces so that all of
// a user's stand in one Cluster slot:
//
//	coatcheck:{<tag>}:s:<key>    a record's bytes, or the tombstone's; expires when the session ends
//	coatcheck:{<tag>}:u:<user>   ZSET: the user's sessions by expiry; a member is the creation time (ms, 12 hex digits) and the key
//	coatcheck:{<tag>}:m:<user>   what the end of all the user's sessions left: the mark and its end, 8 bytes each; of a user at
//	                             the limit, instead, 16 zeros and a list of their oldest sessions; see createScript
//	coatcheck:{<tag>}:n:<user>:<number>  ten more of that list
//	coatcheck:{<tag>}:r:<nonce>  the answer of a script, for five seconds, in case it has to be asked for again;
//	                             with "probe" as its nonce, the write that is tried every two seconds
//
// <user> is the first 16 bytes of the user ID's SHA-256 in base64url.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Store is a coatcheck.Store in Redis. Make one with New and stop it with Close.
//
// A method that changed something returns when this node's next Load will see it. Every error that is not a sentinel of
// package coatcheck for the method is coatcheck.ErrUnavailable: then the operation may have been done or not.
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

	watcher watcher

	stats  counters
	closed atomic.Bool // written by Close

	born     time.Time
	clockAge atomic.Int64 // how old the store was when Redis' clock was last checked; written by watchClock
}

var _ coatcheck.Store = (*Store)(nil)

// These errors are caused by a defect of the caller only. A store refuses what would make its index of users wrong.
var (
	errNoRecord = errors.New("redisstore: not a record that was written")
	errUser     = errors.New("redisstore: the session is of another user")
	errCreated  = errors.New("redisstore: the session was created at another time")
	errTag      = errors.New("redisstore: the key's tag is not its user's")
	errVersion  = errors.New("redisstore: the new version does not follow the old one")
)

// New connects to Redis and checks its set-up. It returns coatcheck.ErrUnavailable when that cannot be done within ctx, and
// an error that names all mistakes in the options.
func New(ctx context.Context, opt Options) (*Store, error) {
	s, found, err := newStore(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, opt, found); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// start judges the findings, tries the store out and begins to watch Redis.
func (s *Store) start(ctx context.Context, opt Options, found []Finding) error {
	for _, f := range found {
		if f.evicts && !opt.AllowEviction {
			return fmt.Errorf("%w: %s: %s", ErrEviction, f.Addr, f.Text)
		}
	}
	s.watcher.mayEvict.Store(opt.AllowEviction)
	s.look(ctx) // which node serves which slots before anything fails
	if err := s.tryOut(ctx); err != nil {
		return err
	}
	for _, f := range found {
		f.warn(s.log)
	}
	s.watch()
	return nil
}

// newStore is New without the trial of the store, and returns its findings instead of logging them.
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
	return s, s.inspect(ctx, conn, opt.AllowEviction), nil
}

func (s *Store) usable() error {
	if s.closed.Load() {
		return fmt.Errorf("redisstore: closed: %w", coatcheck.ErrUnavailable)
	}
	return nil
}

// Shared implements coatcheck.Store: all nodes on one Redis see the same sessions.
func (*Store) Shared() bool { return true }

// Ping implements coatcheck.Store. It reads a key that does not exist, in a Cluster one of each primary, all at once: while one
// primary answers, some sessions can be served. Every ten minutes it also checks Redis' clock, and warns of a wrong one.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	tags := []coatcheck.Tag{onlyTag}
	if primaries := s.watcher.primaries.Load(); primaries != nil {
		tags = *primaries
	}
	if err := s.pingAny(ctx, tags); err != nil {
		return err
	}
	s.watchClock(ctx)
	return nil
}

// errAnswered is why Ping cuts a read off: another primary has answered.
var errAnswered = errors.New("redisstore: another primary has answered")

// pingAny returns nil as soon as one of the tags' primaries has answered.
func (s *Store) pingAny(ctx context.Context, tags []coatcheck.Tag) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	answers := make(chan error, len(tags))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel(errAnswered)
	for _, tag := range tags {
		asking.Go(func() {
			_, err := s.get(ctx, s.key(tag, kindRecord, "ping"))
			answers <- err
		})
	}
	for range tags {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return err
}

// Close implements coatcheck.Store. It returns when nothing that the store started runs any more.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.watcher.stop()
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
