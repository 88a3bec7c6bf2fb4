package redisstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// These are the lifetimes of the tests' sessions and of their tombstones.
const (
	life  = 20 * time.Minute
	grave = 5 * time.Minute
)

// opened returns a store that is closed when the test ends.
func opened(t testing.TB, opt redisstore.Options) *redisstore.Store {
	t.Helper()
	s := open(t, opt)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// session returns the first record of a session that is in no store yet.
func session(t testing.TB, user string) *coatcheck.Record {
	t.Helper()
	now := time.Now().UnixMilli()
	rec := &coatcheck.Record{}
	require.NoError(t, rec.Write(coatcheck.NewToken(coatcheck.TagOf(user)).Key(), coatcheck.Header{
		Version: 1, ID: newID(), RotatedAt: now, CreatedAt: now, LastSeen: now,
		IdleExpiry: now + life.Milliseconds(), AbsoluteExpiry: now + 2*life.Milliseconds(),
	}, []byte(user), []byte{192, 0, 2, 1}, []byte("agent"), nil))
	return rec
}

func newID() coatcheck.ID { return coatcheck.NewToken(coatcheck.Tag{}).ID() }

// add creates a session.
func add(t testing.TB, s *redisstore.Store, user string) *coatcheck.Record {
	t.Helper()
	rec := session(t, user)
	_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, time.Now())
	require.NoError(t, err)
	return rec
}

// next returns the record that a Swap of rec would put in its place, with a counter as its values.
func next(t testing.TB, rec *coatcheck.Record, edits ...func(*coatcheck.Header)) *coatcheck.Record {
	t.Helper()
	h := rec.Header
	h.Version++
	for _, e := range edits {
		e(&h)
	}
	count := binary.BigEndian.AppendUint16([]byte("\x01n"), 1)
	rec2 := &coatcheck.Record{}
	require.NoError(t, rec2.Write(rec.Key, h, rec.User(), rec.IP().AsSlice(), rec.UserAgent(), append(count, '1')))
	return rec2
}

// rotated is a Swap's edit: it sets a new ID, and the old one is admitted until the new one was used.
func rotated(h *coatcheck.Header) {
	h.PrevID, h.PrevUntil, h.ID, h.RotatedAt = h.ID, coatcheck.PrevOpen, newID(), time.Now().UnixMilli()
}

// cycled is a Swap's edit: it sets a new ID, and the old one is not admitted any more.
func cycled(h *coatcheck.Header) {
	rotated(h)
	h.PrevUntil = h.RotatedAt
}

func swap(s *redisstore.Store, rec *coatcheck.Record) error { return swapAt(s, rec, time.Now()) }

// swapAt is swap at a time of its own. A Swap is a rotation, for which replicas are waited, only at the very time at which its record was
// rotated: not if the clock has shown another millisecond since.
func swapAt(s *redisstore.Store, rec *coatcheck.Record, now time.Time) error {
	var cur coatcheck.Record
	return s.Swap(context.Background(), rec, rec.Version-1, now, &cur)
}

func end(s *redisstore.Store, rec *coatcheck.Record) error {
	var last coatcheck.Record
	return s.End(context.Background(), rec.Key, rec.UserID(), time.Now(), time.Now().Add(grave), &last)
}

func endUser(s *redisstore.Store, user string, keep coatcheck.Key) error {
	_, err := s.EndUser(context.Background(), user, keep, true, time.Now(), time.Now().Add(grave))
	return err
}

// load loads the session as the token of its record would.
func load(s *redisstore.Store, rec *coatcheck.Record) error {
	var got coatcheck.Record
	return s.Load(context.Background(), rec.Key, rec.ID, time.Now(), &got)
}

// opens reports whether id opens the session, as package coatcheck would decide it.
func opens(s *redisstore.Store, rec *coatcheck.Record, id coatcheck.ID) (bool, error) {
	var got coatcheck.Record
	now := time.Now()
	if err := s.Load(context.Background(), rec.Key, id, now, &got); err != nil {
		return false, err
	}
	return got.Standing(id, now).Admitted(), nil
}

// warm loads the session until the cache has it.
func warm(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, "the session to be cached", func() bool {
		return load(s, rec) == nil && s.Cached(rec.Key, rec.ID, time.Now())
	})
}

// extended returns rec, which has no values, in the codec's version 2.
func extended(t testing.TB, rec *coatcheck.Record) *coatcheck.Record {
	t.Helper()
	b := append(bytes.Clone(rec.Bytes()), "\x00\x0D\x02\x00\x0A"+"public key"...)
	b[0] = 0xC2
	rec2 := &coatcheck.Record{}
	require.NoError(t, rec2.Read(rec.Key, b))
	return rec2
}
