package redisstore_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

func TestReplicasAreWaitedFor(t *testing.T) {
	primary, replica := redistest.StartReplicated(t)
	s := opened(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1, Timeout: 300 * time.Millisecond})

	conform(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1, Timeout: 3 * time.Second})
	t.Run("own writes are seen", func(t *testing.T) {
		ownWritesAreSeen(t, opened(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1, Timeout: 3 * time.Second}), 10_000)
	})
	t.Run("what was acknowledged is on the replica", func(t *testing.T) {
		for i := range 200 {
			rec := add(t, s, fmt.Sprintf("user %d", i))
			r := revocations[i%len(revocations)]
			require.NoError(t, r.do(t, s, rec), r.name)
			if r.name == "push out" { // a login tells nobody that another session has ended
				continue
			}
			b, err := replica.Do("GET", s.RecordKey(rec.Key)).AsBytes()
			require.NoError(t, err, r.name)
			assert.NotEqual(t, rec.Bytes(), b, r.name)
		}
	})

	busy := add(t, s, "bob")
	warm(t, s, busy)
	quiet := slowest(t, s, busy)
	t.Run("a stopped replica", func(t *testing.T) {
		recs := make([]*coatcheck.Record, len(revocations))
		for i := range recs {
			recs[i] = add(t, s, "carol")
		}
		ended := add(t, s, "eve")
		replica.Signal(syscall.SIGSTOP)
		defer replica.Signal(syscall.SIGCONT)
		for i, r := range revocations {
			if r.name == "push out" || r.name == "end all" {
				continue
			}
			began := time.Now()
			require.ErrorIs(t, r.do(t, s, recs[i]), coatcheck.ErrUnavailable, r.name)
			assert.Less(t, time.Since(began), 400*time.Millisecond)
			open, _ := opens(s, recs[i], recs[i].ID)
			assert.False(t, open, "%s was not acknowledged, but this node must not take it back", r.name)
		}
		require.ErrorIs(t, endUser(s, "carol", coatcheck.Key{}), coatcheck.ErrUnavailable)

		// Trying again is no way around it.
		require.ErrorIs(t, end(s, ended), coatcheck.ErrUnavailable)
		require.ErrorIs(t, end(s, ended), coatcheck.ErrUnavailable)
		require.ErrorIs(t, load(s, ended), coatcheck.ErrUnavailable)

		t.Run("delays nothing else", func(t *testing.T) {
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
						assert.ErrorIs(t, end(s, add(t, s, "dan")), coatcheck.ErrUnavailable)
					}
				}
			}()
			disturbed := slowest(t, s, busy)
			close(stop)
			<-done
			t.Logf("the slowest hundredth of Loads past the cache took %v, and %v while nothing else was going on", disturbed, quiet)
			assert.Less(t, disturbed, quiet+50*time.Millisecond)
		})
		require.NoError(t, swap(s, next(t, add(t, s, "frank"), longAgo)), "a changed value is not waited for")
	})
	t.Run("it goes on", func(t *testing.T) {
		redistest.Eventually(t, 10*time.Second, "the replica to follow", func() bool { return end(s, add(t, s, "gil")) == nil })
	})
}

// longAgo is a Swap's edit: it is a while since the last rotation.
func longAgo(h *coatcheck.Header) { h.RotatedAt -= time.Minute.Milliseconds() }

// slowest returns how long the slowest hundredth of Loads past the cache takes at least.
func slowest(t testing.TB, s *redisstore.Store, rec *coatcheck.Record) time.Duration {
	var times []time.Duration
	for range 500 {
		s.Forget()
		began := time.Now()
		require.NoError(t, load(s, rec))
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)*99/100]
}
