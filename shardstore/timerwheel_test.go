package shardstore

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWheelModel lets time pass over random ends, some of which are postponed, and expects the wheel to hand out exactly
// those that have passed. Now and then the clock goes back.
func TestWheelModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s slabs
		s.init()
		now := rapid.Int64Range(0, 1<<43).Draw(t, "begin")
		w := timerWheel{slots: &s, at: now}
		model := map[ref]int64{}
		set := func(n ref, at int64) {
			payload := tombstonePayload(at)
			s.at(n).fill(tombstone, payload[:])
			model[n] = at
		}
		far := func(name string) int64 {
			return rapid.Int64Range(0, 1<<rapid.SampledFrom([]int{1, 6, 7, 12, 18, 24, 30, 42, 50, 56}).Draw(t, name+" bits")).Draw(t, name)
		}
		some := func() ref {
			for n := range model {
				return n
			}
			t.Skip()
			return 0
		}
		fetchOne := func() bool {
			n := w.due(now)
			if n == 0 {
				return false
			}
			w.remove(n)
			if s.at(n).ends() > now {
				w.add(n)
				return true
			}
			require.Contains(t, model, n)
			s.give(n)
			delete(model, n)
			return true
		}
		fetch := func() {
			for fetchOne() {
			}
			require.LessOrEqual(t, w.at, now+maxBehind, "the wheel follows the clock")
			for _, at := range model {
				require.True(t, at > now || now < w.at, "it has ended and was not handed out")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				n := s.take(8)
				set(n, now+far("ends"))
				w.add(n)
			},
			"put off": func(*rapid.T) {
				n := some()
				set(n, max(model[n], now)+far("later"))
			},
			"remove": func(*rapid.T) {
				n := some()
				w.remove(n)
				s.give(n)
				delete(model, n)
			},
			"pass": func(*rapid.T) {
				now = min(now+far("pass"), math.MaxInt64/2)
				fetch()
			},
			"go back": func(*rapid.T) {
				now = max(0, now-far("back"))
				if rapid.Bool().Draw(t, "fetch") {
					fetch()
				}
			},
			"fetch a few": func(*rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "n") {
					fetchOne()
				}
			},
			"": func(t *rapid.T) {
				c := counter{}
				require.Equal(t, len(model), w.count(&c))
				require.Empty(t, c.errs)
			},
		})
	})
}

// TestWheelPassesTheTurnOfADigit makes the clock jump over the carry of each digit, with a session that ends later: at the
// carry of 2109 the wheel once looped for ever.
func TestWheelPassesTheTurnOfADigit(t *testing.T) {
	for bits := digitBits; bits < 62; bits += digitBits {
		turn := int64(1) << bits
		var s slabs
		s.init()
		w := timerWheel{slots: &s, at: turn - 1}
		n, payload := s.take(8), tombstonePayload(2*turn)
		s.at(n).fill(tombstone, payload[:])
		w.add(n)
		for range levels + 1 { // the slot moves down at most once for each level
			moved := w.due(turn + 5)
			if moved == 0 {
				break
			}
			w.remove(moved)
			w.add(moved)
		}
		require.Zero(t, w.due(turn+5), "%d bits", bits)
		require.Equal(t, n, w.due(2*turn), "%d bits", bits)
	}
}
