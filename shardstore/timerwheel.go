package shardstore

import (
	"math"
	"math/bits"
)

// timerWheel holds slots in the order in which they end, in buckets of time, so that the janitor visits what has ended and not
// what lives. Time is read as digits of six bits: a slot that ends at x stands at the level of the highest digit in which
// x differs from the wheel's own time, in the bucket of x's digit there. So the buckets of level 0 are a millisecond
// wide, those of level 1 64 ms, those of level 6 two years. When the wheel's time enters a bucket above level 0, the slots
// in it move down, which happens to a session two or three times in its life. Its invariants:
//   - a bucket is a list, linked through the slots, each of which names its bucket; taken has a bit for each bucket that is
//     not empty;
//   - no slot stands in a bucket that begins after the slot ends. The bucket may be an earlier one: a renewed session stays
//     where it is until the janitor comes by, because most sessions are renewed many times;
//   - every slot that stood before the wheel's time has been fetched.
//
// A wall clock may be wrong for a moment and then be corrected. If the wheel's time only went forward, a clock that was four
// years ahead once would keep the wheel from handing out anything for four years. So the wheel follows a clock that goes
// back: all its lists become stale then, and due hands out their slots first, so that each is added anew.
type timerWheel struct {
	slots *slabs
	at    int64 // the wheel's time in Unix milliseconds
	taken [levels]uint64
	first [levels << digitBits]ref
	stale []ref  // the first slots of the buckets from before the clock went back; nil once all are added anew
	epoch bucket // epochBit or 0; changes when the clock goes back
}

const (
	digitBits = 6
	digitMask = 1<<digitBits - 1
	levels    = 11 // enough digits for every int64

	// maxBehind is how many milliseconds the clock may be behind the wheel without the wheel following. The callers of a store
	// read their clocks at different moments of their requests, and a slow one must not make the wheel begin anew. Until
	// the clock has caught up, what has ended takes up memory and does nothing else.
	maxBehind = 10_000
)

// bucket is level times 64 plus digit, and the wheel's epoch in the bit epochBit.
type bucket uint16

const epochBit bucket = 1 << 15

func (b bucket) index() int { return int(b &^ epochBit) }

func digit(ms int64, level int) int { return int(ms>>(level*digitBits)) & digitMask }

func indexAt(level int, ms int64) int { return level<<digitBits | digit(ms, level) }

// indexFor returns the bucket of what ends at x: what has ended belongs in the bucket that is due now.
func (w *timerWheel) indexFor(x int64) int {
	if x <= w.at {
		return indexAt(0, w.at)
	}
	return indexAt((bits.Len64(uint64(x^w.at))-1)/digitBits, x)
}

// add puts a slot that stands in no bucket into that of its end.
func (w *timerWheel) add(n ref) {
	s := w.slots.at(n)
	i := w.indexFor(s.ends())
	head := w.first[i]
	s.setRef(offNext, head)
	s.setRef(offPrev, 0)
	s.setBucket(bucket(i) | w.epoch)
	if head != 0 {
		w.slots.at(head).setRef(offPrev, n)
	}
	w.first[i] = n
	w.taken[i>>digitBits] |= 1 << (i & digitMask)
}

// remove takes a slot out of its bucket.
func (w *timerWheel) remove(n ref) {
	s := w.slots.at(n)
	w.link(s.bucket(), s.ref(offPrev), s.ref(offNext))
}

// link makes two slots of a bucket neighbours. With 0 in the place of one, the other is the bucket's first or last.
func (w *timerWheel) link(b bucket, prev, next ref) {
	if next != 0 {
		w.slots.at(next).setRef(offPrev, prev)
	}
	switch {
	case prev != 0:
		w.slots.at(prev).setRef(offNext, next)
	case b&epochBit != w.epoch:
		w.stale[b.index()] = next
	default:
		w.first[b.index()] = next
		if next == 0 {
			w.taken[b.index()>>digitBits] &^= 1 << (b & digitMask)
		}
	}
}

// renumber tells the neighbours of a slot that has moved that its number is n now.
func (w *timerWheel) renumber(n ref) {
	s := w.slots.at(n)
	prev, next := s.ref(offPrev), s.ref(offNext)
	w.link(s.bucket(), prev, n)
	if next != 0 {
		w.slots.at(next).setRef(offPrev, n)
	}
}

// due turns the wheel to now and returns a slot that the caller must remove from it, and add again if the slot has not
// ended. 0 is none.
func (w *timerWheel) due(now int64) ref {
	if n := w.firstStale(); n != 0 {
		return n
	}
	if now < w.at-maxBehind {
		w.goBack(now)
		if n := w.firstStale(); n != 0 {
			return n
		}
	}
	for w.at <= now {
		for level := levels - 1; level >= 0; level-- {
			if n := w.first[indexAt(level, w.at)]; n != 0 {
				return n
			}
		}
		if w.at == now {
			break
		}
		w.at = min(w.next(), now)
	}
	return 0
}

// goBack sets the wheel to an earlier time and makes all its lists stale. The caller has seen that none is stale yet.
func (w *timerWheel) goBack(now int64) {
	w.stale = append([]ref(nil), w.first[:]...)
	clear(w.first[:])
	clear(w.taken[:])
	w.epoch ^= epochBit
	w.at = now
}

// firstStale returns a slot of a stale list; 0 is none.
func (w *timerWheel) firstStale() ref {
	for last := len(w.stale) - 1; last >= 0; last-- {
		if n := w.stale[last]; n != 0 {
			return n
		}
		w.stale = w.stale[:last]
	}
	w.stale = nil
	return 0
}

// next returns the time at which the next bucket begins that is not empty. All buckets of a level begin before those of the
// level above.
func (w *timerWheel) next() int64 {
	for level := range levels {
		d := digit(w.at, level)
		if later := w.taken[level] & (math.MaxUint64 << (d + 1)); later != 0 {
			shift := level * digitBits
			whole := w.at >> (shift + digitBits) << (shift + digitBits)
			return whole | int64(bits.TrailingZeros64(later))<<shift
		}
	}
	return math.MaxInt64
}
