package shardstore_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// TestModel drives a store and a plain map through the same random steps and wants the same answers.
func TestModel(t *testing.T) {
	require.Equal(t, coatcheck.TagOf(twinA), coatcheck.TagOf(twinB), "the twins collide")
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: t0, most: rapid.SampledFrom([]int{0, 3, 8}).Draw(t, "most")}
		s, err := shardstore.New(shardstore.Options{
			Shards:      rapid.SampledFrom([]int{1, 4}).Draw(t, "shards"),
			MaxSessions: m.most, JanitorEvery: asleep, Now: func() time.Time { return m.now },
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		m.s, m.sessions, m.marks = s, map[coatcheck.Key]*modelSession{}, map[string]modelMark{}
		t.Repeat(map[string]func(*rapid.T){
			"create":  m.create,
			"swap":    m.swap,
			"end":     m.end,
			"endUser": m.endUser,
			"wait":    m.wait,
			"sweep":   m.sweep,
			"":        m.check,
		})
	})
}

// Two users with one Tag.
const (
	twinA = "user-96524"
	twinB = "user-107718"
)

// model is what the store should be.
type model struct {
	s        *shardstore.Store
	now      time.Time
	most     int
	sessions map[coatcheck.Key]*modelSession // every one that ever was
	keys     []coatcheck.Key                 // of sessions, in order of creation
	marks    map[string]modelMark
}

type modelSession struct {
	rec   coatcheck.Record
	ended bool
	until time.Time // of the tombstone
}

type modelMark struct {
	mark  coatcheck.Mark
	until time.Time
}

func (m *model) lives(key coatcheck.Key) bool {
	s := m.sessions[key]
	return s != nil && !s.ended && s.rec.Lives(m.now)
}

// living returns the keys of all live sessions that fit.
func (m *model) living(fits func(*coatcheck.Record) bool) []coatcheck.Key {
	keys := []coatcheck.Key{}
	for _, key := range m.keys {
		if m.lives(key) && fits(&m.sessions[key].rec) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (m *model) livingOf(user string) []coatcheck.Key {
	return m.living(func(rec *coatcheck.Record) bool { return user != "" && rec.UserID() == user })
}

func (m *model) finish(key coatcheck.Key, until time.Time) {
	m.sessions[key].ended, m.sessions[key].until = true, until
}

func (m *model) markOf(user string) coatcheck.Mark {
	if mark := m.marks[user]; m.now.Before(mark.until) {
		return mark.mark
	}
	return 0
}

func drawUser(t *rapid.T) string {
	return rapid.SampledFrom([]string{twinA, twinB, "ada", ""}).Draw(t, "user")
}

// drawKey draws the key of a session that is, or was, or never will be.
func (m *model) drawKey(t *rapid.T) coatcheck.Key {
	return rapid.SampledFrom(append(m.keys, coatcheck.Key{1})).Draw(t, "key")
}

func drawLife(t *rapid.T, name string) time.Duration {
	return time.Duration(rapid.IntRange(1, 60_000).Draw(t, name)) * time.Millisecond
}

func (m *model) create(t *rapid.T) {
	user := drawUser(t)
	rec := session(t, user, m.now.Add(-drawLife(t, "age")), drawLife(t, "ttl")+time.Minute)
	replaced := &coatcheck.Record{}
	opt := coatcheck.CreateOptions{
		Mark:     m.markOf(user),
		Limit:    rapid.IntRange(0, 4).Draw(t, "limit"),
		Replace:  m.drawKey(t),
		Replaced: replaced,
		Until:    m.now.Add(drawLife(t, "until")),
	}
	if rapid.Bool().Draw(t, "began earlier") {
		opt.Mark = 0
	}
	ended, err := m.s.Create(context.Background(), rec, opt, m.now)

	if mark := m.markOf(user); user != "" && mark != 0 && mark != opt.Mark {
		require.ErrorIs(t, err, coatcheck.ErrRevoked)
		return
	}
	mine := m.livingOf(user)
	out := []coatcheck.Key{}
	if slices.Contains(mine, opt.Replace) {
		mine = slices.DeleteFunc(mine, func(k coatcheck.Key) bool { return k == opt.Replace })
		out = append(out, opt.Replace)
	}
	slices.SortFunc(mine, func(a, b coatcheck.Key) int {
		if c := m.sessions[a].rec.CreatedAt - m.sessions[b].rec.CreatedAt; c != 0 {
			return int(c)
		}
		return bytes.Compare(a[:], b[:])
	})
	wantEnded := 0
	if user != "" && opt.Limit > 0 {
		wantEnded = max(0, len(mine)+1-opt.Limit)
	}
	wantReplaced := len(out) == 1
	out = append(out, mine[:wantEnded]...)
	all := m.living(func(*coatcheck.Record) bool { return true })
	if m.most > 0 && len(all) >= m.most && len(out) == 0 {
		require.ErrorIs(t, err, coatcheck.ErrFull)
		return
	}
	require.NoError(t, err)
	require.Equal(t, wantEnded, ended)
	require.Equal(t, wantReplaced, replaced.Version != 0)
	if wantReplaced {
		require.Equal(t, m.sessions[opt.Replace].rec.Bytes(), replaced.Bytes())
	}
	for _, key := range out {
		m.finish(key, opt.Until)
	}
	m.sessions[rec.Key] = &modelSession{rec: *rec}
	m.keys = append(m.keys, rec.Key)
}

func (m *model) swap(t *rapid.T) {
	key := m.drawKey(t)
	next := session(t, "", m.now, time.Minute)
	h, user := next.Header, []byte(nil)
	if was := m.sessions[key]; was != nil {
		h, user = was.rec.Header, was.rec.User()
	}
	h.IdleExpiry = m.now.Add(drawLife(t, "ttl")).UnixMilli()
	old := h.Version + uint64(rapid.IntRange(0, 1).Draw(t, "stale"))
	h.Version = old + 1
	next, cur := &coatcheck.Record{}, &coatcheck.Record{}
	require.NoError(t, next.Write(key, h, user, nil, nil, nil))
	err := m.s.Swap(context.Background(), next, old, m.now, cur)
	switch {
	case !m.lives(key):
		require.ErrorIs(t, err, coatcheck.ErrNotFound)
	case m.sessions[key].rec.Version != old:
		require.ErrorIs(t, err, coatcheck.ErrConflict)
		require.Equal(t, m.sessions[key].rec.Bytes(), cur.Bytes())
	default:
		require.NoError(t, err)
		m.sessions[key].rec = *next
	}
}

func (m *model) end(t *rapid.T) {
	key := m.drawKey(t)
	user := ""
	if was := m.sessions[key]; was != nil {
		user = was.rec.UserID()
	}
	last, until := &coatcheck.Record{}, m.now.Add(drawLife(t, "until"))
	err := m.s.End(context.Background(), key, user, m.now, until, last)
	if !m.lives(key) {
		require.ErrorIs(t, err, coatcheck.ErrNotFound)
		return
	}
	require.NoError(t, err)
	require.Equal(t, m.sessions[key].rec.Bytes(), last.Bytes())
	m.finish(key, until)
}

func (m *model) endUser(t *rapid.T) {
	user, keep := drawUser(t), coatcheck.Key{}
	if rapid.Bool().Draw(t, "others only") {
		keep = m.drawKey(t)
	}
	until := m.now.Add(drawLife(t, "until"))
	before, _ := m.s.Mark(context.Background(), user, m.now)
	ended, err := m.s.EndUser(context.Background(), user, keep, m.now, until)
	mine := m.livingOf(user)
	if keep != (coatcheck.Key{}) && !slices.Contains(mine, keep) {
		require.ErrorIs(t, err, coatcheck.ErrNotFound)
		return
	}
	require.NoError(t, err)
	wantEnded := 0
	for _, key := range mine {
		if key != keep {
			m.finish(key, until)
			wantEnded++
		}
	}
	require.Equal(t, wantEnded, ended)
	if user != "" {
		mark, err := m.s.Mark(context.Background(), user, m.now)
		require.NoError(t, err)
		require.NotEqual(t, before, mark)
		m.marks[user] = modelMark{mark, m.now.Add(coatcheck.MarkLife)}
	}
}

func (m *model) wait(t *rapid.T) { m.now = m.now.Add(drawLife(t, "wait")) }

// sweep also checks that nothing stays behind.
func (m *model) sweep(t *rapid.T) {
	m.s.Sweep()
	var want shardstore.Sizes
	for _, s := range m.sessions {
		if s.ended && m.now.UnixMilli() < s.until.UnixMilli() {
			want.Tombstones++
		}
	}
	want.Sessions = len(m.living(func(*coatcheck.Record) bool { return true }))
	for _, user := range []string{twinA, twinB, "ada"} {
		if n := len(m.livingOf(user)); n > 0 {
			want.Users++
			want.Indexed += n
		}
		if m.markOf(user) != 0 {
			want.Marks++
		}
	}
	got, err := m.s.Sizes()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// check looks at everything after each step.
func (m *model) check(t *rapid.T) {
	_, err := m.s.Sizes()
	require.NoError(t, err)
	var got coatcheck.Record
	for key, s := range m.sessions {
		err := m.s.Load(context.Background(), key, coatcheck.ID{}, m.now, &got)
		switch {
		case m.lives(key):
			require.NoError(t, err)
			require.Equal(t, s.rec.Bytes(), got.Bytes())
		case s.ended && m.now.UnixMilli() < s.until.UnixMilli():
			require.ErrorIs(t, err, coatcheck.ErrEnded)
		default:
			require.ErrorIs(t, err, coatcheck.ErrNotFound)
		}
	}
	for _, user := range []string{twinA, twinB, "ada", ""} {
		listed := []coatcheck.Key{}
		require.NoError(t, m.s.List(context.Background(), user, m.now, func(rec *coatcheck.Record) bool {
			require.Equal(t, m.sessions[rec.Key].rec.Bytes(), rec.Bytes())
			listed = append(listed, rec.Key)
			return true
		}))
		assert.ElementsMatch(t, m.livingOf(user), listed)
		mark, err := m.s.Mark(context.Background(), user, m.now)
		require.NoError(t, err)
		require.Equal(t, m.markOf(user), mark)
	}
}
