package shardstore

// hashTable finds slots by a 32-bit hash: open addressing with linear probing, where half of each cell is a hash and half a
// slot number. The hashed bytes stand in the slot, so the caller says whether a slot is the one it looks for. Its
// invariants:
//   - cells is a power of two long and at most four fifths full, so every probe ends at an empty cell;
//   - an entry of hash h stands in the run of taken cells that begins at or before h modulo the length;
//   - while it is being resized, an entry stands in cells or in old; those of old[:moved] have moved.
//
// A map[Key]uint32 would serve as well, and its look-up costs the same. Measured with ten million sessions in 256 shards
// (BenchmarkTable): a map takes 40 bytes a session, this table 13, because the key stands in the slot anyway; and a map
// that grows makes its shard wait, while this table moves 32 cells with each change.
type hashTable struct {
	cells []uint64
	old   []uint64 // nil: no resize is under way
	moved int
	count int
}

const (
	minCells  = 8
	movedEach = 32 // cells per change: enough to finish before the new cells are full, whether the table grows or shrinks

	// gone stands in old in the place of an entry that was removed or moved, because the run of another entry may lead over it.
	// Its slot number is 0, which is none.
	gone uint64 = 1 << 32
)

func cell(hash uint32, n ref) uint64 { return uint64(hash)<<32 | uint64(n) }

// find returns the slot of that hash for which the function is returns true; 0 is none.
func (t *hashTable) find(hash uint32, is func(ref) bool) ref {
	if n := probe(t.cells, hash, is); n != 0 || t.old == nil {
		return n
	}
	return probe(t.old, hash, is)
}

func probe(cells []uint64, hash uint32, is func(ref) bool) ref {
	mask := uint32(len(cells) - 1)
	if len(cells) == 0 {
		return 0
	}
	for i := hash & mask; ; i = (i + 1) & mask {
		c := cells[i]
		if c == 0 {
			return 0
		}
		if uint32(c>>32) == hash && ref(c) != 0 && is(ref(c)) {
			return ref(c)
		}
	}
}

// add adds an entry, which must not be there yet.
func (t *hashTable) add(hash uint32, n ref) {
	t.step()
	if 5*(t.count+1) > 4*len(t.cells) {
		t.resize(max(minCells, 2*len(t.cells)))
	}
	t.count++
	put(t.cells, cell(hash, n))
}

func put(cells []uint64, c uint64) {
	mask := uint32(len(cells) - 1)
	i := uint32(c>>32) & mask
	for cells[i] != 0 {
		i = (i + 1) & mask
	}
	cells[i] = c
}

// place returns the cell that holds exactly this entry, which must be there.
func (t *hashTable) place(hash uint32, n ref) (cells []uint64, i uint32) {
	for _, cells := range [...][]uint64{t.cells, t.old} {
		mask := uint32(len(cells) - 1)
		for i := hash & mask; len(cells) > 0 && cells[i] != 0; i = (i + 1) & mask {
			if cells[i] == cell(hash, n) {
				return cells, i
			}
		}
	}
	panic("shardstore: a slot that is not in its table")
}

// set makes an entry lead to another slot.
func (t *hashTable) set(hash uint32, was, n ref) {
	cells, i := t.place(hash, was)
	cells[i] = cell(hash, n)
}

// remove takes out an entry, which must be there.
func (t *hashTable) remove(hash uint32, n ref) {
	t.step()
	cells, i := t.place(hash, n)
	t.count--
	if t.old != nil && &cells[0] == &t.old[0] {
		cells[i] = gone
	} else {
		closeGap(cells, i)
	}
	if t.old == nil && len(t.cells) > minCells && 8*t.count < len(t.cells) {
		t.resize(len(t.cells) / 2)
	}
}

// shrink makes a table smaller that uses less than a third of its cells, and continues a resize that rests because the table
// is not being changed. It moves a few hundred cells, and reports whether there may be more.
func (t *hashTable) shrink() (more bool) {
	if t.old == nil {
		if len(t.cells) <= minCells || 3*t.count >= len(t.cells) {
			return false
		}
		t.resize(len(t.cells) / 2)
	}
	for range 8 {
		t.step()
	}
	return true
}

// closeGap moves entries behind the empty cell i into it where their hash allows, so that no run is broken.
func closeGap(cells []uint64, i uint32) {
	mask := uint32(len(cells) - 1)
	for j := (i + 1) & mask; cells[j] != 0; j = (j + 1) & mask {
		if home := uint32(cells[j]>>32) & mask; (j-home)&mask >= (j-i)&mask {
			cells[i] = cells[j]
			i = j
		}
	}
	cells[i] = 0
}

func (t *hashTable) resize(size int) {
	for t.old != nil {
		t.step()
	}
	if t.count > 0 {
		t.old, t.moved = t.cells, 0
	}
	t.cells = make([]uint64, size)
}

// step moves a few cells on if the table is being resized.
func (t *hashTable) step() {
	if t.old == nil {
		return
	}
	upTo := min(t.moved+movedEach, len(t.old))
	for i := t.moved; i < upTo; i++ {
		if c := t.old[i]; c != 0 {
			t.old[i] = gone
			if ref(c) != 0 {
				put(t.cells, c)
			}
		}
	}
	if t.moved = upTo; upTo == len(t.old) {
		t.old = nil
	}
}
