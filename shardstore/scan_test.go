package shardstore

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// TestScanModel scans, in parts of random sizes, a store that other calls grow, shrink and change meanwhile. Each session that
// lives from the first part to the last is shown exactly once, and none is shown twice.
func TestScanModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		s, err := New(Options{
			Shards: rapid.SampledFrom([]int{1, 4}).Draw(t, "shards"), JanitorEvery: time.Hour, Now: func() time.Time { return now },
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		ctx, live, all := context.Background(), map[coatcheck.Key]*coatcheck.Record{}, []coatcheck.Key(nil)
		create := func(n int) {
			for range n {
				rec := scanRecord(t, now, "")
				_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, now)
				require.NoError(t, err)
				live[rec.Key], all = rec, append(all, rec.Key)
			}
		}
		// some calls f for so many of the live sessions, the oldest first.
		some := func(n int, f func(rec *coatcheck.Record)) {
			for _, key := range all {
				if rec := live[key]; rec != nil && n > 0 {
					n--
					f(rec)
				}
			}
		}
		create(rapid.IntRange(0, 600).Draw(t, "at first"))
		staying, shown := map[coatcheck.Key]bool{}, map[coatcheck.Key]int{}
		for key := range live {
			staying[key] = true
		}
		for cursor, first := "", true; first || cursor != ""; first = false {
			limit := rapid.SampledFrom([]int{1, 3, 50, 1000}).Draw(t, "limit")
			n := 0
			cursor, err = s.Scan(ctx, cursor, limit, now, func(rec *coatcheck.Record) { shown[rec.Key]++; n++ })
			require.NoError(t, err)
			require.LessOrEqual(t, n, limit)
			switch rapid.IntRange(0, 12).Draw(t, "meanwhile") {
			case 0:
				create(min(100, max(0, 2000-len(all)))) // it comes to an end
			case 1:
				some(200, func(rec *coatcheck.Record) {
					require.NoError(t, s.End(ctx, rec.Key, "", now, now, new(coatcheck.Record))) // without a tombstone: the table shrinks
					delete(live, rec.Key)
					delete(staying, rec.Key)
				})
			case 2:
				some(50, func(rec *coatcheck.Record) {
					next, h := new(coatcheck.Record), rec.Header
					h.Version++
					require.NoError(t, next.Rewrite(rec, h, scanValues(rapid.IntRange(1, 900).Draw(t, "size"))))
					require.NoError(t, s.Swap(ctx, next, rec.Version, now, new(coatcheck.Record)))
					live[rec.Key] = next
				})
			case 3:
				for i := range s.shards {
					s.shards[i].mu.Lock()
					s.shards[i].keys.shrink()
					s.shards[i].slots.trim()
					s.shards[i].mu.Unlock()
				}
			}
		}
		for key := range staying {
			require.Equal(t, 1, shown[key])
		}
		for _, times := range shown {
			require.Equal(t, 1, times)
		}
	})
}

func scanRecord(t require.TestingT, now time.Time, user string) *coatcheck.Record {
	token, rec, ms := coatcheck.NewToken(coatcheck.TagOf(user)), new(coatcheck.Record), now.UnixMilli()
	require.NoError(t, rec.Write(token.Key(), coatcheck.Header{
		Version: 1, ID: token.ID(), RotatedAt: ms, CreatedAt: ms, LastSeen: ms, IdleExpiry: ms + 3_600_000, AbsoluteExpiry: ms + 3_600_000,
	}, []byte(user), nil, nil, nil))
	return rec
}

func scanValues(n int) []byte {
	b := binary.BigEndian.AppendUint16([]byte("\x01n"), uint16(n))
	return append(b, strings.Repeat("1", n)...)
}

// Keys may share a hash, and a page may end between them.
func TestScanOfEqualHashes(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, limit := range []int{1, 2, 3, 100} {
		var sh shard
		sh.init(nil, new(swept), now.UnixMilli())
		want := map[coatcheck.Key]int{}
		for i := range uint32(40) {
			rec := scanRecord(t, now, "")
			sh.insert(rec.Key, i/4*0x10000001, rec.Bytes())
			want[rec.Key] = 1
		}
		shown := map[coatcheck.Key]int{}
		for at := (place{}); at.order <= 1<<32-1; {
			var found []storedRecord
			found, at = sh.scan(at, limit, now.UnixMilli())
			assert.LessOrEqual(t, len(found), limit)
			for _, c := range found {
				shown[c.key]++
			}
		}
		assert.Equal(t, want, shown, "%d with a call", limit)
	}
}

// However many sessions there are, one hold of the lock visits a bounded part of them.
func TestScanHoldsTheLockForAPart(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var sh shard
	sh.init(nil, new(swept), now.UnixMilli())
	for range 5000 {
		rec := scanRecord(t, now, "")
		sh.insert(rec.Key, sh.hash(rec.Key[:]), rec.Bytes())
	}
	found, at := sh.scan(place{}, scanRecords, now.UnixMilli())
	assert.LessOrEqual(t, len(found), scanRecords)
	assert.Less(t, at.order, uint64(1<<31), "most are left")
	found, at = sh.scan(place{}, scanRecords, now.Add(2*time.Hour).UnixMilli())
	assert.Empty(t, found, "all have expired")
	assert.Less(t, at.order, uint64(1<<31), "and most are left")
}
