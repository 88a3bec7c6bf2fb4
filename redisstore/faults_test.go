package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
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

// liveThrough runs the life of a session as a client sees it, and checks every answer.
func liveThrough(t *testing.T, s *redisstore.Store, user string) {
	ctx := context.Background()
	rec := session(t, user)
	mark, err := s.Mark(ctx, user, time.Now())
	assert.NoError(t, err)
	_, err = s.Create(ctx, rec, coatcheck.CreateOptions{Limit: 100, Mark: mark}, time.Now())
	assert.NoError(t, err)
	for range 3 {
		assert.NoError(t, load(s, rec))
		rec = next(t, rec, rotated)
		assert.NoError(t, swap(s, rec))
		open, err := opens(s, rec, rec.PrevID)
		assert.NoError(t, err)
		assert.True(t, open)
	}
	listed := 0
	assert.NoError(t, s.List(ctx, user, time.Now(), func(*coatcheck.Record) bool { listed++; return true }))
	assert.Equal(t, 1, listed)
	again := session(t, user)
	var replaced coatcheck.Record
	_, err = s.Create(ctx, again, coatcheck.CreateOptions{Mark: mark, Replace: rec.Key, Replaced: &replaced, Until: time.Now().Add(grave)}, time.Now())
	assert.NoError(t, err)
	assert.Equal(t, rec.Bytes(), replaced.Bytes())
	assert.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
	assert.NoError(t, load(s, again))
	if rand.IntN(2) == 0 {
		assert.NoError(t, end(s, again))
	} else {
		n, err := s.EndUser(ctx, user, coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
		assert.NoError(t, err)
		assert.Equal(t, 1, n)
	}
	assert.ErrorIs(t, load(s, again), coatcheck.ErrEnded)
}

// traffic lets many clients run liveThrough, each with a user of its own, until stop is called, and counts the sessions'
// lives.
func traffic(t *testing.T, s *redisstore.Store, clients int) (lives *atomic.Int64, stop func()) {
	var over atomic.Bool
	var running sync.WaitGroup
	lives = new(atomic.Int64)
	for i := range clients {
		running.Go(func() {
			for j := 0; !over.Load() && !t.Failed(); j++ {
				liveThrough(t, s, fmt.Sprintf("%s: user %d of client %d", t.Name(), j, i))
				lives.Add(1)
			}
		})
	}
	return lives, func() {
		over.Store(true)
		running.Wait()
	}
}

// RED-01: clients do not notice what an operator does to Redis. Between two acts there is time for one session's life,
// because on a slow machine connections that are killed all the time would never carry an answer.
func TestNobodyNotices(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, act := range map[string]func(){
		"SCRIPT FLUSH": func() { server.Must("SCRIPT", "FLUSH") },
		"CLIENT KILL":  func() { server.Must("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
		"a short pause": func() {
			server.Signal(syscall.SIGSTOP)
			time.Sleep(20 * time.Millisecond)
			server.Signal(syscall.SIGCONT)
		},
	} {
		for kind, opt := range map[string]redisstore.Options{"with a cache": {}, "without a cache": {CacheTTL: -1}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				opt.URL = server.URL()
				s := opened(t, opt)
				lives, stop := traffic(t, s, 16)
				defer stop()
				for range 40 {
					lived := lives.Load()
					act()
					redistest.Eventually(t, time.Minute, "a session to begin and end", func() bool { return lives.Load() > lived || t.Failed() })
				}
			})
		}
	}
}

// RED-03 with connections that are killed all the time.
func TestOwnWritesAreSeenAcrossConnections(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	var over atomic.Bool
	var killing sync.WaitGroup
	killing.Go(func() {
		for !over.Load() {
			// Even a slow machine gets some answers through between two kills.
			answered := s.Stats().RoundTrips
			for !over.Load() && s.Stats().RoundTrips < answered+100 {
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			}
			server.Must("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
	})
	for s.Stats().Flushes < 20 && !t.Failed() {
		ownWritesAreSeen(t, s, quickly(2000))
	}
	over.Store(true)
	killing.Wait()
}

// RED-01: while Redis is unreachable every call fails in time, none says that a session is gone, and afterwards all
// sessions are as before.
func TestOutages(t *testing.T) {
	const timeout = 500 * time.Millisecond
	server := redistest.Start(t)
	proxy := redistest.Between(t, server.Addr())
	for name, outage := range map[string]struct{ begin, end func() }{
		"killed":    {server.Kill, server.Restart},
		"hanging":   {func() { server.Signal(syscall.SIGSTOP) }, func() { server.Signal(syscall.SIGCONT) }},
		"swallowed": {func() { proxy.Swallow(true) }, func() { proxy.Swallow(false) }},
	} {
		for kind, opt := range map[string]redisstore.Options{"with a cache": {}, "without a cache": {CacheTTL: -1}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				opt.URL, opt.Timeout = "redis://"+proxy.Addr(), timeout
				s := opened(t, opt)
				redistest.Eventually(t, time.Minute, "a session", func() bool { return begin(s, session(t, "ada")) == nil })
				goroutines := runtime.NumGoroutine()
				inTime(t, func() (problem string) {
					outage.begin()
					late := lateness()
					slowest := callThrough(t, s, 100, time.Second)
					outage.end()
					back := time.Now()
					redistest.Eventually(t, time.Minute, "the service to be back", func() bool {
						return begin(s, session(t, "ada")) == nil && s.Ping(context.Background()) == nil
					})
					took, noise := time.Since(back), late()
					t.Logf("the slowest call took %v; back after %v; this machine was late by %v", slowest, took, noise)
					if slowest > timeout+100*time.Millisecond+2*noise || took > 2*time.Second+2*noise {
						return "late"
					}
					return ""
				})
				redistest.Eventually(t, time.Minute, "the goroutines to go", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
			})
		}
	}
}

// inTime calls f up to five times until it is in time, which it reports by an empty string: a busy machine makes f late
// once, and a store that exceeds its timeout makes it late every time.
func inTime(t *testing.T, f func() (problem string)) {
	t.Helper()
	problem := ""
	for range 5 {
		if problem = f(); problem == "" || t.Failed() {
			return
		}
	}
	require.Fail(t, problem)
}

// lateness measures how late this machine runs due timers, until the returned function is called, which returns the longest
// delay. Tests that share two cores with others allow for it.
func lateness() (stop func() time.Duration) {
	const nap = 5 * time.Millisecond
	var over atomic.Bool
	worst := make(chan time.Duration)
	go func() {
		var late time.Duration
		for !over.Load() {
			began := time.Now()
			time.Sleep(nap)
			late = max(late, time.Since(began)-nap)
		}
		worst <- late
	}()
	return func() time.Duration {
		over.Store(true)
		return <-worst
	}
}

// callThrough lets that many callers call the store for a while, and returns how long the slowest call took.
func callThrough(t *testing.T, s *redisstore.Store, callers int, during time.Duration) time.Duration {
	var mu sync.Mutex
	var slowest time.Duration
	var running sync.WaitGroup
	ends := time.Now().Add(during)
	ctx := context.Background()
	calls := []func() error{
		func() error { return load(s, session(t, "bob")) },
		func() error { return end(s, session(t, "bob")) },
		func() error { return swap(s, next(t, session(t, "bob"))) },
		func() error { return endUser(s, "bob", coatcheck.Key{}) },
		func() error {
			_, err := s.Create(ctx, session(t, "bob"), coatcheck.CreateOptions{}, time.Now())
			return err
		},
		func() error { return s.List(ctx, "bob", time.Now(), func(*coatcheck.Record) bool { return true }) },
		func() error {
			_, err := s.Scan(ctx, "", 10, time.Now(), func(*coatcheck.Record) {})
			return err
		},
		func() error { _, err := s.Mark(ctx, "bob", time.Now()); return err },
		func() error { return s.Ping(ctx) },
	}
	for i := range callers {
		running.Go(func() {
			for j := i; time.Now().Before(ends); j++ {
				began := time.Now()
				err := calls[j%len(calls)]()
				took := time.Since(began)
				assert.ErrorIs(t, err, coatcheck.ErrUnavailable)
				mu.Lock()
				slowest = max(slowest, took)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return slowest
}

// RED-04: a session that another node has ended is not served for longer than five seconds, even if the link dies silently;
// the next connection begins with an empty cache.
func TestSilentCut(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := opened(t, redisstore.Options{URL: server.URL()})
	for _, timeout := range []time.Duration{500 * time.Millisecond, 3 * time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			t.Parallel()
			inTime(t, func() (problem string) {
				proxy := redistest.Between(t, server.Addr())
				b := opened(t, redisstore.Options{URL: "redis://" + proxy.Addr(), Timeout: timeout})
				rec := add(t, a, "ada")
				warm(t, b, rec)
				late := lateness()
				proxy.Swallow(true)
				began := time.Now()
				require.NoError(t, end(a, rec))
				if !b.Cached(rec.Key, rec.ID, time.Now()) {
					return "the link had been found dead before anybody looked"
				}
				redistest.Eventually(t, time.Minute, "it not to be served", func() bool { return !b.Cached(rec.Key, rec.ID, time.Now()) })
				took, noise := time.Since(began), late()
				require.ErrorIs(t, load(b, rec), coatcheck.ErrUnavailable)
				t.Logf("the last yes came after %v; this machine was late by %v", took, noise)
				if took > 5*time.Second+2*noise {
					return "it was served for too long"
				}
				return ""
			})
		})
	}
}

// When a link is cut and comes back, the cache is empty.
func TestReconnectBeginsEmpty(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.Between(t, server.Addr())
	a := opened(t, redisstore.Options{URL: server.URL()})
	b := opened(t, redisstore.Options{URL: "redis://" + proxy.Addr()})
	for i := range quickly(100) {
		rec := add(t, a, fmt.Sprintf("user %d", i))
		warm(t, b, rec)
		proxy.Cut()
		require.NoError(t, end(a, rec))
		redistest.Eventually(t, time.Minute, "the cache to be emptied", func() bool { return !b.Cached(rec.Key, rec.ID, time.Now()) })
		require.ErrorIs(t, load(b, rec), coatcheck.ErrEnded)
	}
}
