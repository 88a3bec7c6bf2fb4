// Package storetest checks that an implementation of coatcheck.Store keeps its contract.
//
// The checks move time by the argument that every method takes, within minutes of the real time, and never wait: a store
// whose server has a clock of its own, like Redis, meets only expiries that its clock has not reached yet.
package storetest

import (
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// Run checks the stores that newStore returns, in a subtest per rule. Each rule gets a store of its own, which Run closes.
// They may share their data, also with earlier runs: every user and every key is used by one rule of one run only.
func Run(t *testing.T, newStore func(t *testing.T) coatcheck.Store) {
	for _, group := range []struct {
		name  string
		rules []rule
	}{
		{"lifecycle", lifecycleRules},
		{"codec", codecRules},
		{"expiry", expiryRules},
		{"users", userRules},
		{"scan", scanRules},
		{"limit", limitRules},
		{"collision", collisionRules()},
		{"races", raceRules},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, r := range group.rules {
				t.Run(r.name, func(t *testing.T) {
					store := newStore(t)
					h := &harness{T: t, Store: store, now: time.Now()}
					t.Cleanup(func() {
						if !h.stuck {
							assert.NoError(t, store.Close())
						}
					})
					r.check(h)
				})
			}
		})
	}
}

// rule is one sentence of the contract.
type rule struct {
	name  string
	check func(h *harness)
}

// harness is a store under test and what the rules do with it.
type harness struct {
	*testing.T
	coatcheck.Store
	now   time.Time // when the rule begins; the rule moves the clock
	stuck bool      // a method never returned; Close may wait for the same lock
}

// These are the lifetimes of the harness' sessions and tombstones. They are much longer than any test run, so that no
// server's own clock interferes.
const (
	idleLife     = 20 * time.Minute
	absoluteLife = time.Hour
	graveLife    = 5 * time.Minute
)

// user returns a user ID that was never used before.
func (h *harness) user() string { return "user " + rand.Text() }

// until is when the tombstones of sessions that are ended at h.now expire.
func (h *harness) until() time.Time { return h.now.Add(graveLife) }

// justBefore is the last moment at which those tombstones must stand.
func (h *harness) justBefore() time.Time { return h.until().Add(-time.Millisecond) }

// edit changes the header of a record under construction.
type edit func(*coatcheck.Header)

func idleUntil(t time.Time) edit {
	return func(head *coatcheck.Header) { head.IdleExpiry = t.UnixMilli() }
}

func absoluteUntil(t time.Time) edit {
	return func(head *coatcheck.Header) { head.AbsoluteExpiry = t.UnixMilli() }
}

func createdAt(t time.Time) edit {
	return func(head *coatcheck.Header) { head.CreatedAt = t.UnixMilli() }
}

// session returns the first record of a session that is in no store yet.
func (h *harness) session(user string, edits ...edit) *coatcheck.Record {
	h.Helper()
	return h.sessionAt(coatcheck.NewToken(coatcheck.TagOf(user)).Key(), user, edits...)
}

func (h *harness) sessionAt(key coatcheck.Key, user string, edits ...edit) *coatcheck.Record {
	h.Helper()
	head := coatcheck.Header{
		Version:        1,
		ID:             newID(),
		RotatedAt:      h.now.UnixMilli(),
		CreatedAt:      h.now.UnixMilli(),
		LastSeen:       h.now.UnixMilli(),
		IdleExpiry:     h.now.Add(idleLife).UnixMilli(),
		AbsoluteExpiry: h.now.Add(absoluteLife).UnixMilli(),
	}
	for _, e := range edits {
		e(&head)
	}
	rec := &coatcheck.Record{}
	require.NoError(h, rec.Write(key, head, []byte(user), clientIP, clientAgent, nil))
	return rec
}

var (
	clientIP    = []byte{192, 0, 2, 7}
	clientAgent = []byte("storetest/1.0")
)

func newID() coatcheck.ID { return coatcheck.NewToken(coatcheck.Tag{}).ID() }

// next returns the record that a Swap of rec would put in its place: the same values, unless the edits are followed by
// withValues.
func (h *harness) next(rec *coatcheck.Record, edits ...edit) *coatcheck.Record {
	h.Helper()
	return h.nextWith(rec, valuesOf(h, rec), edits...)
}

func (h *harness) nextWith(rec *coatcheck.Record, values []byte, edits ...edit) *coatcheck.Record {
	h.Helper()
	head := rec.Header
	head.Version++
	for _, e := range edits {
		e(&head)
	}
	next := &coatcheck.Record{}
	require.NoError(h, next.Rewrite(rec, head, values))
	return next
}

// add creates a session of the user and returns its record.
func (h *harness) add(user string, edits ...edit) *coatcheck.Record {
	h.Helper()
	rec := h.session(user, edits...)
	h.create(rec, coatcheck.CreateOptions{}, h.now)
	return rec
}

// addMany creates n sessions, several at once, each of the user that user returns.
func (h *harness) addMany(n int, user func() string) []*coatcheck.Record {
	h.Helper()
	const atOnce = 16
	recs := make([]*coatcheck.Record, n)
	for i := range recs {
		recs[i] = h.session(user())
	}
	h.parallel(atOnce, func(first int) {
		for i := first; i < n; i += atOnce {
			_, err := h.Create(h.Context(), recs[i], coatcheck.CreateOptions{}, h.now)
			assert.NoError(h, err, "Create")
		}
	})
	return recs
}

// create creates rec, which must succeed, and returns how many sessions the limit ended.
func (h *harness) create(rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) int {
	h.Helper()
	ended, err := h.Create(h.Context(), rec, opt, now)
	require.NoError(h, err, "Create")
	return ended
}

// swap puts next in the place of the version before it, which must succeed.
func (h *harness) swap(next *coatcheck.Record, now time.Time) {
	h.Helper()
	require.NoError(h, h.trySwap(next, now), "Swap")
}

func (h *harness) trySwap(next *coatcheck.Record, now time.Time) error {
	var cur coatcheck.Record
	return h.Swap(h.Context(), next, next.Version-1, now, &cur)
}

// end ends the session, which must succeed.
func (h *harness) end(rec *coatcheck.Record) {
	h.Helper()
	require.NoError(h, h.tryEnd(rec, h.now), "End")
}

func (h *harness) tryEnd(rec *coatcheck.Record, now time.Time) error {
	var last coatcheck.Record
	return h.End(h.Context(), rec.Key, rec.UserID(), now, now.Add(graveLife), &last)
}

func (h *harness) load(key coatcheck.Key, now time.Time) (*coatcheck.Record, error) {
	rec := &coatcheck.Record{}
	err := h.Load(h.Context(), key, newID(), now, rec)
	return rec, err
}

// mark returns the user's mark.
func (h *harness) mark(user string, now time.Time) coatcheck.Mark {
	h.Helper()
	m, err := h.Mark(h.Context(), user, now)
	require.NoError(h, err, "Mark")
	return m
}

// endUser ends all sessions of the user, which must succeed, and returns how many.
func (h *harness) endUser(user string, keep coatcheck.Key, now time.Time) int {
	h.Helper()
	ended, err := h.EndUser(h.Context(), user, keep, true, now, now.Add(graveLife))
	require.NoError(h, err, "EndUser")
	return ended
}

// listed returns the keys that List shows, in ascending order.
func (h *harness) listed(user string, now time.Time) []coatcheck.Key {
	h.Helper()
	keys := []coatcheck.Key{}
	require.NoError(h, h.List(h.Context(), user, now, func(rec *coatcheck.Record) bool {
		assert.Equal(h, user, rec.UserID(), "List shows the session of another user")
		assert.True(h, rec.Lives(now), "List shows a session that has expired")
		keys = append(keys, rec.Key)
		return true
	}), "List")
	return ascending(keys)
}

func keysOf(recs ...*coatcheck.Record) []coatcheck.Key {
	keys := []coatcheck.Key{}
	for _, rec := range recs {
		keys = append(keys, rec.Key)
	}
	return ascending(keys)
}

func ascending(keys []coatcheck.Key) []coatcheck.Key {
	slices.SortFunc(keys, func(a, b coatcheck.Key) int { return slices.Compare(a[:], b[:]) })
	return keys
}

// lives checks that exactly this record stands in the store.
func (h *harness) lives(want *coatcheck.Record, now time.Time) {
	h.Helper()
	got, err := h.load(want.Key, now)
	require.NoError(h, err, "Load")
	h.same(want, got)
}

// refused checks that a Load of the session fails with the given error.
func (h *harness) refused(want error, rec *coatcheck.Record, now time.Time) {
	h.Helper()
	_, err := h.load(rec.Key, now)
	require.ErrorIs(h, err, want, "Load")
}

// same checks that two records are equal, including what was parsed from the bytes.
func (h *harness) same(want, got *coatcheck.Record) {
	h.Helper()
	assert.Equal(h, want.Key, got.Key)
	assert.Equal(h, want.Header, got.Header)
	assert.Equal(h, want.Bytes(), got.Bytes())
	assert.Equal(h, want.UserID(), got.UserID())
}

// unlocked runs visit, which has the store call a yield that calls the store. It fails where visit does not end, and visit must
// not use h.T, because it may go on when the rule has failed.
func (h *harness) unlocked(method string, visit func() error) {
	h.Helper()
	done := make(chan error, 1)
	go func() { done <- visit() }()
	select {
	case err := <-done:
		require.NoError(h, err, method)
	case <-time.After(time.Minute):
		h.stuck = true
		require.Fail(h, method+" holds a lock while yield runs", "What yield asks of the store has no answer after a minute.")
	}
}

// parallel runs f(0) to f(n-1), all at once, and waits for them.
func (h *harness) parallel(n int, f func(i int)) {
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	running.Wait()
}
