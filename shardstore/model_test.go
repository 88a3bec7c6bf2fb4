package shardstore_test

import (
	"bytes"
	"cmp"
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

// TestModel drives a store and a plain map through the same random steps and expects the same answers.
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
			"burst":   m.burst,
			"swap":    m.swap,
			"end":     m.end,
			"endUser": m.endUser,
			"wait":    m.wait,
			"sweep":   m.sweep,
			"clock":   m.wrongClock,
			"":        m.check,
		})
	})
}

// These two users share a Tag.
const (
	twinA = "user-96524"
	twinB = "user-107718"
)

// model is the expected state of the store.
type model struct {
	s        *shardstore.Store
	now      time.Time
	most     int
	sessions map[coatcheck.Key]*modelSession // every session that was ever created
	keys     []coatcheck.Key                 // of sessions, in order of creation
	marks    map[string]modelMark
}

type modelSession struct {
	rec   coatcheck.Record
	ended bool
	until time.Time // of the tombstone
	gone  bool      // a caller was told so: no clock brings it back
}

// stands reports whether a session or its tombstone stands at a time.
func (s *modelSession) stands(now time.Time) bool {
	switch {
	case s.gone:
		return false
	case s.ended:
		return now.UnixMilli() < s.until.UnixMilli()
	default:
		return s.rec.Lives(now)
	}
}

type modelMark struct {
	mark  coatcheck.Mark
	until time.Time
}

func (m *model) lives(key coatcheck.Key) bool {
	s := m.sessions[key]
	return s != nil && !s.ended && s.stands(m.now)
}

// living returns the keys of all live sessions for which fits returns true.
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

// drawKey draws the key of a session that lives, has ended, or never existed.
func (m *model) drawKey(t *rapid.T) coatcheck.Key {
	return rapid.SampledFrom(append(m.keys, coatcheck.Key{1})).Draw(t, "key")
}

func drawLife(t *rapid.T, name string) time.Duration {
	return time.Duration(rapid.IntRange(1, 60_000).Draw(t, name)) * time.Millisecond
}

// drawAge is how long before now a session was created by its own record: most often a moment, so that many have one age.
func drawAge(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, drawLife(t, "age"), -4 * 365 * 24 * time.Hour}).Draw(t, "how old")
}

// burst makes more logins of one user than the places that a new session moves back to stand in order.
func (m *model) burst(t *rapid.T) {
	user := drawUser(t)
	for range rapid.IntRange(1, 40).Draw(t, "n") {
		m.login(t, user)
	}
}

func (m *model) create(t *rapid.T) { m.login(t, drawUser(t)) }

func (m *model) login(t *rapid.T, user string) {
	age := drawAge(t)
	rec := session(t, user, m.now.Add(-age), age+drawLife(t, "ttl"))
	replaced := &coatcheck.Record{}
	opt := coatcheck.CreateOptions{
		Mark:     m.markOf(user),
		Limit:    rapid.SampledFrom([]int{0, 1, 2, 3, 4, 20, 30}).Draw(t, "limit"),
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
		return cmp.Or(cmp.Compare(m.sessions[a].rec.CreatedAt, m.sessions[b].rec.CreatedAt), bytes.Compare(a[:], b[:]))
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
	h, user := session(t, "", m.now, time.Minute).Header, []byte(nil)
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
	ended, err := m.s.EndUser(context.Background(), user, keep, true, m.now, until)
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

// wrongClock makes the clock wrong while the janitor runs once, and then corrects it.
func (m *model) wrongClock(t *rapid.T) {
	m.sweep(t) // otherwise an ended mark may or may not be there still, because a Create may have made room meanwhile
	right := m.now
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{-4 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 4 * 365 * 24 * time.Hour}).Draw(t, "step"))
	m.sweep(t)
	m.check(t)
	m.now = right
	m.sweep(t)
}

// sweep also checks that nothing stays behind.
func (m *model) sweep(t *rapid.T) {
	m.s.Sweep()
	var want shardstore.Sizes
	for _, s := range m.sessions {
		s.gone = !s.stands(m.now)
		if !s.gone && s.ended {
			want.Tombstones++
		}
	}
	for user, mark := range m.marks {
		if !m.now.Before(mark.until) {
			delete(m.marks, user)
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
		case s.stands(m.now):
			require.ErrorIs(t, err, coatcheck.ErrEnded)
		default:
			require.ErrorIs(t, err, coatcheck.ErrNotFound)
			s.gone = true
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
