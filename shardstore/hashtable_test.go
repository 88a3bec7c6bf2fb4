package shardstore

import (
	"encoding/binary"
	"hash/maphash"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// TestTableModel drives a table and a plain map through the same random steps. Few different hashes make long runs.
func TestTableModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hashes := rapid.SampledFrom([]uint32{1, 3, 1 << 4, 1 << 31}).Draw(t, "hashes")
		var tab hashTable
		model := map[ref]uint32{}
		last := ref(0)
		exactly := func(n ref) func(ref) bool { return func(m ref) bool { return m == n } }
		some := func() ref {
			var all []ref
			for n := range model {
				all = append(all, n)
			}
			if len(all) == 0 {
				t.Skip()
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(t, "n") {
					last++
					h := rapid.Uint32Range(0, hashes).Draw(t, "hash")
					model[last] = h
					tab.add(h, last)
				}
			},
			"set": func(*rapid.T) {
				n := some()
				h := model[n]
				last++
				tab.set(h, n, last)
				delete(model, n)
				model[last] = h
			},
			"remove": func(*rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "n") {
					n := some()
					tab.remove(model[n], n)
					delete(model, n)
					require.Zero(t, tab.find(uint32(0), exactly(n)))
				}
			},
			"shrink": func(t *rapid.T) {
				for tab.shrink() { // must end
				}
				require.Nil(t, tab.old)
				require.True(t, len(tab.cells) <= minCells || len(tab.cells) <= 3*tab.count)
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(model), tab.count)
				require.LessOrEqual(t, 5*tab.count, 4*len(tab.cells))
				for n, h := range model {
					require.Equal(t, n, tab.find(h, exactly(n)))
				}
				require.Zero(t, tab.find(hashes, exactly(last+1)))
			},
		})
	})
}

// BenchmarkTable compares the table with a map[Key]uint32: it looks up ten million keys in 256 shards in turn, and reports
// the bytes for each key.
func BenchmarkTable(b *testing.B) {
	const shards = 256
	n := 10_000_000
	if testing.Short() { // only to check that the benchmark works
		n = 100_000
	}
	seed := maphash.MakeSeed()
	keyOf := func(i int) (key coatcheck.Key) {
		binary.LittleEndian.PutUint64(key[:], uint64(i)*0x9E3779B97F4A7C15)
		return key
	}
	run := func(name string, add func(shard int, key coatcheck.Key, i int), find func(shard int, key coatcheck.Key) bool) {
		before := heapInuse()
		for i := range n {
			add(i%shards, keyOf(i), i)
		}
		bytes := float64(heapInuse()-before) / float64(n)
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				if i := i * 7919 % n; !find(i%shards, keyOf(i)) {
					b.Fatal("a key is missing")
				}
			}
			b.ReportMetric(bytes, "B/key")
		})
	}
	tables := make([]hashTable, shards)
	slots := make([]coatcheck.Key, n+1) // as the slots hold the keys
	run("table", func(shard int, key coatcheck.Key, i int) {
		slots[i+1] = key
		tables[shard].add(uint32(maphash.Bytes(seed, key[:])), ref(i+1))
	}, func(shard int, key coatcheck.Key) bool {
		return tables[shard].find(uint32(maphash.Bytes(seed, key[:])), func(n ref) bool { return slots[n] == key }) != 0
	})
	tables = nil
	maps := make([]map[coatcheck.Key]uint32, shards)
	for i := range maps {
		maps[i] = map[coatcheck.Key]uint32{}
	}
	run("map", func(shard int, key coatcheck.Key, i int) { maps[shard][key] = uint32(i) },
		func(shard int, key coatcheck.Key) bool { _, ok := maps[shard][key]; return ok })
	runtime.KeepAlive(maps)
}

func heapInuse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
