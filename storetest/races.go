package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

var raceRules = []rule{
	{"100 parallel inserts of different values are all kept", parallelInserts},
	{"100 parallel updates of one value are all kept", parallelUpdates},
	{"50 parallel logins keep the limit", parallelLogins},
	{"one of many Creates at a key wins", parallelCreates},
	{"one of many Ends wins", parallelEnds},
	{"one of many Replaces wins", parallelReplaces},
	{"no Swap survives an End", swapAgainstEnd},
	{"no login survives the end of all sessions", loginAgainstEndUser},
	{"what the index shows is what lives", indexUnderLoad},
}

// update does what a commit does: it compares and swaps until that succeeds.
func (h *harness) update(key coatcheck.Key, change func(values map[string]string)) error {
	cur, err := h.load(key, h.now)
	if err != nil {
		return err
	}
	for range 10_000 { // without a bound the test would hang where it should fail
		values := unblock(valuesOf(h, cur))
		change(values)
		next := h.nextWith(cur, block(values))
		if err := h.Swap(h.Context(), next, cur.Version, h.now, cur); !errors.Is(err, coatcheck.ErrConflict) {
			return err
		}
	}
	return coatcheck.ErrConflict
}

// updated checks that a session has been swapped that many times, and returns its values.
func (h *harness) updated(key coatcheck.Key, times int) map[string]string {
	h.Helper()
	rec, err := h.load(key, h.now)
	require.NoError(h, err)
	assert.Equal(h, uint64(1+times), rec.Version)
	return unblock(valuesOf(h, rec))
}

func parallelInserts(h *harness) {
	const n = 100
	rec := h.add(h.user())
	h.parallel(n, func(i int) {
		assert.NoError(h, h.update(rec.Key, func(values map[string]string) { values[fmt.Sprintf("v%d", i)] = strconv.Itoa(i) }))
	})
	values := h.updated(rec.Key, n)
	assert.Len(h, values, n)
	for i := range n {
		assert.Equal(h, strconv.Itoa(i), values[fmt.Sprintf("v%d", i)])
	}
}

func parallelUpdates(h *harness) {
	const n = 100
	rec := h.add(h.user())
	h.parallel(n, func(int) {
		assert.NoError(h, h.update(rec.Key, func(values map[string]string) {
			count, _ := strconv.Atoi(values["count"]) // absent is zero
			values["count"] = strconv.Itoa(count + 1)
		}))
	})
	assert.Equal(h, map[string]string{"count": strconv.Itoa(n)}, h.updated(rec.Key, n))
}

// parallelLogins checks that, in whatever order the logins arrive, the limit holds and all but the last to arrive are among
// the newest. (The last to arrive stays even if it is the oldest.)
func parallelLogins(h *harness) {
	const n, limit = 50, 5
	user := h.user()
	soon := h.now.Add(5 * time.Minute)
	var old, logins []*coatcheck.Record
	for i := range 3 {
		h.add(user, idleUntil(soon)) // these sessions have expired by then and do not count
		h.end(h.add(user))           // nor do ended ones
		old = append(old, h.add(user, createdAt(h.now.Add(time.Duration(i-10)*time.Second))))
	}
	for i := range n {
		logins = append(logins, h.session(user, createdAt(h.now.Add(time.Duration(i)*time.Millisecond))))
	}
	var ended atomic.Int64
	h.parallel(n, func(i int) {
		out, err := h.Create(h.Context(), logins[i], coatcheck.CreateOptions{Limit: limit, Until: soon.Add(graveLife)}, soon)
		assert.NoError(h, err)
		ended.Add(int64(out))
	})
	live := h.listed(user, soon)
	assert.Len(h, live, limit)
	assert.Equal(h, int64(len(old)+n-limit), ended.Load(), "each session that ended is counted once")
	for _, rec := range logins[n-limit+1:] {
		assert.Contains(h, live, rec.Key, "one of the newest was ended")
	}
	for _, rec := range slices.Concat(old, logins) {
		if !slices.Contains(live, rec.Key) {
			h.refused(coatcheck.ErrEnded, rec, soon)
		}
	}
}

// tally counts outcomes of parallel calls.
type tally struct {
	mu     sync.Mutex
	counts map[error]int // guarded by mu
}

// add counts err under the one of kinds that it matches.
func (t *tally) add(h *harness, err error, kinds ...error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[error]int{}
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			t.counts[kind]++
			return
		}
	}
	assert.Fail(h, "unexpected outcome", "%v", err)
}

func parallelCreates(h *harness) {
	const n = 20
	user := h.user()
	first := h.session(user)
	var got tally
	h.parallel(n, func(int) {
		_, err := h.Create(h.Context(), h.sessionAt(first.Key, user), coatcheck.CreateOptions{}, h.now)
		got.add(h, err, nil, coatcheck.ErrExists)
	})
	assert.Equal(h, map[error]int{nil: 1, coatcheck.ErrExists: n - 1}, got.counts)
	assert.Equal(h, keysOf(first), h.listed(user, h.now))
}

func parallelEnds(h *harness) {
	const n = 20
	rec := h.add(h.user())
	var got tally
	h.parallel(n, func(int) { got.add(h, h.tryEnd(rec, h.now), nil, coatcheck.ErrNotFound) })
	assert.Equal(h, map[error]int{nil: 1, coatcheck.ErrNotFound: n - 1}, got.counts)
}

func parallelReplaces(h *harness) {
	const n = 20
	user := h.user()
	old := h.add(user)
	var replacing atomic.Int64
	h.parallel(n, func(int) {
		var replaced coatcheck.Record
		_, err := h.Create(h.Context(), h.session(user), coatcheck.CreateOptions{Replace: old.Key, Replaced: &replaced, Until: h.until()}, h.now)
		assert.NoError(h, err)
		if replaced.Version != 0 {
			replacing.Add(1)
		}
	})
	assert.Equal(h, int64(1), replacing.Load())
	assert.Len(h, h.listed(user, h.now), n)
}

// swapAgainstEnd checks that every acknowledged Swap came before the End, and that the End hands back the last of them.
func swapAgainstEnd(h *harness) {
	const rounds, writers = 100, 3
	for range rounds {
		rec := h.add(h.user())
		var swapped atomic.Int64
		var over atomic.Bool
		var last coatcheck.Record
		h.parallel(writers+1, func(i int) {
			if i == writers {
				assert.NoError(h, h.End(h.Context(), rec.Key, rec.UserID(), h.now, h.until(), &last))
				_, err := h.load(rec.Key, h.now)
				assert.ErrorIs(h, err, coatcheck.ErrEnded, "the first Load after the End")
				over.Store(true)
				return
			}
			for !over.Load() {
				err := h.update(rec.Key, func(values map[string]string) { values["n"] = strconv.Itoa(i) })
				if h.oneOf(err, coatcheck.ErrNotFound, coatcheck.ErrEnded); err != nil {
					return
				}
				swapped.Add(1)
			}
		})
		assert.Equal(h, uint64(1+swapped.Load()), last.Version)
		h.refused(coatcheck.ErrEnded, rec, h.now)
		assert.Empty(h, h.listed(rec.UserID(), h.now))
	}
}

func loginAgainstEndUser(h *harness) {
	const rounds, logins = 50, 8
	for range rounds {
		user := h.user()
		marks := make([]coatcheck.Mark, logins)
		recs := make([]*coatcheck.Record, logins)
		for i := range recs {
			recs[i] = h.session(user)
		}
		h.parallel(logins+1, func(i int) {
			if i == logins {
				_, err := h.EndUser(h.Context(), user, coatcheck.Key{}, true, h.now, h.until())
				assert.NoError(h, err)
				return
			}
			mark, err := h.Mark(h.Context(), user, h.now)
			assert.NoError(h, err)
			marks[i] = mark
			if err := h.createMarked(recs[i], mark); err != nil {
				assert.ErrorIs(h, err, coatcheck.ErrRevoked)
			}
		})
		standing := h.mark(user, h.now)
		for i, rec := range recs {
			if _, err := h.load(rec.Key, h.now); marks[i] != standing {
				assert.Error(h, err, "a login that began before the end of all sessions lives")
			} else {
				assert.NoError(h, err, "a login that began after the end of all sessions was refused")
			}
		}
	}
}

func (h *harness) createMarked(rec *coatcheck.Record, mark coatcheck.Mark) error {
	_, err := h.Create(h.Context(), rec, coatcheck.CreateOptions{Mark: mark}, h.now)
	return err
}

// indexUnderLoad runs all operations in parallel for three users, two of which share a Tag, and checks what is left.
func indexUnderLoad(h *harness) {
	const workers, steps, limit = 8, 100, 4
	a, b := h.colliding()
	users := []string{a, b, h.user()}
	var mu sync.Mutex
	var all []*coatcheck.Record // guarded by mu
	pick := func() *coatcheck.Record {
		mu.Lock()
		defer mu.Unlock()
		if len(all) == 0 {
			return h.session(a)
		}
		return all[rand.IntN(len(all))]
	}
	h.parallel(workers, func(int) {
		for range steps {
			rec, user := pick(), users[rand.IntN(len(users))]
			switch rand.IntN(10) {
			case 0, 1, 2, 3:
				rec = h.session(user)
				opt := h.limit(limit)
				opt.Mark = h.mark(user, h.now)
				_, err := h.Create(h.Context(), rec, opt, h.now)
				h.oneOf(err, coatcheck.ErrRevoked)
				mu.Lock()
				all = append(all, rec)
				mu.Unlock()
			case 4, 5, 6:
				h.oneOf(h.update(rec.Key, func(v map[string]string) { v["n"] = "1" }), coatcheck.ErrNotFound, coatcheck.ErrEnded)
			case 7:
				h.oneOf(h.tryEnd(rec, h.now), coatcheck.ErrNotFound)
			case 8:
				_, err := h.EndUser(h.Context(), rec.UserID(), rec.Key, true, h.now, h.until())
				h.oneOf(err, coatcheck.ErrNotFound)
			case 9:
				h.oneOf(h.List(context.Background(), user, h.now, func(got *coatcheck.Record) bool {
					return assert.Equal(h, user, got.UserID())
				}))
			}
		}
	})
	for _, user := range users {
		var live []*coatcheck.Record
		for _, rec := range all {
			if _, err := h.load(rec.Key, h.now); err == nil && rec.UserID() == user {
				live = append(live, rec)
			}
		}
		assert.Equal(h, keysOf(live...), h.listed(user, h.now))
		assert.LessOrEqual(h, len(live), limit)
	}
}

// oneOf checks that err is nil or one of these.
func (h *harness) oneOf(err error, allowed ...error) {
	h.Helper()
	if err != nil && !slices.ContainsFunc(allowed, func(target error) bool { return errors.Is(err, target) }) {
		assert.Fail(h, "unexpected error", "%v", err)
	}
}
