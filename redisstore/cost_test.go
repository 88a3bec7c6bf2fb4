package redisstore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

func TestHitDoesNotAllocate(t *testing.T) {
	s := opened(t, redisstore.Options{URL: redistest.Start(t).URL()})
	rec := add(t, s, "ada")
	warm(t, s, rec)
	before := s.Stats()
	var got coatcheck.Record
	ctx, now := context.Background(), time.Now()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := s.Load(ctx, rec.Key, rec.ID, now, &got); err != nil {
			t.Error(err)
		}
	}))
	after := s.Stats()
	assert.Equal(t, before.Hits+1001, after.Hits)
	assert.Equal(t, before.Misses, after.Misses)
	assert.Equal(t, before.RoundTrips, after.RoundTrips)
}

// The cache's size bounds all memory that it takes up, whatever its records' size.
func TestCacheKeepsToItsSize(t *testing.T) {
	size := max(2<<20, quickly(8<<20))
	now := time.Now()
	for _, valueBytes := range []int{0, 200, 3000} {
		t.Run(fmt.Sprintf("%d bytes of values", valueBytes), func(t *testing.T) {
			before := heapAlloc()
			c := redisstore.NewCache(prefix, size)
			conn := c.NewStore()
			for n := 0; n < 3*size; n += valueBytes + 300 {
				put(conn, sized(t, valueBytes), time.Minute, now)
			}
			taken := heapAlloc() - before
			st := c.Stats()
			require.NoError(t, c.Check())
			t.Logf("%d records, %d bytes counted, %d bytes of heap", st.CachedRecords, st.CachedBytes, taken)
			assert.LessOrEqual(t, st.CachedBytes, size)
			assert.Greater(t, st.CachedBytes, size*8/10)
			assert.Less(t, taken, size*11/10)
			runtime.KeepAlive(conn)
		})
	}
}

// sized returns a record with one value, in a slice of its own as rueidis would hand it over.
func sized(t testing.TB, valueBytes int) *coatcheck.Record {
	rec := session(t, "")
	if valueBytes == 0 {
		return rec
	}
	values := append([]byte{1, 'v', byte(valueBytes >> 8), byte(valueBytes)}, make([]byte, valueBytes)...)
	require.NoError(t, rec.Write(rec.Key, rec.Header, nil, nil, nil, values))
	return rec
}

func heapAlloc() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
