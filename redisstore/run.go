package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// operation is one call of a script.
type operation struct {
	name   string
	script *script
	keys   []string // all in one slot; the key that the operation is about comes first
	args   []string
	// durable says that the operation is acknowledged only when WaitReplicas replicas have it.
	durable bool
	// touches are the sessions that the script may change: they leave the cache when it has answered. If it is nil, only
	// the script knows them, and a barrier waits until Redis has sent all invalidations.
	touches []coatcheck.Key
	// tellsRetries says that the script gets one more argument if an earlier try may have taken effect. Such a script needs
	// no receipt.
	tellsRetries bool
}

// run calls the script until it has answered or the time is up, and returns its answer.
//
// A script that Redis refused has done nothing, and one whose answer was lost can be called again, because it recognizes
// what it has done. So run calls both again, within the timeout: a connection that is killed, a slot that moves, and a
// primary that changes cost a client time and nothing else.
func (s *Store) run(ctx context.Context, op operation) ([]rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	lost := false
	for attempts := 1; ; attempts++ {
		reply, err := s.call(ctx, op, lost)
		if err == nil {
			return reply, nil
		}
		s.distrust(err)
		refused, again := judge(err)
		lost = lost || !refused
		if !again || !pause(ctx, attempts) {
			s.stats.errors.Add(1)
			if refusalOf(err) != "" {
				s.note(err)
			}
			return nil, unavailable(op.name, err)
		}
	}
}

// call is one try of run. With lost, an earlier try may or may not have taken effect.
//
// All commands are pinned: rueidis would reuse their memory once they are answered, but a command that it has sent again
// over another connection may still be read by the writer of the first one (a data race in v1.0.79).
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

// send sends a command, and returns when the old versions of what it has changed can no longer be read from the cache.
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

// forget takes sessions that were just changed out of the cache. Reads that are under way put nothing there, because they
// may have seen the session before it was changed. Reads that begin later see the change.
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

// sendBarred sends a command and, behind it in the same pipeline, a second one. Redis sends the invalidations of a command
// to a connection after the answer to that command, but before the answer to the next: when the second answer has come,
// what this write invalidated has left the cache.
//
// The second command names a key, so that in a Cluster it goes to the same node, redirections included. It is built as one
// that rueidis does not retry by itself: if the connection breaks, the cache is flushed, which serves the same purpose.
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

// judge classifies an error of Redis or of the connection: whether it is certain that nothing was done, because Redis
// refused or was not reached, and whether it makes sense to try again.
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
	// The script met a session that had moved already, in a slot that is migrating to another node.
	return true, strings.Contains(re.Error(), "non local key")
}

// backoff is how long to wait after that many tries: about one millisecond at first, 32 in the end.
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

// unavailable returns the error for the caller.
func unavailable(what string, err error) error {
	if errors.Is(err, coatcheck.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("redisstore: %s: %w: %w", what, coatcheck.ErrUnavailable, quoted(err))
}

// maxQuoted bounds what an error says in Redis' words, in bytes.
const maxQuoted = 200

// quoted bounds an error's text, because Redis, or what answers in its place, may write anything. What a refusal says is worth reading:
// which command a user lacks, or which disk is full. The arguments of a command that Redis does not know are left out: the reply repeats
// them, and those of AUTH and HELLO are a password.
func quoted(err error) error {
	if err == nil {
		return nil
	}
	whole := err.Error()
	text, _, _ := strings.Cut(whole, ", with args")
	if len(text) > maxQuoted {
		text = text[:maxQuoted] + "…"
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, ""))
	if text == whole {
		return err
	}
	return quotedError{text, err}
}

// quotedError is an error with another text.
type quotedError struct {
	text string
	err  error
}

func (e quotedError) Error() string { return e.text }
func (e quotedError) Unwrap() error { return e.err }

// unexpected returns the error for an answer that no script gives, except the unknown of swap: that one took effect and was
// replaced since, or did not take effect.
func (s *Store) unexpected(what, status string) error {
	s.stats.errors.Add(1)
	return fmt.Errorf("redisstore: %s: %w: the script answered %.*q", what, coatcheck.ErrUnavailable, maxQuoted, status)
}

func isDamaged(err error) bool { return errors.Is(err, coatcheck.ErrDamaged) }
