package coatcheck_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// A login that takes longer than a mark lives is refused, in whichever step it took that long: the user's sessions may have
// been ended meanwhile, and no mark would show it (CASES A5). The process's own clock stands still while the process is
// stopped.
func TestSlowLoginIsRefused(t *testing.T) {
	for name, where := range map[string]struct {
		op      string // the time passes before this operation of the store; if it is empty, while the password is checked
		passes  time.Duration
		refused bool
	}{
		"while the mark is read":        {opMark, coatcheck.MarkLife, true},
		"while the password is checked": {"", coatcheck.MarkLife, true},
		"on the way to the store":       {opCreate, coatcheck.MarkLife, true},
		"just in time":                  {"", coatcheck.MarkLife - time.Millisecond, false},
		"just in time, at the store":    {opCreate, coatcheck.MarkLife - time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var sinceBoot time.Duration
			w.m.SetSinceBoot(func() time.Duration { return sinceBoot })
			ctx := context.Background()
			s := w.open()
			if where.op != "" {
				w.store.once(where.op, func() { sinceBoot += where.passes })
			}
			require.NoError(t, s.BeginLogin(ctx, "u"))
			if where.op == "" {
				sinceBoot += where.passes
			}
			require.NoError(t, s.Authenticate("u"))
			err := s.Finish(ctx)
			if !where.refused {
				require.NoError(t, err)
				assert.Len(t, w.data.liveOf("u", w.clock.Now()), 1)
				return
			}
			require.ErrorIs(t, err, coatcheck.ErrRevoked)
			assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
			assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
			if where.op != opCreate {
				assert.NotContains(t, w.store.ops(), opCreate, "it would push out a session of a user who has as many as are allowed")
			}
		})
	}
}

// A login during which the clock is set forward by a mark's life is refused as well: a store that judges marks by that clock takes one for gone
// that was left a moment ago.
func TestClockIsSetForwardDuringALogin(t *testing.T) {
	for name, c := range map[string]struct {
		step            time.Duration
		revoked, passes bool
	}{
		"revoked, forward":          {coatcheck.MarkLife, true, false},
		"revoked, forward by less":  {coatcheck.MarkLife - time.Millisecond, true, false},
		"revoked, back":             {-time.Hour, true, false},
		"not revoked, forward":      {coatcheck.MarkLife, false, false},
		"not revoked, just in time": {coatcheck.MarkLife - time.Millisecond, false, true},
		"not revoked, back":         {-time.Hour, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx := t.Context()
			s := w.open()
			require.NoError(t, s.BeginLogin(ctx, "u"))
			if c.revoked {
				_, err := w.data.EndUser(ctx, "u", coatcheck.Key{}, true, w.clock.Now(), w.clock.Now().Add(grace))
				require.NoError(t, err)
			}
			w.clock.Step(c.step)
			require.NoError(t, s.Authenticate("u"))
			err := s.Finish(ctx)
			if c.passes {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, coatcheck.ErrRevoked)
			assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
		})
	}
}

// Nor may a login that reads no mark take as long as a mark lives on its way to the store: by the process's clock, which goes on while the
// process is stopped, or by the wall's, which goes on while the machine sleeps.
func TestSlowLoginWithoutBeginIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		wall, process time.Duration
		refused       bool
	}{
		"the process was stopped":    {coatcheck.MarkLife, coatcheck.MarkLife, true},
		"the machine slept":          {coatcheck.MarkLife, 0, true},
		"the wall's clock was set":   {-time.Hour, coatcheck.MarkLife, true},
		"just in time":               {coatcheck.MarkLife - time.Millisecond, coatcheck.MarkLife - time.Millisecond, false},
		"just in time, a clock back": {-time.Hour, coatcheck.MarkLife - time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			wall, process := time.Now(), time.Hour
			w.m.SetClocks(func() (time.Time, time.Duration) { return wall, process })
			w.store.once(opCreate, func() { wall, process = wall.Add(c.wall), process+c.process })
			s := w.open()
			require.NoError(t, s.Authenticate("u"))
			err := s.Finish(context.Background())
			if !c.refused {
				require.NoError(t, err)
				assert.Len(t, w.data.liveOf("u", w.clock.Now()), 1)
				return
			}
			require.ErrorIs(t, err, coatcheck.ErrRevoked)
			assert.Empty(t, w.data.liveOf("u", w.clock.Now()))
		})
	}
}

// Without BeginLogin the login begins with its Create: it reads no mark, and no mark refuses it.
func TestLoginWithoutBeginReadsNoMark(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	sinceBoot := time.Hour
	w.m.SetSinceBoot(func() time.Duration { return sinceBoot })
	w.store.before = failOp(opMark, errDisk)
	s := w.open()
	require.NoError(t, s.Authenticate("u"))
	_, err := w.data.EndUser(ctx, "u", coatcheck.Key{}, true, w.clock.Now(), w.clock.Now().Add(grace))
	require.NoError(t, err)
	assert.Equal(t, "u", w.user(w.finish(s).token))
}

// A login that began for one user and is another's knows no mark of that one: any mark refuses it, also one that is equal to the mark that
// it read, and the mark that it read does not.
func TestLoginThatBeganForAnotherUser(t *testing.T) {
	for name, c := range map[string]struct {
		ended   []string
		refused bool
	}{
		"no mark":           {nil, false},
		"the first's":       {[]string{"typed"}, false},
		"the second's":      {[]string{"u"}, true},
		"both have one":     {[]string{"typed", "u"}, true},
		"both have the one": {[]string{"typed", "u", "equal"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, user := range c.ended {
				if user == "equal" {
					w.data.marks["u"] = w.data.marks["typed"]
					continue
				}
				_, err := w.m.EndUser(t.Context(), user)
				require.NoError(t, err)
			}
			s := w.open()
			require.NoError(t, s.BeginLogin(t.Context(), "typed"))
			require.NoError(t, s.Authenticate("u"))
			if err := s.Finish(t.Context()); c.refused {
				assert.ErrorIs(t, err, coatcheck.ErrRevoked)
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// BeginLogin is for the next login of its request alone.
func TestSecondLoginOfARequestReadsItsOwnMark(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	require.NoError(t, s.BeginLogin(t.Context(), "u"))
	require.NoError(t, s.Authenticate("u"))
	require.NoError(t, s.Commit(t.Context()))
	_, err := w.m.EndUser(t.Context(), "u")
	require.NoError(t, err)
	require.NoError(t, s.Authenticate("u"))
	assert.Equal(t, "u", w.user(w.finish(s).token))
}

// A login that is refused clears a cookie that opens nothing, as any request does.
func TestRefusedLoginClearsADeadCookie(t *testing.T) {
	w := newWorld(t)
	s := w.open(text(coatcheck.NewToken(coatcheck.TagOf("u"))))
	require.NoError(t, s.BeginLogin(t.Context(), "u"))
	_, err := w.m.EndUser(t.Context(), "u")
	require.NoError(t, err)
	require.NoError(t, s.Authenticate("u"))
	require.ErrorIs(t, s.Finish(t.Context()), coatcheck.ErrRevoked)
	assert.Equal(t, coatcheck.ClearCookie, s.Cookie())
}
