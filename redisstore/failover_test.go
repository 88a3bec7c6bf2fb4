package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// deployment is a set-up of Redis that survives the loss of a primary.
type deployment struct {
	url         string
	fallBehind  func() // the replica gets no more writes from the primary
	losePrimary func()
}

// RED-05: a primary is lost in the middle of traffic, with a replica that has fallen behind. How long it takes until logins
// succeed depends on the deployment (the Sentinel and the Cluster's nodes wait for four seconds). With WaitReplicas no
// acknowledged logout is undone. Without it those of the last moments may be undone, which follows from Redis' asynchronous
// replication and is the documented worst case.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) deployment{
		"Sentinel": func(t *testing.T) deployment {
			s := redistest.StartSentinel(t)
			return deployment{s.URL(), func() { s.Link.Swallow(true) }, s.Primary.Kill}
		},
		"Cluster": func(t *testing.T) deployment {
			c := redistest.StartCluster(t, true, "cluster-node-timeout 4000")
			// The replica later reads what its kernel has received, so no write is lost here, but none is acknowledged
			// either.
			return deployment{c.URL(), func() { c.Replicas[1].Signal(syscall.SIGSTOP) }, func() {
				c.Primaries[1].Kill()
				c.Replicas[1].Signal(syscall.SIGCONT)
			}}
		},
	} {
		for _, replicas := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, waiting for %d", name, replicas), func(t *testing.T) {
				t.Parallel()
				d := start(t)
				s := opened(t, redisstore.Options{URL: d.url, WaitReplicas: replicas, Timeout: timeout})
				visits := visit(t, s)
				began := time.Now()
				redistest.Eventually(t, time.Minute, "logouts to be acknowledged", func() bool { return visits.acknowledged() >= 100 })
				t.Logf("the first hundred logouts took %v", time.Since(began))
				d.fallBehind()
				before, asked := visits.acknowledged(), visits.asked.Load()
				redistest.Eventually(t, time.Minute, "logouts that the replica does not hear of", func() bool { return visits.asked.Load() >= asked+32 })
				t.Logf("%d were acknowledged while the replica fell behind", visits.acknowledged()-before)
				lost := time.Now()
				d.losePrimary()
				visits.untilQuiet(t, lost)
				acknowledged := visits.stop()

				undone := 0
				after := opened(t, redisstore.Options{URL: d.url})
				for _, rec := range acknowledged {
					err := load(after, rec)
					require.NotErrorIs(t, err, coatcheck.ErrUnavailable)
					if err == nil {
						undone++
					}
				}
				t.Logf("logins failed for %v; of %d logouts that were acknowledged, %d came undone",
					visits.lastFailure().Sub(lost).Round(time.Millisecond), len(acknowledged), undone)
				assert.NotEmpty(t, acknowledged)
				if replicas > 0 {
					assert.Zero(t, undone)
				}
			})
		}
	}
}

// timeout is the Timeout of the stores that lose their primary: a login that began before the loss fails, if at all, within
// it.
const timeout = 2 * time.Second

func begin(s *redisstore.Store, rec *coatcheck.Record) error {
	_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, time.Now())
	return err
}

// visits makes logins of many users at once, and logouts of sessions that began 300 ms before.
type visits struct {
	over    atomic.Bool
	asked   atomic.Int64 // logouts that were begun
	running sync.WaitGroup

	mu     sync.Mutex
	ended  []*coatcheck.Record // logouts that were acknowledged; guarded by mu
	failed time.Time           // when a login failed last; guarded by mu
}

func visit(t *testing.T, s *redisstore.Store) *visits {
	v := &visits{}
	for i := range 32 {
		v.running.Go(func() {
			type begun struct {
				rec *coatcheck.Record
				at  time.Time
			}
			var open []begun
			for j := 0; !v.over.Load(); j++ {
				rec := session(t, fmt.Sprintf("visitor %d.%d", i, j))
				if err := begin(s, rec); err != nil {
					v.note(func() { v.failed = time.Now() })
					assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
				} else {
					open = append(open, begun{rec, time.Now()})
				}
				if len(open) > 0 && time.Since(open[0].at) > 300*time.Millisecond {
					v.leave(t, s, open[0].rec)
					open = open[1:]
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return v
}

func (v *visits) leave(t *testing.T, s *redisstore.Store, rec *coatcheck.Record) {
	v.asked.Add(1)
	// If it is not found, the session was begun on the lost primary and never replicated.
	if err := end(s, rec); err == nil {
		v.note(func() { v.ended = append(v.ended, rec) })
	} else if !errors.Is(err, coatcheck.ErrUnavailable) {
		assert.ErrorIs(t, err, coatcheck.ErrNotFound)
	}
}

func (v *visits) note(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

func (v *visits) acknowledged() (n int) {
	v.note(func() { n = len(v.ended) })
	return n
}

func (v *visits) lastFailure() (at time.Time) {
	v.note(func() { at = v.failed })
	return at
}

// untilQuiet waits until logins have failed since the primary was lost, and then until none has failed for longer than a
// login may take.
func (v *visits) untilQuiet(t *testing.T, lost time.Time) {
	t.Helper()
	redistest.Eventually(t, time.Minute, "a login to fail", func() bool { return v.lastFailure().After(lost) })
	redistest.Eventually(t, 2*time.Minute, "logins to succeed", func() bool { return time.Since(v.lastFailure()) > 2*timeout })
}

func (v *visits) stop() []*coatcheck.Record {
	v.over.Store(true)
	v.running.Wait()
	return v.ended
}

// Slots move to and fro under traffic, key by key, and no client notices.
func TestSlotMigration(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, true)
	for name, opt := range map[string]redisstore.Options{
		"with a cache": {}, "without a cache": {CacheTTL: -1}, "waiting for a replica": {WaitReplicas: 1},
	} {
		t.Run(name, func(t *testing.T) {
			opt.URL = c.URL()
			s := opened(t, opt)
			const clients = 16
			var over atomic.Bool
			var lives atomic.Int64
			var running sync.WaitGroup
			stop := func() {
				over.Store(true)
				running.Wait()
			}
			defer stop()
			slots := map[string]bool{}
			for i := range clients {
				user := fmt.Sprintf("%s: user %d", t.Name(), i)
				slots[c.Slot(s.RecordKey(session(t, user).Key))] = true
				running.Go(func() {
					for !over.Load() && !t.Failed() {
						liveThrough(t, s, user)
						lives.Add(1)
						time.Sleep(20 * time.Millisecond) // what the traffic leaves has to move as well
					}
				})
			}
			for range 2 {
				lived := lives.Load()
				for slot := range slots {
					from := c.Owner(t, slot)
					to := c.Primaries[(slices.Index(c.Primaries, from)+1)%len(c.Primaries)]
					c.Move(t, slot, from, to, func() { time.Sleep(time.Millisecond) })
				}
				redistest.Eventually(t, time.Minute, "sessions to begin and end", func() bool { return lives.Load() > lived+clients || t.Failed() })
			}
			stop()
			t.Logf("%d sessions began and ended, while %d slots moved again and again", lives.Load(), len(slots))
		})
	}
}

// While only some of a user's keys have moved, an operation that needs all of them waits, and does not take a key that it
// cannot see for absent.
func TestHalfMovedSlot(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false)
	ctx := context.Background()
	for name, moves := range map[string]func(key string) bool{
		"nothing":       func(string) bool { return false },
		"the index":     func(key string) bool { return strings.Contains(key, "}:u:") },
		"the records":   func(key string) bool { return strings.Contains(key, "}:s:") },
		"everything":    func(string) bool { return true },
		"the last half": func(key string) bool { return strings.Contains(key, "}:u:") || key[len(key)-1] > 'V' },
	} {
		t.Run(name, func(t *testing.T) {
			user := "user of whom there moved " + name
			s := opened(t, redisstore.Options{URL: c.URL()})
			hasty := opened(t, redisstore.Options{URL: c.URL()})
			hasty.SetTimeout(200 * time.Millisecond)
			uncached := opened(t, redisstore.Options{URL: c.URL(), CacheTTL: -1})
			recs := []*coatcheck.Record{add(t, s, user), add(t, s, user), add(t, s, user), add(t, s, user)}
			slot := c.Slot(s.RecordKey(recs[0].Key))
			from := c.Owner(t, slot)
			to := c.Primaries[(slices.Index(c.Primaries, from)+1)%len(c.Primaries)]
			c.BeginMove(slot, from, to)
			keys, err := from.Do("CLUSTER", "GETKEYSINSLOT", slot, "100").AsStrSlice()
			require.NoError(t, err)
			keys = slices.DeleteFunc(keys, func(key string) bool { return !moves(key) })
			if len(keys) > 0 {
				c.MoveKeys(from, to, keys...)
			}

			unavailable := func(err error) { t.Helper(); require.ErrorIs(t, err, coatcheck.ErrUnavailable) }
			unavailable(endUser(hasty, user, coatcheck.Key{}))
			unavailable(endUser(hasty, user, recs[0].Key))
			unavailable(begin(hasty, session(t, user)))
			unavailable(end(hasty, recs[0]))
			unavailable(hasty.List(ctx, user, time.Now(), func(*coatcheck.Record) bool { return true }))
			for _, rec := range recs {
				require.NoError(t, load(s, rec), "one key is on one side or the other")
			}
			shorter := next(t, recs[3], func(h *coatcheck.Header) { h.IdleExpiry -= 60_000 }) // looks at a key that may be on either side
			if err := swap(hasty, shorter); err != nil {
				unavailable(err)
			}

			c.Move(t, slot, from, to, func() {})
			listed := 0
			require.NoError(t, s.List(ctx, user, time.Now(), func(*coatcheck.Record) bool { listed++; return true }))
			assert.Equal(t, len(recs), listed)
			var got coatcheck.Record
			require.NoError(t, uncached.Load(ctx, recs[3].Key, recs[3].ID, time.Now(), &got))
			keys, err = to.Do("CLUSTER", "GETKEYSINSLOT", slot, "100").AsStrSlice()
			require.NoError(t, err)
			index := slices.IndexFunc(keys, func(key string) bool { return strings.Contains(key, "}:u:") })
			require.GreaterOrEqual(t, index, 0, "%q", keys)
			score := to.Must("ZSCORE", keys[index], fmt.Sprintf("%012x%s", got.CreatedAt, got.Key))
			assert.Equal(t, strconv.FormatInt(got.Expiry(), 10), score, "the index goes with the record, whether it was shortened or not")
			n, err := s.EndUser(ctx, user, coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
			require.NoError(t, err)
			assert.Equal(t, len(recs), n)
		})
	}
}
