package shardstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Scan goes from shard to shard, and within a shard by the keys' hashes, in ascending order of the hash with its bits
// reversed. That order stands still while the table grows and shrinks: the keys of one cell are neighbours in it, whatever
// the table's size. So a session that lives during the whole scan is shown, however often it is changed, and however often
// the store moves it to another slot.

const (
	// scanCells is how many cells of a table a Scan visits, and scanRecords how many records it copies, while it holds the lock.
	scanCells   = 256
	scanRecords = 256
)

// place is where a scan goes on.
type place struct {
	shard uint64
	order uint64 // of the first hash that has not been visited; beyond 32 bits when the shard is done
	skip  uint64 // how many keys of exactly that hash have been visited, by the order of keys
}

// scanned is an entry of a table.
type scanned struct {
	order uint32
	n     ref
}

// Scan implements coatcheck.Store. It shows each session that lives during the whole scan once, changed or not. A cursor is
// good until the store is closed.
func (s *Store) Scan(_ context.Context, cursor string, limit int, now time.Time, yield func(*coatcheck.Record)) (string, error) {
	if err := s.checkOpen(); err != nil {
		return "", err
	}
	at, err := s.parseCursor(cursor)
	if err != nil {
		return "", err
	}
	found, next := s.shards[at.shard].scan(at, min(limit, scanRecords), now.UnixMilli())
	var rec coatcheck.Record
	for _, c := range found {
		if rec.Read(c.key, c.bytes) == nil { // Load reports a damaged record, and removes it
			yield(&rec)
		}
	}
	if next.order > math.MaxUint32 {
		next = place{shard: at.shard + 1}
	}
	if next.shard == uint64(len(s.shards)) {
		return "", nil
	}
	return s.cursor(next), nil
}

// cursor is a place as text. It names the store, because the hashes are those of this store alone.
func (s *Store) cursor(p place) string {
	return fmt.Sprintf("m%x.%x.%x.%x", s.name, p.shard, p.order, p.skip)
}

func (s *Store) parseCursor(cursor string) (p place, err error) {
	if cursor == "" {
		return place{}, nil
	}
	var name uint64
	_, err = fmt.Sscanf(cursor, "m%x.%x.%x.%x", &name, &p.shard, &p.order, &p.skip)
	if err != nil || name != s.name || p.shard >= uint64(len(s.shards)) || p.order > math.MaxUint32 || s.cursor(p) != cursor {
		return place{}, coatcheck.ErrCursor
	}
	return p, nil
}

// scan copies up to limit sessions, from a place on, and returns where to go on. It takes the lock itself.
func (sh *shard) scan(at place, limit int, now int64) (found []storedRecord, next place) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for range scanCells {
		entries, end := sh.keys.cellAt(uint32(at.order))
		slices.SortFunc(entries, func(a, b scanned) int {
			return cmp.Or(cmp.Compare(a.order, b.order), bytes.Compare(sh.at(a.n)[:keyBytes], sh.at(b.n)[:keyBytes]))
		})
		for i, e := range entries {
			nth := uint64(0) // of the keys with this hash
			for nth < uint64(i) && entries[uint64(i)-nth-1].order == e.order {
				nth++
			}
			order := uint64(e.order)
			if order < at.order || order == at.order && nth < at.skip {
				continue
			}
			if s := sh.at(e.n); s.is(session) && now < s.ends() {
				if len(found) == limit {
					return found, place{at.shard, order, nth}
				}
				found = append(found, storedRecord{s.key(), bytes.Clone(s.payload())})
			}
		}
		at = place{at.shard, end, 0}
		if end > math.MaxUint32 {
			break
		}
	}
	return found, at
}

// cellAt returns the entries whose hash belongs to the cell in which a place stands, in any order, and the first place behind
// that cell. While the table is being resized, it is a cell of the larger half.
func (t *hashTable) cellAt(order uint32) (entries []scanned, end uint64) {
	size := max(len(t.cells), len(t.old))
	if size == 0 {
		return nil, math.MaxUint32 + 1
	}
	mask := uint32(size - 1)
	home := bits.Reverse32(order) & mask
	for _, cells := range [...][]uint64{t.cells, t.old} {
		own := uint32(len(cells) - 1)
		for i := home & own; len(cells) > 0 && cells[i] != 0; i = (i + 1) & own {
			if hash := uint32(cells[i] >> 32); ref(cells[i]) != 0 && hash&mask == home {
				entries = append(entries, scanned{bits.Reverse32(hash), ref(cells[i])})
			}
		}
	}
	width := uint64(1) << (32 - bits.Len32(mask)) // of a cell, in that order
	return entries, (uint64(order)/width + 1) * width
}
