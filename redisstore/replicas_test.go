package redisstore_test

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"strings"
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
	t.Parallel()
	primary, replica := redistest.StartReplicated(t)
	s := opened(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1})
	t.Run("own writes are seen", func(t *testing.T) { ownWritesAreSeen(t, s, quickly(10_000)) })
	t.Run("what was acknowledged is on the replica", func(t *testing.T) {
		for i := range 200 {
			rec := add(t, s, fmt.Sprintf("user %d", i))
			r := revocations[i%len(revocations)]
			require.NoError(t, r.do(t, s, rec), r.name)
			if r.name == "push out" { // a login does not report that another session has ended
				continue
			}
			b, err := replica.Do("GET", s.RecordKey(rec.Key)).AsBytes()
			require.NoError(t, err, r.name)
			assert.NotEqual(t, rec.Bytes(), b, r.name)
		}
	})
	t.Run("a stopped replica", func(t *testing.T) {
		replica.Signal(syscall.SIGSTOP)
		defer replica.Signal(syscall.SIGCONT)
		for _, r := range revocations {
			if r.name == "push out" {
				continue
			}
			unacknowledged(t, s, func(s *redisstore.Store) error {
				rec := session(t, crand.Text())
				if err := begin(s, rec); err != nil {
					return err
				}
				err := r.do(t, s, rec)
				if errors.Is(err, redisstore.ErrReplicas) {
					open, _ := opens(s, rec, rec.ID)
					assert.False(t, open, "%s was not acknowledged, but this node must not take it back", r.name)
				}
				return err
			})
		}

		// A retry does not get around the replicas.
		ended := add(t, s, "eve")
		for range 3 {
			unacknowledged(t, s, func(s *redisstore.Store) error { return end(s, ended) })
		}
		unacknowledged(t, s, func(s *redisstore.Store) error { return load(s, ended) })
		require.NoError(t, swap(s, next(t, add(t, s, "frank"), longAgo)), "a changed value is not waited for")
	})
	t.Run("nothing else is delayed", func(t *testing.T) {
		busy, ended := add(t, s, "bob"), add(t, s, "dan")
		replica.Signal(syscall.SIGSTOP)
		answer := make(chan error, 1)
		go func() { answer <- end(s, ended) }()
		redistest.Eventually(t, time.Minute, "the primary to wait for its replica", func() bool {
			return strings.Contains(primary.Must("INFO", "clients"), "blocked_clients:1\r")
		})
		for range 500 {
			s.Forget()
			require.NoError(t, load(s, busy))
		}
		select {
		case err := <-answer:
			require.Fail(t, "it was not waited for", "%v", err)
		default:
		}
		replica.Signal(syscall.SIGCONT)
		require.NoError(t, <-answer, "it goes on")
	})
}

// unacknowledged calls do, which cannot be acknowledged while the replica is stopped, with a store that has little time,
// and more time with each try on a slow machine, until the error is that of the missing replica.
func unacknowledged(t *testing.T, s *redisstore.Store, do func(*redisstore.Store) error) {
	t.Helper()
	defer s.SetTimeout(redisstore.Patience)
	for timeout := 300 * time.Millisecond; timeout < time.Minute; timeout *= 2 {
		s.SetTimeout(timeout)
		err := do(s)
		require.ErrorIs(t, err, coatcheck.ErrUnavailable)
		if errors.Is(err, redisstore.ErrReplicas) {
			return
		}
		t.Logf("%v was not enough for the primary to answer: %v", timeout, err)
	}
	require.Fail(t, "it is never told that the replica is missing")
}

// longAgo is a Swap's edit: it is a while since the last rotation.
func longAgo(h *coatcheck.Header) { h.RotatedAt -= time.Minute.Milliseconds() }
