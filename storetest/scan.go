package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var scanRules = []rule{
	{"Scan shows the live sessions of all users", scanLive},
	{"Scan shows whole records", scanWhole},
	{"Scan shows no more than it may in one call", scanLimit},
	{"Scan shows what lives all the while, whatever begins and ends", scanBeside},
	{"Scan shows a session that is changed meanwhile", scanChanged},
	{"Scan holds no lock while yield runs", scanUnlocked},
	{"Scan refuses a cursor that it has not given out", scanCursors},
}

// scan visits all sessions, at most limit with a call, and returns which it showed. Sessions of other rules may be among
// them. Between two calls of Scan it runs the function between.
func (h *harness) scan(limit int, now time.Time, between func()) map[coatcheck.Key]bool {
	h.Helper()
	shown := make(map[coatcheck.Key]bool)
	h.scanEach(limit, now, func(rec *coatcheck.Record) { shown[rec.Key] = true }, func() bool { between(); return true })
	return shown
}

// scanEach calls yield for each session. Between two calls of Scan it asks goOn, and stops when that returns false.
func (h *harness) scanEach(limit int, now time.Time, yield func(*coatcheck.Record), goOn func() bool) {
	h.Helper()
	for cursor, calls := "", 0; ; calls++ {
		require.Less(h, calls, 1_000_000, "Scan comes to no end")
		n := 0
		next, err := h.Scan(h.Context(), cursor, limit, now, func(rec *coatcheck.Record) {
			n++
			assert.True(h, rec.Lives(now), "Scan shows a session that has expired")
			yield(rec)
		})
		require.NoError(h, err, "Scan")
		require.LessOrEqual(h, n, limit)
		if cursor = next; cursor == "" || !goOn() {
			return
		}
	}
}

func nothing() {}

func scanLive(h *harness) {
	soon := h.now.Add(5 * time.Minute)
	short, ended, anonymous := h.add(h.user(), idleUntil(soon)), h.add(h.user()), h.add("")
	h.end(ended)
	live := []*coatcheck.Record{anonymous}
	user := h.user()
	for range 20 {
		live = append(live, h.add(user), h.add(h.user()))
	}
	shown := h.scan(100, soon, nothing)
	for _, rec := range live {
		assert.True(h, shown[rec.Key], "a live session of %q", rec.User())
	}
	assert.False(h, shown[short.Key], "an expired one")
	assert.False(h, shown[ended.Key], "an ended one")
	assert.True(h, h.scan(1000, h.now, nothing)[short.Key])
}

func scanWhole(h *harness) {
	rec := largest(h)
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	found := false
	h.scanEach(1000, h.now, func(got *coatcheck.Record) {
		if got.Key == rec.Key {
			found = true
			h.same(rec, got)
		}
	}, func() bool { return true })
	assert.True(h, found)
}

func scanLimit(h *harness) {
	user := h.user()
	recs := h.addMany(30, func() string { return user })
	for _, limit := range []int{7, 100_000} {
		shown := h.scan(limit, h.now, nothing)
		for _, rec := range recs {
			assert.True(h, shown[rec.Key], "at most %d with a call", limit)
		}
	}
	// Only a part of the store, which may be large. A call may show nothing, and many do where others keep much in the same Redis.
	for limit := range 3 {
		calls, shown := 0, 0
		h.scanEach(limit+1, h.now, func(*coatcheck.Record) { shown++ }, func() bool { calls++; return calls < 100 || shown == 0 })
		assert.NotZero(h, shown)
	}
}

func scanBeside(h *harness) {
	stay, leave := h.addMany(100, h.user), h.addMany(100, h.user)
	came := 0
	shown := h.scan(15, h.now, func() {
		for range 4 {
			if came++; came <= 400 {
				h.add(h.user())
			}
			if len(leave) > 0 {
				h.end(leave[0])
				leave = leave[1:]
			}
		}
	})
	for _, rec := range stay {
		assert.True(h, shown[rec.Key])
	}
}

func scanChanged(h *harness) {
	recs := h.addMany(100, h.user)
	at := 0
	shown := h.scan(15, h.now, func() {
		for range 2 {
			i := at % len(recs)
			recs[i] = h.nextWith(recs[i], block(map[string]string{"n": strings.Repeat("1", 1+7*at%900)}))
			h.swap(recs[i], h.now)
			at++
		}
	})
	for _, rec := range recs {
		assert.True(h, shown[rec.Key])
	}
}

func scanUnlocked(h *harness) {
	for range 3 {
		h.add(h.user())
	}
	h.unlocked("Scan", func() error {
		var within error
		for cursor, calls := "", 0; ; calls++ {
			next, err := h.Scan(h.Context(), cursor, 2, h.now, func(rec *coatcheck.Record) {
				_, _ = h.load(rec.Key, h.now) // another rule's may have ended meanwhile
				_, err := h.Create(h.Context(), h.session(""), coatcheck.CreateOptions{}, h.now)
				within = errors.Join(within, err)
			})
			if cursor = next; next == "" || err != nil || within != nil || calls == 100 {
				return errors.Join(err, within)
			}
		}
	})
}

func scanCursors(h *harness) {
	for range 50 {
		h.add(h.user())
	}
	next, err := h.Scan(h.Context(), "", 1, h.now, func(*coatcheck.Record) {})
	require.NoError(h, err)
	require.NotEmpty(h, next)
	for _, cursor := range []string{
		"x", " ", "0", "\x00", next + "g", next + " ", " " + next, next[1:], strings.ToUpper(next) + "X", strings.Repeat("9", 5000), "../..", strings.Repeat("f", 16),
	} {
		_, err := h.Scan(h.Context(), cursor, 10, h.now, func(*coatcheck.Record) { assert.Fail(h, "shown") })
		assert.ErrorIs(h, err, coatcheck.ErrCursor, "%.40q", cursor)
	}
}
