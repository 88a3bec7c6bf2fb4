package shardstore

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestSlabsModel takes and gives slots of all sizes, writes something unique into each, and expects to find it there.
func TestSlabsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s slabs
		s.init()
		model := map[ref][]byte{}
		var all []ref
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				size := rapid.SampledFrom([]int{1, 16, 17, 94, 128, 129, 1000, 4000, 4096}).Draw(t, "size")
				for range rapid.IntRange(1, 60).Draw(t, "n") {
					n := s.take(size)
					require.NotContains(t, model, n, "a slot that is taken")
					b := make([]byte, size)
					for i := range b {
						b[i] = byte(n) ^ byte(i) ^ byte(len(all))
					}
					s.at(n).fill(session, b)
					model[n] = b
					all = append(all, n)
				}
			},
			"give": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "n") {
					if len(all) == 0 {
						return
					}
					i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
					s.give(all[i])
					delete(model, all[i])
					all[i] = all[len(all)-1]
					all = all[:len(all)-1]
				}
			},
			"trim": func(*rapid.T) { s.trim() },
			"": func(t *rapid.T) {
				found := 0
				for id := range s.list {
					s.each(uint32(id), func(n ref, at slot) {
						found++
						require.Equal(t, model[n], at.payload())
					})
				}
				require.Equal(t, len(model), found)
			},
		})
		for _, n := range all {
			s.give(n)
		}
		s.trim()
		s.trim()
		for _, c := range s.classes {
			require.Equal(t, class{}, c, "a slab that stays empty is kept")
		}
	})
}

func TestClasses(t *testing.T) {
	last := 0
	for c, size := range sizes {
		require.Equal(t, uint8(c), classOf(size))
		require.Equal(t, uint8(c), classOf(last+1))
		if size > 112 {
			require.LessOrEqual(t, 8*(size-last), size+8, "classes an eighth apart")
		}
		last = size
		var s slabs
		s.init()
		for range 3000 { // slabs of every length: the waste at their ends is bounded
			s.take(size)
		}
		for id := range s.list[1:] {
			sl := &s.list[id+1]
			require.LessOrEqual(t, 8*(len(sl.data)-sl.slots()*(slotHead+size)), len(sl.data))
			require.LessOrEqual(t, sl.slots(), 1<<slotBits)
		}
	}
	require.Error(t, checkSize(4097))
	require.ErrorContains(t, checkSize(4097), "4096")
}
