package shardstore_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// clock is a janitor's clock that a test moves.
type clock struct{ ms atomic.Int64 }

func clockAt(t time.Time) *clock {
	c := &clock{}
	c.set(t)
	return c
}

func (c *clock) set(t time.Time) { c.ms.Store(t.UnixMilli()) }
func (c *clock) now() time.Time  { return time.UnixMilli(c.ms.Load()) }

// asleep is a period that outlasts every test: the janitor sweeps only when a test calls Sweep.
const asleep = time.Hour

func sizes(t *testing.T, s *shardstore.Store) shardstore.Sizes {
	t.Helper()
	n, err := s.Sizes()
	require.NoError(t, err)
	return n
}

func TestJanitorRemovesWhatIsOver(t *testing.T) {
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{JanitorEvery: asleep, Now: c.now})
	ctx := context.Background()
	var last coatcheck.Record

	add(t, s, "ada", t0, time.Minute)
	add(t, s, "ada", t0, time.Hour)
	add(t, s, "", t0, time.Minute)
	ended := add(t, s, "bob", t0, 10*time.Hour)
	require.NoError(t, s.End(ctx, ended.Key, "bob", t0, t0.Add(10*time.Second), &last))
	_, err := s.EndUser(ctx, "cyd", coatcheck.Key{}, true, t0, t0)
	require.NoError(t, err)

	for _, step := range []struct {
		at   time.Duration
		want shardstore.Sizes
	}{
		{0, shardstore.Sizes{Sessions: 3, Tombstones: 1, Users: 1, Indexed: 2, Marks: 1}},
		{10*time.Second - time.Millisecond, shardstore.Sizes{Sessions: 3, Tombstones: 1, Users: 1, Indexed: 2, Marks: 1}},
		{10 * time.Second, shardstore.Sizes{Sessions: 3, Users: 1, Indexed: 2, Marks: 1}},
		{time.Minute - time.Millisecond, shardstore.Sizes{Sessions: 3, Users: 1, Indexed: 2, Marks: 1}},
		{time.Minute, shardstore.Sizes{Sessions: 1, Users: 1, Indexed: 1}},
		{time.Hour, shardstore.Sizes{}},
	} {
		c.set(t0.Add(step.at))
		s.Sweep()
		assert.Equal(t, step.want, sizes(t, s), "after %v", step.at)
	}
}

func TestTombstoneAndMarkGoOnTime(t *testing.T) {
	s := newStore(t, shardstore.Options{JanitorEvery: asleep})
	ctx := context.Background()
	var last coatcheck.Record
	rec := add(t, s, "ada", t0, time.Hour)
	until := t0.Add(time.Second)
	require.NoError(t, s.End(ctx, rec.Key, "ada", t0, until, &last))
	require.ErrorIs(t, load(s, rec.Key, until.Add(-time.Millisecond)), coatcheck.ErrEnded)
	require.ErrorIs(t, load(s, rec.Key, until), coatcheck.ErrNotFound)

	_, err := s.EndUser(ctx, "ada", coatcheck.Key{}, true, t0, until)
	require.NoError(t, err)
	mark, err := s.Mark(ctx, "ada", t0.Add(coatcheck.MarkLife-time.Millisecond))
	require.NoError(t, err)
	assert.NotZero(t, mark)
	mark, err = s.Mark(ctx, "ada", t0.Add(coatcheck.MarkLife))
	require.NoError(t, err)
	assert.Zero(t, mark)
	_, err = s.Create(ctx, session(t, "ada", t0, time.Hour), coatcheck.CreateOptions{}, t0.Add(coatcheck.MarkLife))
	require.NoError(t, err)
}

// SES-07: a session that was refused or removed as expired stays gone when the clock steps back.
func TestClockStepsBack(t *testing.T) {
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{JanitorEvery: asleep, Now: c.now})
	end := t0.Add(time.Hour)
	refused, swept := add(t, s, "ada", t0, time.Hour), add(t, s, "ada", t0, time.Hour)
	unseen := add(t, s, "bob", t0, 2*time.Hour)
	require.ErrorIs(t, load(s, refused.Key, end), coatcheck.ErrNotFound)
	require.ErrorIs(t, load(s, refused.Key, t0), coatcheck.ErrNotFound)
	require.NoError(t, load(s, swept.Key, t0))
	c.set(end)
	s.Sweep()
	c.set(t0)
	for _, rec := range []*coatcheck.Record{refused, swept} {
		require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNotFound)
		assert.ErrorIs(t, s.Swap(context.Background(), rec, rec.Version-1, t0, new(coatcheck.Record)), coatcheck.ErrNotFound)
	}
	assert.NoError(t, load(s, unseen.Key, t0))
	assert.Equal(t, shardstore.Sizes{Sessions: 1, Users: 1, Indexed: 1}, sizes(t, s))
}

// A session that an operation, or the janitor, has found expired does not come back when the clock steps back, nor after a restart.
func TestExpiredStaysGone(t *testing.T) {
	end := t0.Add(time.Hour)
	c := clockAt(t0)
	var last coatcheck.Record
	for name, refuse := range map[string]func(t *testing.T, s *shardstore.Store, rec *coatcheck.Record){
		"Load": func(t *testing.T, s *shardstore.Store, rec *coatcheck.Record) {
			require.ErrorIs(t, load(s, rec.Key, end), coatcheck.ErrNotFound)
		},
		"the janitor": func(_ *testing.T, s *shardstore.Store, _ *coatcheck.Record) {
			c.set(end)
			s.Sweep()
		},
		"Swap": func(t *testing.T, s *shardstore.Store, rec *coatcheck.Record) {
			require.ErrorIs(t, renew(t, s, rec, end, time.Hour), coatcheck.ErrNotFound)
		},
		"End": func(t *testing.T, s *shardstore.Store, rec *coatcheck.Record) {
			require.ErrorIs(t, s.End(context.Background(), rec.Key, "ada", end, end.Add(time.Second), &last), coatcheck.ErrNotFound)
		},
		"EndUser": func(t *testing.T, s *shardstore.Store, rec *coatcheck.Record) {
			_, err := s.EndUser(context.Background(), "ada", rec.Key, true, end, end.Add(time.Second))
			require.ErrorIs(t, err, coatcheck.ErrNotFound)
		},
		"Create within the limit": func(t *testing.T, s *shardstore.Store, _ *coatcheck.Record) {
			ended, err := s.Create(context.Background(), session(t, "ada", end, time.Hour), coatcheck.CreateOptions{Limit: 1}, end)
			require.NoError(t, err)
			require.Zero(t, ended)
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := shardstore.Options{JanitorEvery: asleep, Now: c.now, Dir: t.TempDir()}
			s := newStore(t, opt)
			rec := add(t, s, "ada", t0, time.Hour)
			refuse(t, s, rec)
			c.set(t0)
			require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNotFound)
			sizes(t, s)
			require.NoError(t, s.Close())
			assert.ErrorIs(t, load(newStore(t, opt), rec.Key, t0), coatcheck.ErrEnded)
		})
	}
}

// EndUser notes an expired session's end once, as that of one that lives.
func TestEndUserNotesAnEndOnce(t *testing.T) {
	s := newStore(t, shardstore.Options{JanitorEvery: asleep, Dir: t.TempDir(), FsyncEvery: time.Hour}) // a sync would add an entry
	grows := func(user string, now time.Time) int64 {
		add(t, s, user, t0, time.Hour)
		before := s.Stats().JournalBytes
		_, err := s.EndUser(context.Background(), user, coatcheck.Key{}, false, now, now.Add(time.Second))
		require.NoError(t, err)
		return s.Stats().JournalBytes - before
	}
	assert.Equal(t, grows("ada", t0), grows("bob", t0.Add(time.Hour)))
}

// A session that a restart finds expired does not come back with the next one.
func TestClockIsAheadAtARestart(t *testing.T) {
	c := clockAt(t0)
	opt := shardstore.Options{JanitorEvery: asleep, Now: c.now, Dir: t.TempDir()}
	s := newStore(t, opt)
	rec := add(t, s, "ada", t0, time.Hour)
	require.NoError(t, s.Close())
	c.set(t0.Add(time.Hour))
	require.NoError(t, newStore(t, opt).Close())
	c.set(t0)
	assert.ErrorIs(t, load(newStore(t, opt), rec.Key, t0), coatcheck.ErrEnded)
}

// A clock that is wrong for a moment and is then corrected must not stop the janitor: sessions that end by the right clock
// are removed, and make room.
func TestJanitorFollowsTheClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{-4 * year, -time.Hour, time.Hour, 4 * year} {
		t.Run(step.String(), func(t *testing.T) {
			const most = 200 // more sessions than are visited in one hold of a lock
			c := clockAt(t0)
			s := newStore(t, shardstore.Options{Shards: 2, JanitorEvery: asleep, MaxSessions: most, Now: c.now})
			var last coatcheck.Record
			life := func(now time.Time) { // a store's life, up to its limit and until all of it has ended
				c.set(now)
				s.Sweep()
				for range most - s.Len() {
					add(t, s, "ada", now, time.Minute)
				}
				_, err := s.Create(context.Background(), session(t, "bob", now, time.Minute), coatcheck.CreateOptions{}, now)
				require.ErrorIs(t, err, coatcheck.ErrFull)
				rec := session(t, "ada", now, time.Minute)
				_, err = s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: most, Until: now.Add(time.Second)}, now)
				require.NoError(t, err)
				require.NoError(t, s.End(context.Background(), rec.Key, "ada", now, now.Add(time.Second), &last))
				_, err = s.EndUser(context.Background(), "bob", coatcheck.Key{}, true, now, now)
				require.NoError(t, err)
				c.set(now.Add(2 * time.Minute))
				s.Sweep()
				require.Equal(t, shardstore.Sizes{}, sizes(t, s))
			}
			life(t0)
			life(t0.Add(step))
			life(t0)
			life(t0.Add(step))
			life(t0.Add(5 * time.Minute))
		})
	}
}

// The same holds when only a Create that needs room has seen the corrected clock.
func TestCreateMakesRoomAfterTheClockWentBack(t *testing.T) {
	c := clockAt(t0.Add(4 * 365 * 24 * time.Hour))
	s := newStore(t, shardstore.Options{Shards: 2, JanitorEvery: asleep, MaxSessions: 3, Now: c.now})
	s.Sweep()
	for range 3 {
		add(t, s, "ada", t0, time.Minute)
	}
	for range 3 {
		add(t, s, "ada", t0.Add(time.Minute), time.Minute)
	}
	assert.Equal(t, 3, s.Len())
}

// A tombstone whose time is over when it is made would only be work for the janitor.
func TestTombstoneOfNoTime(t *testing.T) {
	s := newStore(t, shardstore.Options{JanitorEvery: asleep})
	var last coatcheck.Record
	rec := add(t, s, "ada", t0, time.Hour)
	require.NoError(t, s.End(context.Background(), rec.Key, "ada", t0, time.Time{}, &last))
	require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrNotFound)
	assert.Equal(t, shardstore.Sizes{}, sizes(t, s))
}

func TestJanitorHoldsAreBounded(t *testing.T) {
	const n, hold = 1000, 64
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
	for range n {
		add(t, s, "", t0, time.Minute)
	}
	over := t0.Add(time.Minute)
	for left := n - hold; left > 0; left -= hold {
		assert.True(t, s.SweepOnce(over))
		assert.Equal(t, left, sizes(t, s).Sessions)
	}
	assert.False(t, s.SweepOnce(over))
	assert.Zero(t, sizes(t, s).Sessions)

	for range n {
		add(t, s, "", over, time.Minute)
	}
	c.set(over.Add(time.Minute))
	s.Sweep()
	assert.Zero(t, sizes(t, s).Sessions, "a round takes as many holds as it needs")
}

// MEM-01: a session is renewed while the janitor is at work, by a request that read its clock a moment earlier.
func TestJanitorSparesTheRenewed(t *testing.T) {
	s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep})
	var recs []*coatcheck.Record
	for range 300 {
		recs = append(recs, add(t, s, "ada", t0, time.Minute))
	}
	over := t0.Add(time.Minute)
	justBefore := over.Add(-time.Millisecond)
	require.True(t, s.SweepOnce(over), "the janitor is not done")
	var left []*coatcheck.Record
	for _, rec := range recs {
		if load(s, rec.Key, justBefore) == nil {
			left = append(left, rec)
		}
	}
	require.Len(t, left, 300-64)
	require.NoError(t, renew(t, s, left[0], justBefore, time.Hour))
	for more := true; more; {
		more = s.SweepOnce(over)
	}
	require.NoError(t, load(s, left[0].Key, over))
	assert.Equal(t, shardstore.Sizes{Sessions: 1, Users: 1, Indexed: 1}, sizes(t, s))
}

// The same is tested without a fixed order: the session is always within a millisecond of its end, and the janitor always
// runs.
func TestJanitorAgainstRenewals(t *testing.T) {
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{Shards: 1, JanitorEvery: asleep, Now: c.now})
	var sweeping sync.WaitGroup
	stop := make(chan struct{})
	sweeping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Sweep()
			}
		}
	})
	rec := add(t, s, "ada", t0, 5*time.Millisecond)
	for i := 1; i < turns(3000); i++ {
		now := t0.Add(time.Duration(i) * 4 * time.Millisecond)
		c.set(now)
		require.NoError(t, renew(t, s, rec, now, 5*time.Millisecond))
		got := &coatcheck.Record{}
		require.NoError(t, s.Load(context.Background(), rec.Key, rec.ID, now, got))
		rec = got
	}
	close(stop)
	sweeping.Wait()
}

func TestJanitorRuns(t *testing.T) {
	c := clockAt(t0)
	s := newStore(t, shardstore.Options{JanitorEvery: time.Millisecond, Now: c.now})
	add(t, s, "ada", t0, time.Minute)
	c.set(t0.Add(time.Minute))
	require.Eventually(t, func() bool { return s.Len() == 0 }, 10*time.Second, time.Millisecond)
}

func TestJanitorSurvivesPanics(t *testing.T) {
	var log bytes.Buffer
	var mad atomic.Bool
	s := newStore(t, shardstore.Options{
		Shards: 4, JanitorEvery: asleep,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Now: func() time.Time {
			if mad.Load() {
				panic("no time")
			}
			return t0.Add(time.Minute)
		},
	})
	for range 100 {
		add(t, s, "", t0, time.Minute)
	}
	mad.Store(true)
	require.NotPanics(t, s.Sweep)
	assert.Contains(t, log.String(), "no time")
	assert.Equal(t, 100, s.Len())

	mad.Store(false)
	mend := s.Break(0)
	require.NotPanics(t, s.Sweep)
	assert.Contains(t, log.String(), "out of range")
	mend()
	n := sizes(t, s).Sessions
	assert.Positive(t, n, "the broken shard's remain")
	assert.Less(t, n, 100, "the other shards were swept")
	s.Sweep()
	assert.Zero(t, sizes(t, s).Sessions, "its lock was let go")
}

// Close returns when the janitor has returned, whatever it was doing, and may be called from several goroutines.
func TestCloseWaitsForTheJanitor(t *testing.T) {
	atWork, goOn := make(chan struct{}), make(chan struct{})
	var began sync.Once
	var looks atomic.Int64
	var made atomic.Bool
	s, err := shardstore.New(shardstore.Options{JanitorEvery: time.Millisecond, Now: func() time.Time {
		if !made.Load() { // New reads the clock too
			return t0
		}
		began.Do(func() { close(atWork) })
		<-goOn
		looks.Add(1)
		return t0
	}})
	require.NoError(t, err)
	made.Store(true)
	<-atWork
	time.AfterFunc(5*time.Millisecond, func() { close(goOn) })
	var closing sync.WaitGroup
	for range 8 {
		closing.Go(func() {
			assert.NoError(t, s.Close())
			assert.Positive(t, looks.Load(), "Close did not wait for the round that had begun")
		})
	}
	closing.Wait()
}
