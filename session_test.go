package coatcheck_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

func TestReadingValues(t *testing.T) {
	s := newWorld(t).open()
	assert.Zero(t, s.Len())
	assert.Empty(t, entries(s.Lend()))
	require.NoError(t, s.Insert("b", 2))
	require.NoError(t, s.Insert("a", "x"))
	require.NoError(t, s.Insert("c", nil))

	raw, ok := s.Raw("b")
	assert.True(t, ok)
	assert.JSONEq(t, "2", string(raw))
	_, ok = s.Raw("d")
	assert.False(t, ok)
	assert.True(t, s.Contains("c"), "null is a value")
	assert.False(t, s.Contains(""))
	assert.Equal(t, 3, s.Len())
	assert.Equal(t, []string{`a="x"`, `b=2`, `c=null`}, entries(s.Lend()), "in order of names")

	for name := range s.Entries() {
		assert.Equal(t, "a", name)
		break // an iteration may be stopped
	}
	s.Remove("b")
	s.Remove("absent")
	assert.Equal(t, []string{`a="x"`, `c=null`}, entries(s.Lend()))
	s.Clear()
	assert.Zero(t, s.Len())
	assert.False(t, s.Contains("a"))
}

func entries(s *coatcheck.Session) []string {
	var all []string
	for name, raw := range s.Entries() {
		all = append(all, fmt.Sprintf("%s=%s", name, raw))
	}
	return all
}

// Applications remove entries by prefix during an iteration, which must neither skip nor invent entries.
func TestEntriesWhileChanging(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprint("committed ", committed), func(t *testing.T) {
			w := newWorld(t)
			fill := func(s *coatcheck.Session) {
				for i := range 9 {
					require.NoError(t, s.Insert(fmt.Sprint("name", i), strings.Repeat("v", 10*(9-i))))
				}
			}
			s := w.open()
			if committed {
				s = w.open(w.do("", fill).token)
			} else {
				fill(s.Lend())
			}
			var seen []string
			for name := range s.Entries() {
				seen = append(seen, name)
				s.Remove(name)
			}
			assert.Equal(t, []string{"name0", "name1", "name2", "name3", "name4", "name5", "name6", "name7", "name8"}, seen)
			assert.Zero(t, s.Len())
		})
	}
}

func TestInsertRefuses(t *testing.T) {
	fits := strings.Repeat("x", coatcheck.MaxValues-3-len("fits")-2)
	tests := map[string]struct {
		name  string
		value any
		want  error // nil: any
	}{
		"no JSON":            {"f", func() {}, nil},
		"not a number":       {"f", math.NaN(), nil},
		"too large":          {"big", strings.Repeat("x", coatcheck.MaxValues), coatcheck.ErrTooLarge},
		"one byte too large": {"fits", fits + "x", coatcheck.ErrTooLarge},
		"too large together": {"more", fits, coatcheck.ErrTooLarge},
		"a megabyte":         {"big", strings.Repeat("x", 1<<20), coatcheck.ErrTooLarge},
		"no name":            {"", 1, coatcheck.ErrName},
		"long name":          {strings.Repeat("n", 256), 1, coatcheck.ErrName},
		"name not UTF-8":     {"\xff", 1, coatcheck.ErrName},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := w.begin("a", "kept")
			s := w.open(cookie)
			require.NoError(t, s.Insert("b", 1))
			before := entries(s.Lend())

			err := s.Insert(tt.name, tt.value)
			require.Error(t, err)
			if tt.want != nil {
				assert.ErrorIs(t, err, tt.want)
			}
			assert.Equal(t, before, entries(s.Lend()), "the session is as it was")
			w.finish(s)
			assert.Equal(t, before, entries(w.open(cookie).Lend()), "and so it is stored")
		})
	}
	s := newWorld(t).open()
	require.ErrorIs(t, s.Insert("fits", fits+"x"), coatcheck.ErrTooLarge)
	require.NoError(t, s.Insert("fits", fits), "MaxValues to the byte")
	require.NoError(t, s.Insert("fits", fits), "replaced, not added")
	s.Remove("fits")
	require.NoError(t, s.Insert(strings.Repeat("n", 255), 1))
}

// A session object that served one request shows nothing of that request in the next.
func TestSessionIsReusable(t *testing.T) {
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) {
		require.NoError(t, s.Authenticate("alice"))
		require.NoError(t, s.Insert("secret", "hers"))
	}).token
	s := new(coatcheck.Request)
	ctx := context.Background()
	require.NoError(t, w.m.Open(ctx, s, presented(cookie), coatcheck.Client{}, w.clock.Now()))
	require.NoError(t, s.Insert("more", 1))
	s.CycleID()
	require.NoError(t, s.Finish(ctx))
	s.Release()
	for _, field := range []string{"token", "fresh"} {
		assert.True(t, reflect.ValueOf(s).Elem().FieldByName(field).IsZero(), "%s in a session that waits in a pool", field)
	}

	for name, p := range map[string]*coatcheck.Presented{
		"no cookie": presented(), "malformed": presented("x"), "unknown": presented(text(coatcheck.NewToken(coatcheck.TagOf("")))),
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, w.m.Open(ctx, s, p, coatcheck.Client{}, w.clock.Now()))
			assert.Empty(t, entries(s.Lend()))
			assert.Empty(t, s.UserID())
			assert.Zero(t, s.ID())
			assert.Zero(t, s.Key())
			assert.Zero(t, s.ExpiresAt())
			assert.Zero(t, s.CreatedAt())
			assert.Zero(t, s.Report().Rotated)
			token, left := s.Token(w.clock.Now())
			assert.Equal(t, coatcheck.Token{}, token, "another user's token must not be left in a pooled session")
			assert.Zero(t, left)
		})
	}
}

// Values that fit together are kept in whatever order the handler made room for them, also when another request was faster, or
// when a login follows.
func TestRoomMadeBeforeAValue(t *testing.T) {
	change := func(s *coatcheck.Session) {
		require.NoError(t, s.Insert("x", "s"))
		s.Remove("b")
		require.NoError(t, s.Insert("x", strings.Repeat("x", 2900)))
	}
	t.Run("conflict", func(t *testing.T) {
		w := newWorld(t)
		cookie := w.begin("b", strings.Repeat("b", 2000))
		s := w.open(cookie)
		change(s.Lend())
		w.do(cookie, (*coatcheck.Session).Rotate) // any other write
		require.NoError(t, s.Finish(context.Background()))
		assert.Len(t, w.value(cookie, "x"), 2902)
	})
	t.Run("login", func(t *testing.T) {
		w := newWorld(t)
		cookie := w.begin("b", strings.Repeat("b", 2000))
		a := w.do(cookie, func(s *coatcheck.Session) {
			change(s)
			require.NoError(t, s.Authenticate("u"))
		})
		assert.Len(t, w.value(a.token, "x"), 2902)
	})
}

// An Authenticate that fails begins no login, and leaves the carried session alone.
func TestAuthenticateThatFails(t *testing.T) {
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) {
		require.NoError(t, s.Authenticate("other"))
		require.NoError(t, s.Insert("f", 1.0))
	}).token
	s := w.open(cookie)
	require.NoError(t, coatcheck.Update(s.Lend(), "f", func(f float64) float64 { return 1 / f })) // no JSON where there was none before
	require.Error(t, s.Authenticate("u"))
	require.NoError(t, s.Finish(context.Background()))
	assert.Equal(t, "other", w.user(cookie))
	assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
}

// Entries shows the values as they were, whatever the loop does to them.
func TestEntriesWhileCommitting(t *testing.T) {
	w := newWorld(t)
	cookie := w.do("", func(s *coatcheck.Session) {
		for _, name := range []string{"a", "b", "c", "d"} {
			require.NoError(t, s.Insert(name, name))
		}
	}).token
	s := w.open(cookie)
	var seen []string
	for name, raw := range s.Entries() {
		seen = append(seen, name+"="+string(raw))
		s.Remove(name)
		require.NoError(t, s.Insert("z", strings.Repeat(name, 50)))
		require.NoError(t, s.Commit(context.Background()))
	}
	assert.Equal(t, []string{`a="a"`, `b="b"`, `c="c"`, `d="d"`}, seen)
}
