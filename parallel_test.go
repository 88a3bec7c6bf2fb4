package coatcheck_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// onBothStores runs the same requests in real goroutines, for the race detector, on the map store and on shardstore.
func onBothStores(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("mapStore", func(t *testing.T) { f(t, newWorld(t)) })
	t.Run("shardstore", func(t *testing.T) {
		w := newWorld(t)
		store, err := shardstore.New(shardstore.Options{Now: w.clock.Now})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, store.Close()) })
		w.store.Store = store
		f(t, w)
	})
}

// together runs n requests at once, each with a session object from one pool, and returns their answers.
func together(t *testing.T, w *world, n int, cookie string, handler func(i int, s *coatcheck.Session)) []answer {
	t.Helper()
	pool := sync.Pool{New: func() any { return new(coatcheck.Request) }}
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			s := pool.Get().(*coatcheck.Request)
			defer pool.Put(s)
			defer s.Release()
			ctx := context.Background()
			if !assert.NoError(t, w.m.Open(ctx, s, presented(cookie), coatcheck.Client{}, w.clock.Now())) {
				return
			}
			handler(i, s.Lend())
			assert.NoError(t, s.Finish(ctx))
			answers[i] = w.answer(s)
		})
	}
	all.Wait()
	return answers
}

// CON-03: 100 parallel values are all kept, and 100 parallel increments end at 100.
func TestParallelWritesLoseNothing(t *testing.T) {
	onBothStores(t, func(t *testing.T, w *world) {
		cookie := w.login("u")
		together(t, w, 100, cookie, func(i int, s *coatcheck.Session) {
			assert.NoError(t, s.Insert(fmt.Sprint("v", i), i))
			assert.NoError(t, coatcheck.Update(s, "n", func(n int) int { return n + 1 }))
		})
		s := w.open(cookie)
		assert.Equal(t, 101, s.Len())
		wantValue(t, s.Lend(), "n", 100)
	})
}

// CON-04 with real concurrency: one of fifty refreshes rotates, and every browser ends with a live cookie.
func TestParallelRefreshes(t *testing.T) {
	onBothStores(t, func(t *testing.T, w *world) {
		cookie := w.login("u")
		answers := together(t, w, 50, cookie, func(_ int, s *coatcheck.Session) { refreshIn(t, s) })
		rotated, j := 0, jar(cookie)
		for _, a := range answers {
			j.apply(a)
			if a.cookie == coatcheck.SetCookie {
				rotated++
			}
			assert.Equal(t, "u", w.user(string(j)))
		}
		assert.Equal(t, 1, rotated)
	})
}

// CON-01 with real concurrency: nothing that works on a session survives its logout.
func TestParallelLogout(t *testing.T) {
	onBothStores(t, func(t *testing.T, w *world) {
		for range 50 {
			cookie := w.login("u")
			answers := together(t, w, 8, cookie, func(i int, s *coatcheck.Session) {
				switch i % 4 {
				case 0:
					refreshIn(t, s)
				case 1:
					assert.NoError(t, s.Insert("x", i))
				case 2:
					assert.NoError(t, coatcheck.Update(s, "n", func(n int) int { return n + 1 }))
				case 3:
					s.Destroy()
				}
			})
			for _, a := range append(answers, answer{token: cookie}) {
				require.Empty(t, w.open(a.token).UserID())
			}
			assert.NoError(t, w.m.Store().List(t.Context(), "u", w.clock.Now(), func(*coatcheck.Record) bool {
				t.Error("a session lives")
				return false
			}))
		}
	})
}
