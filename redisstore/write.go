package redisstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Create implements coatcheck.Store. It never returns coatcheck.ErrFull: if Redis' memory is full, the error is
// ErrUnavailable.
func (s *Store) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	user, tag := rec.UserID(), rec.Key.Tag()
	switch {
	case rec.Key == (coatcheck.Key{}) || rec.Version == 0 || rec.Version != coatcheck.Encoded(rec.Bytes()).Version():
		return 0, errNoRecord
	case user != "" && tag != coatcheck.TagOf(user):
		return 0, errTag
	}
	op := operation{name: "create", script: createScript, keys: []string{s.recordKey(rec.Key)}, tellsRetries: true, touches: none}
	if user != "" {
		name := userName(user)
		op.keys = append(op.keys, s.key(tag, kindIndex, name), s.key(tag, kindMark, name))
		if opt.Replace != (coatcheck.Key{}) && opt.Replace != rec.Key && opt.Replace.Tag() == tag {
			op.keys = append(op.keys, s.recordKey(opt.Replace))
			op.touches = []coatcheck.Key{opt.Replace}
			op.durable = true
		}
	}
	mark, limit, buried := "", "", ""
	if opt.Until.After(now) {
		buried = millis(opt.Until)
	}
	if opt.Limit > 0 {
		limit = strconv.Itoa(opt.Limit)
	}
	if opt.Mark != coatcheck.AnyMark {
		mark = string(binary.BigEndian.AppendUint64(nil, uint64(opt.Mark)))
	}
	op.args = []string{
		string(rec.Bytes()), ends(rec), member(rec), mark,
		limit, millis(now), buried,
	}
	reply, err := s.run(ctx, op)
	if err != nil {
		return 0, err
	}
	status := statusOf(reply)
	if names, ok := strings.CutPrefix(status, "ok"); ok {
		if opt.Replaced != nil && opt.Replaced.Read(opt.Replace, bytesOf(reply, 1)) != nil {
			opt.Replaced.Header = coatcheck.Header{}
		}
		return s.pushedOut(names), nil
	}
	switch status {
	case "revoked":
		return 0, coatcheck.ErrRevoked
	case "exists":
		return 0, coatcheck.ErrExists
	default:
		return 0, s.unexpected(op.name, status)
	}
}

// pushedOut takes the sessions that a login has ended at the limit out of the cache, and returns how many they are.
func (s *Store) pushedOut(names string) int {
	for i := 0; i+keyLen <= len(names); i += keyLen {
		if key, ok := coatcheck.ParseKey([]byte(names[i : i+keyLen])); ok {
			s.forget(key)
		}
	}
	return len(names) / keyLen
}

// Swap implements coatcheck.Store. With WaitReplicas it waits for the replicas if rec was rotated at now (RotatedAt), and
// not for renewals and changed values, because a failover that loses one of those gives no access to anyone.
func (s *Store) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	if v := coatcheck.Encoded(rec.Bytes()).Version(); v != old+1 {
		return fmt.Errorf("%w: %d after %d", errVersion, v, old)
	}
	op := operation{
		name: "swap", script: swapScript, keys: []string{s.recordKey(rec.Key)}, touches: []coatcheck.Key{rec.Key}, durable: rec.RotatedAt >= now.UnixMilli(),
		args: []string{string(rec.Bytes()), string(binary.BigEndian.AppendUint64(nil, old)), millis(now), ends(rec)},
	}
	op.tellsRetries = true
	if len(rec.User()) > 0 {
		op.keys = append(op.keys, s.key(rec.Key.Tag(), kindIndex, userName(rec.UserID())))
	}
	reply, err := s.run(ctx, op)
	if err != nil {
		return err
	}
	switch status := statusOf(reply); status {
	case "ok":
		return nil
	case "absent":
		return coatcheck.ErrNotFound
	case "conflict", "other":
		if err := readStored(cur, rec.Key, bytesOf(reply, 1)); err != nil {
			return err
		}
		return coatcheck.ErrConflict
	case "user":
		return errUser
	case "created":
		return errCreated
	default:
		return s.unexpected(op.name, status)
	}
}

// End implements coatcheck.Store.
func (s *Store) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	op := operation{
		name: "end", script: endScript, keys: []string{s.recordKey(key), s.receiptKey(key.Tag())}, durable: true,
		touches:      []coatcheck.Key{key},
		tellsRetries: true, args: []string{millis(now), millis(until), user},
	}
	if user != "" {
		op.keys = append(op.keys, s.key(key.Tag(), kindIndex, userName(user)))
	}
	reply, err := s.run(ctx, op)
	if err != nil {
		return err
	}
	switch status := statusOf(reply); status {
	case "absent":
		return coatcheck.ErrNotFound
	case "ok", "other":
		return readStored(last, key, bytesOf(reply, 1))
	case "user":
		return errUser
	default:
		return s.unexpected(op.name, status)
	}
}

// EndUser implements coatcheck.Store.
func (s *Store) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	tag := coatcheck.TagOf(user)
	keeps := keep != (coatcheck.Key{})
	switch {
	case keeps && (user == "" || len(user) > coatcheck.MaxUserID || keep.Tag() != tag):
		return 0, coatcheck.ErrNotFound
	case user == "" || len(user) > coatcheck.MaxUserID: // such a user has no session in an index, and their logins look at no mark
		return 0, nil
	}
	name, ends := userName(user), now.Add(coatcheck.MarkLife).UnixMilli()
	left := "" // the mark's value; empty: none is left
	if mark {
		value := binary.BigEndian.AppendUint64(nil, 1+rand.Uint64N(1<<63))
		left = string(binary.BigEndian.AppendUint64(value, uint64(ends)))
	}
	op := operation{
		name: "end user", script: endUserScript, durable: true,
		keys: []string{s.key(tag, kindIndex, name), s.receiptKey(tag), s.key(tag, kindMark, name)},
		args: []string{
			millis(now), millis(until), s.key(tag, kindRecord, ""), left,
			strconv.FormatInt(coatcheck.MarkLife.Milliseconds(), 10), keep.String(), user,
		},
	}
	if keeps {
		op.keys = append(op.keys, s.recordKey(keep))
	}
	reply, err := s.run(ctx, op)
	if err != nil {
		return 0, err
	}
	switch status := statusOf(reply); status {
	case "ok":
		ended, err := reply[1].AsInt64()
		if err != nil || !mark || !s.watcher.mayEvict.Load() {
			return int(ended), err
		}
		more, err := s.endOrphans(ctx, user, keep, now, until)
		return int(ended) + more, err
	case "absent":
		return 0, coatcheck.ErrNotFound
	default:
		return 0, s.unexpected(op.name, status)
	}
}

// readStored reads what stands where a record was expected. Bytes that are not a record count as no session; Load removes
// them.
func readStored(rec *coatcheck.Record, key coatcheck.Key, b []byte) error {
	err := rec.Read(key, b)
	if isDamaged(err) {
		return coatcheck.ErrNotFound
	}
	return err
}

// ends is when Redis expires a record.
func ends(rec *coatcheck.Record) string { return strconv.FormatInt(rec.Expiry(), 10) }

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// statusOf returns the first part of a script's answer.
func statusOf(reply []rueidis.RedisMessage) string { return string(bytesOf(reply, 0)) }

// bytesOf returns a part of a script's answer, nil if it is not there.
func bytesOf(reply []rueidis.RedisMessage, i int) []byte {
	if i >= len(reply) {
		return nil
	}
	b, _ := reply[i].AsBytes()
	return b
}
