package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// operation is one call of a script.
type operation struct {
	name   string
	script *script
	keys   []string // all in one slot; what the operation is about comes first
	args   []string
	// durable operations are acknowledged when WaitReplicas of them have it.
	durable bool
	// touches are the sessions that the script may change: they leave the cache when it has answered. Nil: only the script
	// will know, and a barrier waits until Redis has told of all.
	touches []coatcheck.Key
	// tellsRetries: the script is told by one more argument that an earlier try may have gone through. It needs no receipt.
	tellsRetries bool
}

// run calls the script until it has answered or the time is up, and returns its answer.
//
// A script that Redis refused has done nothing, and one whose answer was lost can be called again: it recognizes what it
// has done. So both are, within the timeout: a connection that is killed, a slot that moves, and a primary that changes
// cost a client time and nothing else.
func (s *Store) run(ctx context.Context, op operation) ([]rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	lost := false
	for attempts := 1; ; attempts++ {
		reply, err := s.call(ctx, op, lost)
		if err == nil {
			return reply, nil
		}
		refused, again := judge(err)
		lost = lost || !refused
		if !again || !pause(ctx, attempts) {
			s.stats.errors.Add(1)
			return nil, unavailable(op.name, err)
		}
	}
}

// call is one try of run. An earlier one was lost when nobody knows whether it went through.
//
// All commands are pinned: rueidis would use their memory again when they are answered, but a command that it sent once more
// over another connection may still be read by the writer of the first (a data race in v1.0.79).
func (s *Store) call(ctx context.Context, op operation, lost bool) ([]rueidis.RedisMessage, error) {
	args := op.args
	if op.tellsRetries && lost {
		args = slices.Concat(args, []string{"retried"})
	}
	sha := func() rueidis.Completed {
		return s.client.B().Evalsha().Sha1(op.script.sha).Numkeys(int64(len(op.keys))).Key(op.keys...).Arg(args...).Build().Pin()
	}
	whole := func() rueidis.Completed {
		return s.client.B().Eval().Script(op.script.text).Numkeys(int64(len(op.keys))).Key(op.keys...).Arg(args...).Build().Pin()
	}
	reply, err := s.send(ctx, op, sha)
	if re, ok := rueidis.IsRedisErr(err); ok && re.IsNoScript() {
		reply, err = s.send(ctx, op, whole)
	}
	return reply, err
}

// send sends a command, and returns when what it has changed can be read from the cache no more.
func (s *Store) send(ctx context.Context, op operation, cmd func() rueidis.Completed) (reply []rueidis.RedisMessage, err error) {
	switch {
	case op.durable && s.wait > 0:
		reply, err = s.sendDurable(ctx, op, cmd)
	case op.touches == nil && s.cache != nil:
		reply, err = s.sendBarred(ctx, op.keys[0], cmd)
	default:
		defer s.stats.roundTrip(time.Now())
		reply, err = parts(s.client.Do(ctx, cmd()))
	}
	s.forget(op.touches...)
	return reply, err
}

// forget takes sessions that were just changed out of the cache. Reads that are under way put nothing there: they may have
// met the session before it was changed. Those that begin later meet it afterwards.
func (s *Store) forget(keys ...coatcheck.Key) {
	if s.cache == nil {
		return
	}
	for _, key := range keys {
		s.cache.takeOut(key)
	}
}

// parts returns what a script has answered. An answer of one part is not in an array.
func parts(result rueidis.RedisResult) ([]rueidis.RedisMessage, error) {
	msg, err := result.ToMessage()
	if err != nil || !msg.IsArray() {
		return []rueidis.RedisMessage{msg}, err
	}
	return msg.ToArray()
}

// sendBarred sends a command and, behind it in the same pipeline, a second one. Redis tells a connection what has changed
// after the answer to the command that changed it, but before the answer to the next: when that is there, what this write
// invalidated has left the cache.
//
// The second command names a key, so that in a Cluster it takes the same way, redirections included. It is built as one
// that rueidis does not try again by itself: when the connection broke, the cache was flushed, which serves as well.
func (s *Store) sendBarred(ctx context.Context, key string, cmd func() rueidis.Completed) ([]rueidis.RedisMessage, error) {
	defer s.stats.roundTrip(time.Now())
	results := s.client.DoMulti(ctx, cmd(), s.barrier(key))
	reply, err := parts(results[0])
	if err == nil && results[1].NonRedisError() != nil {
		s.cache.flush()
	}
	return reply, err
}

func (s *Store) barrier(key string) rueidis.Completed {
	return s.client.B().Arbitrary("EXISTS").Keys(key).Build().Pin()
}

// judge says what an error of Redis or of the way there means: whether nothing was done for certain, because Redis refused
// or was not reached, and whether it makes sense to try again.
func judge(err error) (refused, again bool) {
	re, ok := rueidis.IsRedisErr(err)
	if !ok {
		return errors.Is(err, errNoConnection), !errors.Is(err, rueidis.ErrClosing) && !errors.Is(err, errReplicas)
	}
	if _, moved := re.IsMoved(); moved {
		return true, true
	}
	if _, ask := re.IsAsk(); ask {
		return true, true
	}
	for _, passing := range []string{"TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED"} {
		if strings.HasPrefix(re.Error(), passing) {
			return true, true
		}
	}
	// A script that came upon a session which had moved already, in a slot on its way to another node.
	return true, strings.Contains(re.Error(), "non local key")
}

// backoff is how long to wait after so many tries: about a millisecond at first, 32 at last.
func backoff(attempts int) time.Duration {
	return rand.N(time.Millisecond<<min(attempts, 6)) + time.Millisecond/2
}

// pause waits before the next try, and reports whether there is time for one.
func pause(ctx context.Context, attempts int) bool {
	wait := backoff(attempts)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// unavailable is what an error means to the caller. Neither Redis nor rueidis repeats a command's arguments in its errors.
func unavailable(what string, err error) error {
	if errors.Is(err, coatcheck.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("redisstore: %s: %w: %w", what, coatcheck.ErrUnavailable, err)
}

// unexpected is an answer that a script does not give, save swap's unknown: it went through and another came on top, or it
// did not go through.
func (s *Store) unexpected(what, status string) error {
	s.stats.errors.Add(1)
	return fmt.Errorf("redisstore: %s: %w: the script answered %s", what, coatcheck.ErrUnavailable, strconv.Quote(status))
}

func isDamaged(err error) bool { return errors.Is(err, coatcheck.ErrDamaged) }
