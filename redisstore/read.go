package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Load implements coatcheck.Store. The cache can only admit a request, never refuse it; a Load from the cache does not
// allocate.
func (s *Store) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.cache != nil {
		found, again := s.cache.load(key, id, now, rec)
		if again {
			s.fill(key)
		}
		if found {
			return nil
		}
	}
	return s.loadPast(ctx, key, id, now, rec)
}

// loadPast is Load past the cache. It is a GET that Redis does not track, because otherwise made-up tokens would evict the
// keys in use from its tracking table. Only a record that exists and admits id is fetched again, for the cache.
func (s *Store) loadPast(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	s.stats.misses.Add(1)
	b, err := s.get(ctx, s.recordKey(key))
	if err != nil {
		return err
	}
	err = coatcheck.ErrNotFound
	if b != nil {
		err = rec.Read(key, b)
	}
	if err == nil && !rec.Lives(now) {
		err = coatcheck.ErrExpired
	}
	if s.cache != nil {
		s.cache.keep(key, err, rec)
		if err == nil && rec.Standing(id, now).Admitted() {
			s.fill(key)
		}
	}
	switch {
	case isDamaged(err):
		return s.dropDamaged(ctx, key, b, err)
	case errors.Is(err, coatcheck.ErrEnded):
		return s.confirm(ctx, key, err)
	}
	return err
}

// fill reads a record for the cache, beside the request that missed it. When many fills are under way, or the read fails,
// the next miss tries again.
func (s *Store) fill(key coatcheck.Key) {
	select {
	case s.fills <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.fills }()
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		defer cancel()
		// A static TTL: Redis is not asked for the key's own, because a cached record is judged by the expiry in it.
		_ = s.client.DoCache(ctx, s.client.B().Get().Key(s.recordKey(key)).Cache().ToStaticTTL().Pin(), s.cacheTTL)
	}()
}

// dropDamaged deletes bytes that are no record, unless another record was written in the meantime, and returns cause.
func (s *Store) dropDamaged(ctx context.Context, key coatcheck.Key, b []byte, cause error) error {
	_, err := s.run(ctx, operation{
		name: "drop", script: dropScript, keys: []string{s.recordKey(key)}, args: []string{string(b)}, touches: []coatcheck.Key{key},
	})
	if err != nil {
		return err
	}
	return cause
}

// confirm returns cause, the error that reports a tombstone, once as many replicas have the tombstone as WaitReplicas asks
// for. Without this wait, a logout that was answered 503 because they did not would be answered 204 on its retry, and a
// failover could undo it.
func (s *Store) confirm(ctx context.Context, key coatcheck.Key, cause error) error {
	if s.wait == 0 {
		return cause
	}
	op := operation{name: "confirm", script: confirmScript, keys: []string{s.receiptKey(key.Tag())}, durable: true, touches: none}
	if _, err := s.run(ctx, op); err != nil {
		return err
	}
	return cause
}

// none is the list of touched sessions for a script that changes no session.
var none = []coatcheck.Key{}

// Mark implements coatcheck.Store.
func (s *Store) Mark(ctx context.Context, user string, _ time.Time) (coatcheck.Mark, error) {
	if err := s.usable(); err != nil || user == "" {
		return 0, err
	}
	b, err := s.get(ctx, s.key(coatcheck.TagOf(user), kindMark, userName(user)))
	if err != nil || len(b) != 16 { // what is longer is a list of the user's sessions
		return 0, err
	}
	return coatcheck.Mark(binary.BigEndian.Uint64(b)), nil
}

// List implements coatcheck.Store. It shows the sessions as they were at one moment.
func (s *Store) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	if err := s.usable(); err != nil || user == "" { // sessions without a user are in no index
		return err
	}
	tag := coatcheck.TagOf(user)
	reply, err := s.run(ctx, operation{
		name: "list", script: listScript, touches: none,
		keys: []string{s.key(tag, kindIndex, userName(user)), s.key(tag, kindReceipt, "none")},
		args: []string{millis(now), s.key(tag, kindRecord, "")},
	})
	if err != nil {
		return err
	}
	var rec coatcheck.Record
	for i := 0; i+1 < len(reply); i += 2 {
		key, ok := coatcheck.ParseKey(bytesOf(reply, i))
		// Bytes that are no record are left to Load, as are records that a newer release wrote.
		if !ok || rec.Read(key, bytesOf(reply, i+1)) != nil || !rec.Lives(now) || string(rec.User()) != user {
			continue
		}
		if !yield(&rec) {
			return nil
		}
	}
	return nil
}

// get reads a key, nil if it does not exist.
func (s *Store) get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	began := time.Now()
	b, err := s.client.Do(ctx, s.client.B().Get().Key(key).Build().Pin()).AsBytes()
	missing := rueidis.IsRedisNil(err)
	if err != nil && !missing && errors.Is(context.Cause(ctx), errAnswered) { // no failure of Redis, and its duration says nothing about Redis
		return nil, errAnswered
	}
	s.stats.roundTrip(began)
	if missing {
		return nil, nil
	}
	if err != nil {
		s.stats.errors.Add(1)
		return nil, unavailable("get", err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}
