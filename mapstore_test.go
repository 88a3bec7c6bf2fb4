package coatcheck_test

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
)

// mapStore is the Store contract in the plainest form: one mutex, one map. It is simple enough to be obviously correct, and
// never removes expired sessions, so that no test relies on a janitor.
type mapStore struct {
	mu    sync.Mutex
	slots map[coatcheck.Key]slot
	marks map[string]userMark
	seq   coatcheck.Mark
}

type slot struct {
	raw   []byte // a record's encoding, or anything that a test put there
	until time.Time
	ended bool // a tombstone, until the time above
}

type userMark struct {
	mark  coatcheck.Mark
	until time.Time
}

func newMapStore() *mapStore {
	return &mapStore{slots: map[coatcheck.Key]slot{}, marks: map[string]userMark{}}
}

// read is the only place that decides what stands at a key.
func (m *mapStore) read(key coatcheck.Key, now time.Time, rec *coatcheck.Record) error {
	s, ok := m.slots[key]
	switch {
	case !ok, s.ended && !now.Before(s.until):
		return coatcheck.ErrNotFound
	case s.ended:
		return coatcheck.ErrEnded
	}
	if err := rec.Read(key, s.raw); err != nil {
		return err
	}
	if !rec.Lives(now) {
		return coatcheck.ErrExpired
	}
	return nil
}

func (m *mapStore) Load(_ context.Context, key coatcheck.Key, _ coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(key, now, rec)
}

func (m *mapStore) Mark(_ context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.markOf(user, now), nil
}

func (m *mapStore) markOf(user string, now time.Time) coatcheck.Mark {
	if mark := m.marks[user]; now.Before(mark.until) {
		return mark.mark
	}
	return 0
}

func (m *mapStore) Create(_ context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	user := rec.UserID()
	if opt.Replaced != nil {
		opt.Replaced.Version = 0
	}
	if _, taken := m.slots[rec.Key]; taken {
		return 0, coatcheck.ErrExists
	}
	if user != "" && opt.Mark != coatcheck.AnyMark && m.markOf(user, now) != opt.Mark {
		return 0, coatcheck.ErrRevoked
	}
	if opt.Replace != (coatcheck.Key{}) && m.read(opt.Replace, now, opt.Replaced) == nil {
		m.slots[opt.Replace] = slot{ended: true, until: opt.Until}
	} else if opt.Replaced != nil {
		opt.Replaced.Version = 0
	}
	m.slots[rec.Key] = slot{raw: bytes.Clone(rec.Bytes())}
	if user == "" || opt.Limit <= 0 {
		return 0, nil
	}
	live := m.liveOf(user, now)
	over := max(0, len(live)-opt.Limit)
	for _, old := range live[:over] {
		m.slots[old.Key] = slot{ended: true, until: opt.Until}
	}
	return over, nil
}

// liveOf returns copies of the user's live records, oldest first.
func (m *mapStore) liveOf(user string, now time.Time) []*coatcheck.Record {
	var live []*coatcheck.Record
	for key := range m.slots {
		rec := new(coatcheck.Record)
		if m.read(key, now, rec) == nil && rec.UserID() == user {
			live = append(live, rec)
		}
	}
	slices.SortFunc(live, func(a, b *coatcheck.Record) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), bytes.Compare(a.Key[:], b.Key[:]))
	})
	return live
}

func (m *mapStore) Swap(_ context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(rec.Key, now, cur); err != nil {
		return gone(err)
	}
	if cur.Version != old {
		return coatcheck.ErrConflict
	}
	m.slots[rec.Key] = slot{raw: bytes.Clone(rec.Bytes())}
	return nil
}

func (m *mapStore) End(_ context.Context, key coatcheck.Key, _ string, now, until time.Time, last *coatcheck.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(key, now, last); err != nil {
		m.dropExpired(now, func(rec *coatcheck.Record) bool { return rec.Key == key })
		return gone(err)
	}
	m.slots[key] = slot{ended: true, until: until}
	return nil
}

// dropExpired removes those of some sessions that have expired.
func (m *mapStore) dropExpired(now time.Time, some func(*coatcheck.Record) bool) {
	for key := range m.slots {
		rec := new(coatcheck.Record)
		if m.read(key, now, rec) == coatcheck.ErrExpired && some(rec) { //nolint:errorlint // read returns the sentinel itself
			delete(m.slots, key)
		}
	}
}

func gone(err error) error {
	if err == coatcheck.ErrEnded { //nolint:errorlint // read returns the sentinel itself
		return coatcheck.ErrNotFound
	}
	return err
}

func (m *mapStore) List(_ context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	m.mu.Lock()
	live := m.liveOf(user, now)
	m.mu.Unlock()
	for _, rec := range live {
		if !yield(rec) {
			break
		}
	}
	return nil
}

// Scan goes by the order of keys. A cursor is the last one that it has visited.
func (m *mapStore) Scan(_ context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (string, error) {
	m.mu.Lock()
	keys := slices.SortedFunc(maps.Keys(m.slots), func(a, b coatcheck.Key) int { return bytes.Compare(a[:], b[:]) })
	m.mu.Unlock()
	if cursor != "" {
		last, ok := coatcheck.ParseKey([]byte(cursor))
		if !ok {
			return "", coatcheck.ErrCursor
		}
		keys = slices.DeleteFunc(keys, func(k coatcheck.Key) bool { return bytes.Compare(k[:], last[:]) <= 0 })
	}
	next := ""
	if len(keys) > limit {
		keys = keys[:limit]
		next = keys[limit-1].String()
	}
	var rec coatcheck.Record
	for _, key := range keys {
		m.mu.Lock()
		err := m.read(key, now, &rec)
		m.mu.Unlock()
		if err == nil {
			yield(&rec)
		}
	}
	return next, nil
}

func (m *mapStore) EndUser(_ context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := m.liveOf(user, now)
	spared := slices.IndexFunc(live, func(r *coatcheck.Record) bool { return r.Key == keep })
	if keep != (coatcheck.Key{}) && spared < 0 {
		return 0, coatcheck.ErrNotFound
	}
	m.dropExpired(now, func(rec *coatcheck.Record) bool { return rec.UserID() == user })
	ended := 0
	for i, rec := range live {
		if i != spared {
			m.slots[rec.Key] = slot{ended: true, until: until}
			ended++
		}
	}
	if mark {
		m.seq++
		m.marks[user] = userMark{mark: m.seq, until: now.Add(coatcheck.MarkLife)}
	}
	return ended, nil
}

func (*mapStore) Shared() bool { return false }

func (m *mapStore) Ping(context.Context) error { return nil }
func (m *mapStore) Close() error               { return nil }

// put places raw bytes at a key, as a release of another version or a broken disk would.
func (m *mapStore) put(key coatcheck.Key, raw []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots[key] = slot{raw: bytes.Clone(raw)}
}

// raw returns the bytes at a key, nil if no record stands there.
func (m *mapStore) raw(key coatcheck.Key) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.slots[key].raw)
}

// live counts the records of all users that live at now.
func (m *mapStore) live(now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	var rec coatcheck.Record
	for key := range m.slots {
		if m.read(key, now, &rec) == nil {
			n++
		}
	}
	return n
}
